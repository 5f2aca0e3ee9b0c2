"""Caffe's files: the schema, reading and writing them, and the reference graphs.

Importing this loads no protobuf; ``schema``, ``text``, ``files`` and ``solver`` do.
"""

from reid.caffe.references import reference

__all__ = ["reference"]
