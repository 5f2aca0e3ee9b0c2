"""How fast a model file is here: latency, throughput, power, pairs."""
