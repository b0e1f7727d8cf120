"""Pictures of simulations. No GL library is loaded before the first frame is asked for."""
