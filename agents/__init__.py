"""Learning agents for `ksim_envs`, and the `ksim` command. The PPO agent comes with its own issue."""
