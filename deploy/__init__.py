"""From exported file to answers at the camera, on machines that have no torch.

Imports ``reid`` and never ``reid.export``; the two meet through a model file and its manifest.
"""
