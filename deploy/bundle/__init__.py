"""Files for other servers, DeepStream and Triton, written from the manifest.

A bundle is a folder: the model with its manifest, the server's configuration, and golden crops
with their expected outputs for ``reid doctor``.
"""
