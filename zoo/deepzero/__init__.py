"""DeepZero: zeroth-order training of neural networks."""
