"""The gate closes on every fault, and says which; nothing unchecked passes for checked."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from reid.errors import DataError, ModelFileError, ParityError
from reid.export.parity.answers import VectorSubject
from reid.export.parity.comparison import ParityReport, compare, record, require
from reid.export.parity.report import Hashes
from reid.export.parity.tolerances import TOLERANCES
from reid.model_file.manifest import Manifest, manifest_path, read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import Runner
from reid.runtime.onnx_runner import OnnxRunner
from reid.types import EvalReport, Protocol

PREPROCESS = Preprocess()


class LinearRunner:
    """A stand-in for a network: a fixed projection of 9x7 block means, of length one."""

    def __init__(self, fault=None, **changes):
        preprocess = dataclasses.replace(PREPROCESS, **changes)
        self.manifest = Manifest("msp_cnn", "embed", preprocess, output_dim=32)
        self.backend = "linear"
        self.fault = fault

    def run(self, inputs):
        data = inputs["data"]
        blocks = data.reshape(len(data), 3, 9, 16, 7, 8).mean(axis=(3, 5)).reshape(len(data), -1)
        weights = np.random.default_rng(0).normal(size=(blocks.shape[1], 32))
        rows = (blocks + 20) @ weights
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        if self.fault is not None:
            self.fault(rows)
        return {"embedding": rows}

    def close(self) -> None: ...


def compared_with(fault, crops, **options) -> ParityReport:
    subjects = VectorSubject(LinearRunner()), VectorSubject(LinearRunner(fault))
    return compare(*subjects, crops, **options)


@pytest.fixture
def candidate(exported, tmp_path) -> Path:
    """A copy of the FP32 file and its manifest that a test may spoil."""
    path = tmp_path / "candidate.onnx"
    shutil.copy(exported.files["fp32"], path)
    shutil.copy(manifest_path(exported.files["fp32"]), manifest_path(path))
    return path


@pytest.fixture(scope="module")
def reference(exported, crops) -> Runner:
    """The network's answers, computed once: what the spoiled candidates are held against."""
    runner = exported.reference()
    run, seen = runner.run, {}

    def remembered(inputs):
        key = inputs["data"].tobytes()
        if key not in seen:
            seen[key] = run(inputs)
        return seen[key]

    runner.run = remembered
    return runner


def against(reference: Runner, path: Path, crops, **options) -> ParityReport:
    with OnnxRunner(path, device="cpu") as runner:
        return compare(VectorSubject(reference), VectorSubject(runner), crops, **options)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exported_files_pass_their_own_tolerances(exported, reference, crops, precision):
    report = against(reference, exported.files[precision], crops, batch_sizes=(1, 3, 16))
    assert report.passed, report.text()
    assert report.precision == precision
    require(report)


def test_fp16_file_does_not_pass_for_fp32(exported, reference, crops):
    limits = TOLERANCES["fp32"]
    report = against(reference, exported.files["fp16"], crops, tolerances=limits, batch_sizes=(16,))
    assert not report.passed


def test_one_corrupt_weight_fails(reference, candidate, crops):
    model = onnx.load(candidate)
    (weight,) = [w for w in model.graph.initializer if w.name == "conv2.conv.weight"]
    values = numpy_helper.to_array(weight).copy()
    values[3, 5, 1, 1] += 0.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, candidate)
    write_manifest(candidate, read_manifest(candidate, check_hash=False))
    report = against(reference, candidate, crops, batch_sizes=(16,))
    assert any(line.startswith("max_error") for line in report.failures)


@pytest.mark.parametrize(
    "mistake",
    [
        {"channel_order": "RGB"},
        {"mean": (104.0, 104.0, 103.0)},
        {"std": (1.02, 1.0, 1.0)},
        {"interpolation": "area"},
    ],
    ids=["channels swapped", "another mean", "another scale", "another resize"],
)
def test_candidate_whose_manifest_prepares_images_otherwise_fails(
    reference, candidate, crops, mistake
):
    manifest = read_manifest(candidate)
    wrong = dataclasses.replace(manifest.preprocess, **mistake)
    write_manifest(candidate, dataclasses.replace(manifest, preprocess=wrong))
    # The drawn crops must need resizing for the resize rule to matter.
    crops = [np.ascontiguousarray(crop[4:-4, 2:-2]) for crop in crops]
    report = against(reference, candidate, crops, batch_sizes=(16,))
    assert any(line.startswith("max_error") for line in report.failures)
    with pytest.raises(ParityError) as caught:
        require(report)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_equal_runners_differ_by_nothing(crops):
    report = compared_with(None, crops)
    assert report.passed
    assert report.found("max_error") == 0
    assert report.found("lowest_row_cosine") == pytest.approx(1, abs=1e-12)
    assert report.found("top1_agreement") == report.found("top5_agreement") == 1


def test_errors_and_cosine_are_those_of_a_plain_loop(crops):
    def shifted(rows):
        rows += np.linspace(0, 0.01, rows.size).reshape(rows.shape)

    report = compared_with(shifted, crops, batch_sizes=(16,))
    a, b = LinearRunner(), LinearRunner(shifted)
    data = {"data": PREPROCESS.batch(crops)}
    x, y = a.run(data)["embedding"], b.run(data)["embedding"]
    errors = sorted(abs(float(p) - float(q)) for p, q in zip(x.flat, y.flat, strict=True))
    cosines = [
        sum(float(p) * float(q) for p, q in zip(r, s, strict=True))
        / (sum(float(p) ** 2 for p in r) * sum(float(q) ** 2 for q in s)) ** 0.5
        for r, s in zip(x, y, strict=True)
    ]
    assert report.found("max_error") == pytest.approx(errors[-1])
    assert report.found("mean_error") == pytest.approx(sum(errors) / len(errors))
    assert report.found("median_error") == pytest.approx((errors[255] + errors[256]) / 2)
    assert errors[-7] <= report.found("p99_error") <= errors[-5]
    assert report.found("lowest_row_cosine") == pytest.approx(min(cosines))


