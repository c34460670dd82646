"""AutoNumerics-Zero: evolution of programs that compute mathematical functions."""
