"""Private-GSD: differentially private synthetic tables by a genetic algorithm."""
