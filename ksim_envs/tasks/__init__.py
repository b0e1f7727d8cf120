"""Tasks and the terms they are made of."""
