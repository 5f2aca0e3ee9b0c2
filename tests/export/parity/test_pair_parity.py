"""The same gate for networks of pairs: it closes on faults of either half and of the pair graph."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from reid.cli import main
from reid.data import load_split
from reid.errors import ParityError
from reid.export.parity.answers import (
    Answers,
    PairGraphSubject,
    PairSubject,
    VectorSubject,
    subject_of,
)
from reid.export.parity.comparison import ParityReport, compare
from reid.export.parity.tolerances import PAIR_TOLERANCES
from reid.matching import PairMatcher
from reid.model_file.manifest import read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner, open_runners
from reid.runtime.onnx_runner import OnnxRunner
from reid.training.checkpoint import runners_from_checkpoint
from reid.types import FloatArray, Image
from tests.export.conftest import pair_run_of

Capture = pytest.CaptureFixture[str]
BATCH = {"batch_sizes": (16,)}


class Remembered(PairSubject):
    """The reference, whose answers many tests ask for."""

    def __init__(self, *runners: Any) -> None:
        super().__init__(*runners)
        self.seen: dict[Any, Answers] = {}

    def answers(self, crops: Any, queries: Any, batch_size: int) -> Answers:
        key = (*(crop.tobytes() for crop in crops), queries.tobytes(), batch_size)
        if key not in self.seen:
            self.seen[key] = super().answers(crops, queries, batch_size)
        return self.seen[key]


@pytest.fixture(scope="module")
def reference(pair_run: Any) -> PairSubject:
    runners = runners_from_checkpoint(pair_run.run / "checkpoint.pt", "cpu", 1)
    return Remembered(runners["describe"], runners["compare"])


def verdict(reference: PairSubject, file: Path, crops: list[Image], **options: Any) -> ParityReport:
    runners = open_runners(file, "cpu")
    try:
        return compare(reference, subject_of(runners, runners), crops, **options)
    finally:
        for runner in runners.values():
            runner.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", ["describe", "pair"])
def test_exported_graphs_pass_their_own_tolerances(
    pair_run: Any, reference: PairSubject, crops: list[Image], graph: str, precision: str
) -> None:
    report = verdict(reference, pair_run.file(graph, precision), crops)
    assert report.passed, report.text()
    status = {check.measure: check.status for check in report.checks}
    assert status.pop("rank1_change") == status.pop("map_change") == "not checked"
    if graph == "pair":  # it keeps no descriptions
        assert status.pop("lowest_row_cosine") == "not checked"
    else:
        assert status["stored_error"] == "ok"
        assert 0 < report.found("stored_error") < 1e-3
    assert set(status.values()) == {"ok"}


@pytest.mark.parametrize(
    ("levels", "precision", "also"), [((2, 3), "fp32", ("pair",)), ((2, 3, 4), "fp16", ())]
)
def test_graphs_of_the_papers_networks_and_size_pass_too(
    levels: tuple[int, ...],
    precision: str,
    also: tuple[str, ...],
    crops: list[Image],
    tmp_path: Path,
) -> None:
    size = Preprocess(160, 60, 160, 60, std=(58.0, 57.0, 58.0))
    run = pair_run_of(tmp_path, levels, size, (precision,), also)
    runners = runners_from_checkpoint(run.run / "checkpoint.pt", "cpu", 1)
    reference = Remembered(runners["describe"], runners["compare"])
    for graph in ("describe", *also):
        report = verdict(reference, run.file(graph, precision), crops, **BATCH)
        assert report.passed, report.text()


def test_fp16_graphs_do_not_pass_for_fp32(
    pair_run: Any, reference: PairSubject, crops: list[Image]
) -> None:
    limits = PAIR_TOLERANCES["fp32"]
    for graph in ("describe", "pair"):
        file = pair_run.file(graph, "fp16")
        assert not verdict(reference, file, crops, tolerances=limits, **BATCH).passed


def test_values_are_the_scores_squashed_and_a_crop_is_not_its_own_neighbour(
    reference: PairSubject, crops: list[Image]
) -> None:
    queries = np.array([3, 9])
    found = reference.answers(crops, queries, 4)
    matcher = PairMatcher(*reference.runners, half=False)
    described = matcher.describe(crops)
    for column, query in enumerate(queries):
        for crop in range(len(crops)):
            score = matcher.scores(described.row(int(query)), described.row(crop))[0]
            expected = 0 if crop == query else score / (1 + score)
            assert found.values[crop, column] == pytest.approx(expected, abs=1e-6)
            distance = np.inf if crop == query else 1 - expected
            assert found.distances[column, crop] == pytest.approx(distance, abs=1e-6)


def test_descriptions_kept_as_float16_that_move_a_score_fail(
    reference: PairSubject, crops: list[Image]
) -> None:
    strict = dataclasses.replace(PAIR_TOLERANCES["fp32"], stored_error=1e-6)
    report = compare(reference, reference, crops, tolerances=strict, **BATCH)
    assert [line.split()[0] for line in report.failures] == ["stored_error"]


def changed(name: str, change: Callable[[FloatArray], Any]) -> Callable[[Path], None]:
    """Rewrites one weight of a file; its manifest is of the new one."""

    def spoil(file: Path) -> None:
        model = onnx.load(file)
        (weight,) = [w for w in model.graph.initializer if w.name == name]
        values = numpy_helper.to_array(weight).copy()
        change(values)
        weight.CopyFrom(numpy_helper.from_array(values, name))
        onnx.save(model, file)
        write_manifest(file, read_manifest(file, check_hash=False))

    return spoil


def one_filter_turned_round(values: FloatArray) -> None:
    values[3] *= -1


def query_and_gallery_exchanged(values: FloatArray) -> None:
    values[:] = np.roll(values, values.shape[1] // 2, axis=1)


def stripes_exchanged(values: FloatArray) -> None:
    values[:] = np.roll(values, 96, axis=1)


CONV4 = "conv4.conv.weight"
FAULTS = {
    "a filter of compare": ("compare", changed(CONV4, one_filter_turned_round)),
    "query and gallery exchanged": ("compare", changed(CONV4, query_and_gallery_exchanged)),
    "stripes exchanged": ("compare", changed(CONV4, stripes_exchanged)),
    "a filter of describe": ("describe", changed("conv2.conv.weight", one_filter_turned_round)),
    "a filter of pair": ("pair", changed(CONV4, one_filter_turned_round)),
}


@pytest.mark.parametrize(("graph", "spoil"), FAULTS.values(), ids=FAULTS)
def test_a_spoilt_weight_fails(
    graph: str,
    spoil: Callable[[Path], None],
    pair_run: Any,
    reference: PairSubject,
    crops: list[Image],
    tmp_path: Path,
) -> None:
    graphs = ("pair",) if graph == "pair" else (graph, "describe", "compare")
    file = pair_run.copied_to(tmp_path, *graphs)
    spoil(file)
    report = verdict(reference, file, crops, **BATCH)
    assert any(line.startswith("max_error") for line in report.failures)


@pytest.mark.parametrize("graph", ["describe", "pair"])
@pytest.mark.parametrize("mistake", [{"channel_order": "RGB"}, {"mean": (102.0, 102.0, 103.0)}])
def test_a_manifest_that_prepares_images_otherwise_fails(
    graph: str,
    mistake: dict[str, Any],
    pair_run: Any,
    reference: PairSubject,
    crops: list[Image],
    tmp_path: Path,
) -> None:
    graphs = ("pair",) if graph == "pair" else ("describe", "compare")
    file = pair_run.copied_to(tmp_path, *graphs, precision="fp16")
    manifest = read_manifest(file)
    wrong = dataclasses.replace(manifest.preprocess, **mistake)
    write_manifest(file, dataclasses.replace(manifest, preprocess=wrong))
    assert not verdict(reference, file, crops, **BATCH).passed


class Spoilt(Runner):
    """A runner whose outputs are changed on their way."""

    def __init__(self, runner: Any, fault: Callable[[dict[str, FloatArray]], None]) -> None:
        self.manifest, self.backend = runner.manifest, runner.backend
        self._runner, self._fault = runner, fault

    def run(self, inputs: Any) -> dict[str, FloatArray]:
        outputs: dict[str, FloatArray] = self._runner.run(inputs)
        self._fault(outputs)
        return outputs

    def close(self) -> None: ...


def spoilt(
    reference: PairSubject, graph: int, fault: Callable[[dict[str, FloatArray]], None]
) -> PairSubject:
    runners: list[Any] = list(reference.runners)
    runners[graph] = Spoilt(runners[graph], fault)
    return PairSubject(*runners)


def test_channels_of_the_parts_in_another_order_fail(
    reference: PairSubject, crops: list[Image]
) -> None:
    def rolled(outputs: dict[str, FloatArray]) -> None:
        outputs["parts3"] = np.roll(outputs["parts3"], 1, axis=2)

    report = compare(reference, spoilt(reference, 0, rolled), crops, **BATCH)
    assert {line.split()[0] for line in report.failures} >= {"max_error", "lowest_row_cosine"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_fails(
    reference: PairSubject, crops: list[Image], value: float
) -> None:
    def one(outputs: dict[str, FloatArray]) -> None:
        if len(outputs["score"]) == 16:
            outputs["score"][9] = value

    report = compare(reference, spoilt(reference, 1, one), crops, **BATCH)
    assert "1 of 16 rows of the candidate are not finite (first: crop 9)" in report.failures
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["passed"] is False


def test_a_description_that_overflows_float16_fails(
    reference: PairSubject, crops: list[Image]
) -> None:
    def large(outputs: dict[str, FloatArray]) -> None:
        outputs["maps3"][-1, 0, 0, 0] = 1e5

    report = compare(reference, spoilt(reference, 0, large), crops, **BATCH)
    assert any("stored descriptions are not finite" in line for line in report.failures)


def test_scores_that_depend_on_the_batch_fail(reference: PairSubject, crops: list[Image]) -> None:
    def in_threes(outputs: dict[str, FloatArray]) -> None:
        if len(outputs["score"]) == 3:
            outputs["score"] = outputs["score"][::-1].copy()

    report = compare(reference, spoilt(reference, 1, in_threes), crops, batch_sizes=(1, 3, 16))
    assert [line.split()[0] for line in report.failures] == ["batch_error"]


def test_twins_do_not_blow_up_the_errors(reference: PairSubject, crops: list[Image]) -> None:
    def hardly(outputs: dict[str, FloatArray]) -> None:
        outputs["vector"] += np.float32(1e-7) * (np.arange(256, dtype=np.float32) % 3)

    twins = [*crops[:8], *crops[:8]]
    report = compare(reference, spoilt(reference, 0, hardly), twins, **BATCH)
    assert report.found("max_error") < 1e-3
    assert report.found("top1_agreement") == 1


def test_vectors_and_pairs_cannot_be_compared(
    exported: Any, reference: PairSubject, crops: list[Image]
) -> None:
    with OnnxRunner(exported.files["fp32"], "cpu") as runner:
        vectors = VectorSubject(runner)
        with pytest.raises(ParityError, match="scores of pairs by csn, the candidate fc7_bn"):
            compare(reference, vectors, crops)


def test_descriptions_of_another_size_cannot_be_compared(
    reference: PairSubject, crops: list[Image]
) -> None:
    class Whole(PairSubject):
        def answers(self, crops: Any, queries: Any, batch_size: int) -> Answers:
            found = super().answers(crops, queries, batch_size)
            return dataclasses.replace(found, rows={"vector": found.values})

    with pytest.raises(ParityError, match="not comparable: the reference outputs arrays"):
        compare(reference, Whole(*reference.runners), crops, **BATCH)


def test_stages_without_a_meaning_here_are_refused() -> None:
    with pytest.raises(ParityError, match="graphs classify cannot be compared with embed"):
        subject_of({"classify": Any}, {"embed": Any})  # type: ignore[dict-item]


@pytest.mark.parametrize("named", ["describe", "compare"])
def test_reid_parity_judges_both_halves_whichever_is_named(
    named: str, pair_run: Any, people: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = {"describe": "compare", "compare": "describe"}[named]
    file = pair_run.copied_to(tmp_path, named, other, precision="fp16")
    data = ["--data", "synthetic", "--data-root", str(people), "--crops", "16"]
    assert main(["parity", str(pair_run.run), str(file), *data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["candidate"] == str(file)
    assert found["checks"]["rank1_change"]["status"] == "ok"
    for graph in (named, other):
        kept = read_manifest(tmp_path / f"csn.{graph}.fp16.onnx").parity
        assert kept["passed"] is True
        assert kept["checks"] == found["checks"]


def test_reid_parity_ranks_by_a_shortlist_where_asked(
    pair_run: Any, people: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = pair_run.copied_to(tmp_path, "describe", "compare", precision="fp16")
    data = ["--data", "synthetic", "--data-root", str(people), "--crops", "16"]
    assert main(["parity", str(pair_run.run), str(file), *data, "--shortlist", "2"]) == 0
    said = capsys.readouterr().err
    split = load_split("synthetic", people)
    assert said.count(f"{2 * len(split.query):,} pairs to compare") == 2  # by either model


def test_reid_parity_of_a_spoilt_half_is_3_and_kept_in_both(
    pair_run: Any, tmp_path: Path, capsys: Capture
) -> None:
    file = pair_run.copied_to(tmp_path, "compare", "describe")
    changed(CONV4, query_and_gallery_exchanged)(file)
    command = ["parity", str(pair_run.run), str(tmp_path / "csn.describe.fp32.onnx")]
    assert main([*command, "--crops", "16", "--json"]) == 3
    assert "differs from" in capsys.readouterr().err.splitlines()[-1]
    for stage in ("describe", "compare"):
        assert read_manifest(tmp_path / f"csn.{stage}.fp32.onnx").parity["passed"] is False


def test_reid_parity_of_a_pair_file_says_what_it_did_not_check(
    pair_run: Any, tmp_path: Path, capsys: Capture
) -> None:
    file = pair_run.copied_to(tmp_path, "pair")
    assert main(["parity", str(pair_run.run), str(file), "--crops", "16"]) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    for measure in ("lowest_row_cosine", "rank1_change", "map_change"):
        assert lines[measure].endswith("not checked")
    assert shown.splitlines()[-1] == "parity: passed"
    assert read_manifest(file).parity["passed"] is True


def test_reid_parity_without_the_other_half_is_one_line(
    pair_run: Any, tmp_path: Path, capsys: Capture
) -> None:
    file = pair_run.copied_to(tmp_path, "describe")
    assert main(["parity", str(pair_run.run), str(file), "--crops", "16"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "csn.compare.fp32.onnx" in line
    assert read_manifest(file).parity == {}


def test_a_graph_of_pairs_may_be_the_reference_too(
    pair_run: Any, reference: PairSubject, crops: list[Image]
) -> None:
    with OnnxRunner(pair_run.file("pair"), "cpu") as runner:
        report = compare(PairGraphSubject(runner), reference, crops, **BATCH)
    assert report.passed, report.text()
    assert report.found("lowest_row_cosine") is None
    assert report.figure.startswith("largest error")
