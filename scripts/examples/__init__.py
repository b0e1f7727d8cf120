"""Single-file agents in the manner of CleanRL, to be read and copied."""
