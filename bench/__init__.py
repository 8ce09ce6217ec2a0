"""Benchmarks of a durable three-node cluster on this machine. Run `make bench`."""
