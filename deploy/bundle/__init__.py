"""What other servers need of a model: DeepStream's and Triton's files, written from the manifest.

A bundle is a folder: the model with its manifest, the server's configuration, and golden crops
with the answers that they must get, for ``reid doctor``.
"""
