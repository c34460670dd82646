"""Evolution over things that are not vectors."""
