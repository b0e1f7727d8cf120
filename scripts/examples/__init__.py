"""Agents in one file, in the manner of CleanRL, to be read and copied."""
