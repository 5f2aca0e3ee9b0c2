"""The parts of training; ``reid.training.loop`` runs them in order."""
