"""Against Gymnasium's own v5 environments, and MJX against C MuJoCo."""
