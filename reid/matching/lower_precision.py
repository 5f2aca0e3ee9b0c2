"""Whether a model computed in bfloat16 still gives its answers: asked before it is used."""

from __future__ import annotations

from reid.data.synthetic.crops import synthetic_people
from reid.errors import ModelFileError
from reid.matching.vectors import unit_vectors
from reid.model_file.opening import Openable
from reid.progress import Say
from reid.runtime import Runner, open_runner
from reid.runtime.places import openvino_place

LOWEST_COSINE = 0.99
"""Of a vector in bfloat16 with the same in FP32, the worst of the synthetic people. OSNet x0.25 has
0.995 and MSP-CNN 0.99998, and both keep their mAP within 0.1 points (``tests/benchmarks``)."""


def say_lower_precision(device: str, backend: str, say: Say) -> None:
    """Say how an opened model computes, if bfloat16 was asked for."""
    place = openvino_place(device)
    if place is not None and place.bf16:
        say(backend)


def prove_lower_precision(runner: Runner, path: Openable, device: str, threads: int = 0) -> None:
    """Compare a runner that was opened with bfloat16 with the same file in FP32.

    The figure is added to ``runner.backend``. Does nothing for another device. Raises
    ModelFileError if the vectors differ too much.
    """
    place = openvino_place(device)
    if place is None or not place.bf16:
        return
    manifest = runner.manifest
    images = manifest.preprocess.batch([*synthetic_people()])
    with open_runner(path, place.in_fp32, threads) as reference:
        vectors = [
            unit_vectors(one.run({manifest.input_name: images})[manifest.output_name])
            for one in (reference, runner)
        ]
    lowest = float((vectors[0] * vectors[1]).sum(axis=1).min())
    words = f"lowest row cosine {lowest:.5f} with FP32 on {len(images)} synthetic people"
    if not lowest >= LOWEST_COSINE:  # NaN too
        raise ModelFileError(
            f"{reference.backend}: in bfloat16 the answers differ too much: {words}, expected "
            f"{LOWEST_COSINE} or more; leave --precision out"
        )
    runner.backend += f", {words}"
