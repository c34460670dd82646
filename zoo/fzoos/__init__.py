"""FZooS: federated zeroth-order optimization with trajectory-informed surrogate gradients."""
