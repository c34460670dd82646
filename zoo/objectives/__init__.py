"""Objectives: classic test functions, as compiled code and as a registry of their known facts."""
