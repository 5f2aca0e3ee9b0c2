"""The training losses: tensors and index pairs in, one scalar each out.

A batch contains every image once; ``pair_first``, ``pair_second`` (P,) int64 are indices into it
and ``pair_same`` (P,) bool marks positive pairs. Weights are applied by the caller. Each loss
is imported from its own module; importing this package loads no torch.
"""
