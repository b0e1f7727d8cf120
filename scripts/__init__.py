"""Programs that are run from a clone; see README.md."""
