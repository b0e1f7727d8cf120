"""Learning agents for `ksim_envs`, and the `ksim` command."""
