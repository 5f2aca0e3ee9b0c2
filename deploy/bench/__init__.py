"""Benchmarks of a model file on this machine: latency, throughput, power, pairs."""
