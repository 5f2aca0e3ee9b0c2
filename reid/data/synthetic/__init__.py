"""Drawn pedestrians: who they are, what a camera sees of them, and the files."""
