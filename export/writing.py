"""Writing an ONNX file with its manifest and its hash inside, and its manifest beside it."""

from __future__ import annotations

from pathlib import Path

import onnx

from reid.files import write_atomically
from reid.model_file.manifest import METADATA_KEY, Manifest, write_manifest
from reid.model_file.onnx_seal import SEALED_KEY, SEALED_VALUE, seal_of


def write_onnx(model: onnx.ModelProto, manifest: Manifest, path: Path) -> Manifest:
    """Write ``model`` to ``path``; returns the manifest with the file's hash.

    Raises OutputError; then no file is left.
    """
    del model.metadata_props[:]
    model.metadata_props.add(key=SEALED_KEY, value=SEALED_VALUE)
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    content = model.SerializeToString()
    write_atomically(path, lambda file: file.writelines((content, seal_of(content))))
    return write_manifest(path, manifest)
