"""Evolution on islands, of anything that has a cost and a score."""
