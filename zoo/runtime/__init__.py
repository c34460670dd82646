"""The population runtime: protocol, run loop, hosts, events, run folders."""
