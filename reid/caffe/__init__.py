"""Caffe's files: their schema, reading and writing them, and the reference graphs.

Importing this package does not load protobuf; its modules ``schema``, ``text``, ``files`` and
``solver`` do.
"""

from reid.caffe.references import reference

__all__ = ["reference"]
