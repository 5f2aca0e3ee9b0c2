"""Whether a graph that a backend opened is the one that its manifest describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid.errors import ManifestError, ModelFileError
from reid.model_file.manifest import Manifest, manifest_path
from reid.model_file.onnx_seal import has_intact_seal
from reid.types import ArraySpec

Shapes = Mapping[str, list[Any]]
"""Array's name -> its sizes as a graph has them: a text for a free one; empty if unknown."""


def check_arrays(inputs: Shapes, outputs: Shapes, manifest: Manifest, path: Path) -> None:
    """Check that the graph has the manifest's arrays; it may have other outputs.

    Raises ManifestError.
    """
    takes, gives = manifest.input_arrays, manifest.output_arrays
    static = manifest.static_batch
    if (
        {spec.name for spec in takes} == inputs.keys()
        and {spec.name for spec in gives} <= outputs.keys()
        and all(_fits(inputs[spec.name], spec, static) for spec in takes)
        and all(_may_give(outputs[spec.name], spec) for spec in gives)
    ):
        return
    expected = {
        spec.name: (spec.batched and not static, [*spec.shape]) for spec in (*takes, *gives)
    }
    found = {
        name: (not isinstance([*shape, 1][0], int), shape[1:])
        for name, shape in {**inputs, **outputs}.items()
    }
    raise ManifestError(
        f"{path}: the manifest describes {_listed(expected)}, the graph has "
        f"{_listed(found)}; copy the file and its .json together, or export again"
    )


def _fits(shape: list[Any], spec: ArraySpec, static_batch: int = 0) -> bool:
    """Whether a graph's array of this shape, with names for free sizes, can be ``spec``'s."""
    first, sizes = [*shape, 1][0], shape[1:]
    if not isinstance(first, int):
        batch_fits = spec.batched
    else:
        batch_fits = first == static_batch if spec.batched else True
    return (
        batch_fits
        and len(sizes) == len(spec.shape)
        and all(
            size == own or not isinstance(size, int)
            for size, own in zip(sizes, spec.shape, strict=True)
        )
    )


def _may_give(shape: list[Any], spec: ArraySpec) -> bool:
    """The same for an output, whose shape and batch a program may have written down wrongly or not
    at all: what counts there is what a run gives."""
    return not shape or _fits(["N" if spec.batched else shape[0], *shape[1:]], spec)


def _listed(shapes: Mapping[str, tuple[bool, list[int]]]) -> str:
    return " and ".join(
        f"{name} ({', '.join(map(str, ['N' if batched else 1, *dims]))})"
        for name, (batched, dims) in shapes.items()
    )


def has_seal(path: Path) -> bool:
    """As ``has_intact_seal``. Raises ModelFileError, for a file that cannot be read too."""
    try:
        return has_intact_seal(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


def not_ours(path: Path) -> ManifestError:
    """The error of a file without a manifest."""
    inside = "" if path.suffix.lower() == ".xml" else " and no manifest inside it"
    return ManifestError(
        f"{path} was not exported by this toolkit: no {manifest_path(path).name} beside "
        f"it{inside}; export it with `reid export`, or take a network of another "
        "program in with `reid import-onnx`"
    )


def first_line(error: Exception) -> str:
    """What a backend's error says first."""
    return str(error).strip().partition("\n")[0]
