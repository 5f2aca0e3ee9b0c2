"""The Python API; ``import reid`` offers its names: load, train, score and the rest."""
