"""Synthetic people: who they are, what a camera sees of them, and the files."""
