"""The Python API, under the names that ``import reid`` gives: load, train, score and the rest."""
