"""What clients do in a round, and what the server makes of it, by algorithm."""
