"""HTML pages over a run's and an evaluation's figures and pictures, self-contained."""
