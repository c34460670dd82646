"""Networks, and what changes of their parameters do to the loss."""
