"""Model files: the preprocessing contract, the manifest, and opening a file."""