def test_one_wholly_wrong_row_among_many_shows_in_the_lowest_cosine(crops):
    def last_row_reversed(rows):
        if len(rows) == 16:
            rows[-1] = -rows[-1]

    report = compared_with(last_row_reversed, crops, batch_sizes=(16,))
    assert report.found("lowest_row_cosine") == pytest.approx(-1)
    assert any(line.startswith("lowest_row_cosine -1, allowed >=") for line in report.failures)


def test_rows_that_depend_on_the_batch_fail(crops):
    def wrong_above_one(rows):
        rows[1:] = rows[1:][::-1].copy() if len(rows) == 3 else rows[1:]

    report = compared_with(wrong_above_one, crops, batch_sizes=(1, 3, 16))
    assert [line.split()[0] for line in report.failures] == ["batch_error"]
    assert compared_with(wrong_above_one, crops, batch_sizes=(1, 16)).passed


def test_neighbours_in_another_order_fail(crops):
    def shuffled(rows):
        rows[:] = rows[np.random.default_rng(1).permutation(len(rows))]

    report = compared_with(shuffled, crops, batch_sizes=(16,))
    assert report.found("top1_agreement") < 0.9
    assert any(line.startswith("top1_agreement") for line in report.failures)


def test_twins_may_change_places(crops):
    twins = [*crops[:8], *crops[:8], *crops[:8]]

    def hardly(rows):
        rows += np.random.default_rng(3).normal(scale=1e-7, size=rows.shape).astype(np.float32)

    report = compared_with(hardly, twins, batch_sizes=(24,))
    assert report.found("top1_agreement") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_not_finite_fails(crops, value):
    def spoil(rows):
        if len(rows) == 16:
            rows[9, 2] = value

    report = compared_with(spoil, crops, batch_sizes=(16,))
    assert not report.passed
    assert "1 of 16 rows of the candidate are not finite (first: crop 9)" in report.failures
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["passed"] is False


def test_candidate_that_ignores_its_input_fails(crops):
    def constant(rows):
        rows[:] = rows[0]

    assert not compared_with(constant, crops, batch_sizes=(16,)).passed


def evaluation(rank1: float, mean_ap: float, num_query: int = 1000) -> EvalReport:
    cmc = {1: rank1, 5: 1.0}
    return EvalReport(
        "m", "drawn", Protocol("market"), num_query, 2000, 0, cmc, mean_ap, mean_ap, 0.5
    )


def test_change_of_rank1_and_map_is_judged_when_evaluations_are_given(crops):
    pair = (evaluation(0.80, 0.70), evaluation(0.78, 0.70))
    report = compared_with(None, crops, evaluations=pair)
    assert report.found("rank1_change") == pytest.approx(0.02)
    assert [line.split()[0] for line in report.failures] == ["rank1_change"]
    assert compared_with(None, crops, evaluations=(pair[0], pair[0])).passed


def test_small_query_set_may_change_by_one_query_and_no_more(crops):
    one = (evaluation(0.80, 0.70, num_query=20), evaluation(0.75, 0.68, num_query=20))
    assert compared_with(None, crops, evaluations=one).passed
    two = (evaluation(0.80, 0.70, num_query=20), evaluation(0.70, 0.68, num_query=20))
    assert not compared_with(None, crops, evaluations=two).passed


def test_not_checked_is_never_ok(crops):
    report = compared_with(None, crops)
    status = {check.measure: check.status for check in report.checks}
    assert status["rank1_change"] == status["map_change"] == "not checked"
    (line,) = [line for line in report.text().splitlines() if line.startswith("map_change")]
    assert line.endswith("not checked")
    assert report.to_json()["checks"]["map_change"]["found"] is None


def test_too_few_crops_are_refused(crops):
    with pytest.raises(DataError, match="16 crops, found 15"):
        compared_with(None, crops[:15])


def test_runners_with_other_outputs_are_refused(crops):
    other = LinearRunner()
    other.manifest = dataclasses.replace(other.manifest, output_dim=64)
    with pytest.raises(ParityError, match="not comparable"):
        compare(VectorSubject(LinearRunner()), VectorSubject(other), crops)


def test_precision_without_tolerances_is_refused(crops):
    other = LinearRunner()
    other.manifest = dataclasses.replace(other.manifest, precision="int4")
    with pytest.raises(ParityError, match="no tolerances for precision 'int4'"):
        compare(VectorSubject(LinearRunner()), VectorSubject(other), crops)


def test_report_is_kept_in_the_manifest_beside_the_file(candidate, crops):
    assert read_manifest(candidate).parity == {}
    report = compared_with(None, crops)
    record(report, candidate)
    assert read_manifest(candidate).parity == report.to_json()
    with OnnxRunner(candidate, device="cpu") as runner:
        assert runner.manifest.parity["passed"] is True


def test_a_verdict_of_another_file_of_the_name_is_not_kept(candidate, crops):
    report = compared_with(None, crops)
    other = Hashes({}, {candidate.name: "ab" * 32})
    with pytest.raises(ModelFileError, match="written again"):
        record(dataclasses.replace(report, hashes=other), candidate)
