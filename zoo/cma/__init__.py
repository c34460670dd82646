"""CMA-ES with restarts."""
