"""Running exported models: galleries, cameras, benchmarks, bundles. Needs no torch.

Imports ``reid`` and never ``reid.export``: they share only the model file and its manifest.
"""
