"""Whether two model files answer alike: measures, limits, verdict."""
