"""Finds out what is wrong with a model file on this machine, with golden crops."""
