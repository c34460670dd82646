"""Consensus-based optimization: config, dynamics, consensus, kernels, shard, method."""
