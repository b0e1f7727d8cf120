"""Pictures of simulations. Nothing in here is loaded before the first frame is asked for."""
