"""Parity: measure whether two model files give the same results, and judge it by limits."""
