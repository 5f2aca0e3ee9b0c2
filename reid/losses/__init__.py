"""The training losses: tensors and index pairs in, one scalar each out.

A batch holds every image once; ``pair_first``, ``pair_second`` (P,) int64 point into it and
``pair_same`` (P,) bool says which pairs show one person. Weights belong to the caller. Each loss
is imported from its own module; importing this package loads no torch.
"""
