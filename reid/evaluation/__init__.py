"""Evaluation: all results from one pass over the distances."""
