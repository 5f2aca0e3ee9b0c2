"""A gallery described into a file answers as one described now, for the same images only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import reid.evaluation.evaluating
from reid.cli import main
from reid.cli.describe import describe
from reid.cli.evaluate import evaluate
from reid.errors import DataError, ModelFileError
from reid.matching import STORED, PairMatcher, open_matcher
from reid.matching.describing import describe_split, describe_to_file
from reid.runtime import Runner
from reid.training.loop import train
from reid.types import Split
from tests.matching.conftest import CompareRunner, DescribeRunner
from tests.matching.test_vectors import ProjectionRunner
from tests.training.test_train_csn import tiny
from tests.training.test_train_sisnet import tiny as tiny_sisnet

DATA = ["--data", "synthetic", "--data-root"]


@pytest.fixture(scope="module")
def run(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("csn") / "run"
    train(tiny("stages.0.iterations=1"), people, folder)
    return folder


def described(run: Path, people: Path, side: str, out: Path, *more: str) -> dict[str, object]:
    arguments = [str(run), *DATA, str(people), "--side", side, "--out", str(out), "--json"]
    result = CliRunner().invoke(describe, [*arguments, *more])
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_files_of_query_and_gallery_give_the_figures_of_a_direct_evaluation(run, people, tmp_path):
    files = {side: tmp_path / f"{side}.safetensors" for side in ("query", "gallery")}
    counts = {side: described(run, people, side, file) for side, file in files.items()}
    assert counts["gallery"]["bytes"] == files["gallery"].stat().st_size
    options = [word for side, file in files.items() for word in (f"--{side}", str(file))]
    arguments = [str(run), *DATA, str(people), "--json"]
    direct, stored = (
        json.loads(CliRunner().invoke(evaluate, [*arguments, *more]).stdout)["models"][0]
        for more in ([], options)
    )
    for name in ("cmc", "map_step", "num_query", "num_gallery", "num_compared"):
        assert stored[name] == direct[name]


def test_a_gallery_in_float32_is_evaluated_without_an_option_and_with_queries_in_float32(
    run, people, tmp_path, monkeypatch
):
    sizes, file = [], tmp_path / "gallery.safetensors"
    for more in ([], ["--stored", "float16"], ["--stored", "float32"]):
        sizes.append(described(run, people, "gallery", file, *more)["bytes"])
    assert sizes[0] == sizes[1] < 0.6 * sizes[2]
    assert load_file(file)["vector"].dtype == np.float32
    kinds, tiles = [], PairMatcher.tiles

    def watched(matcher, query, gallery, *rest):
        kinds.extend(side.pieces[0]["vector"].dtype for side in (query, gallery))
        return tiles(matcher, query, gallery, *rest)

    monkeypatch.setattr(PairMatcher, "tiles", watched)
    arguments = [str(run), *DATA, str(people), "--json"]
    found = CliRunner().invoke(evaluate, [*arguments, "--gallery", str(file)])
    assert found.exit_code == 0, found.output
    assert kinds == [np.float32, np.float32]
    direct = CliRunner().invoke(evaluate, arguments)
    assert kinds[2:] == [np.float16, np.float16]
    rows = [json.loads(one.stdout)["models"][0] for one in (found, direct)]
    assert rows[0]["num_compared"] == rows[1]["num_compared"]
    assert rows[0]["map_step"] == pytest.approx(rows[1]["map_step"], abs=0.05)


def test_a_query_and_a_gallery_in_two_forms_are_one_line(run, people, tmp_path, capsys):
    query, gallery = tmp_path / "query.safetensors", tmp_path / "gallery.safetensors"
    described(run, people, "query", query)
    described(run, people, "gallery", gallery, "--stored", "float32")
    files = ["--query", str(query), "--gallery", str(gallery)]
    assert main(["eval", str(run), *DATA, str(people), *files]) == 1
    assert (
        f"{query} stores descriptions in another form: expected float32, found float16; describe "
        "the images again with `reid describe --stored float32`"
    ) in capsys.readouterr().err


def opened(monkeypatch: pytest.MonkeyPatch, **runners: Runner) -> None:
    """Let any model's file be these runners."""
    monkeypatch.setattr(reid.matching, "open_runners", lambda *_: runners)


def test_numbers_beyond_float16_are_refused_with_the_remedy_and_are_kept_in_float32(
    people, tmp_path, monkeypatch
):
    opened(monkeypatch, describe=DescribeRunner(scale=1e6), compare=CompareRunner())
    split, out = (
        reid.evaluation.evaluating.load_split("synthetic", people),
        tmp_path / "gallery.safetensors",
    )
    with pytest.raises(ModelFileError) as caught:
        describe_to_file(tmp_path, split.gallery, "gallery", out)
    assert "float16" in str(caught.value)
    assert str(caught.value).endswith("reid describe MODEL --side gallery --stored float32")
    assert not out.exists()
    describe_to_file(tmp_path, split.gallery, "gallery", out, stored="float32")
    assert load_file(out)["maps2"].max() > np.finfo(np.float16).max
    matcher = open_matcher(tmp_path)
    with pytest.raises(ModelFileError, match="reid describe MODEL --side query --stored float32"):
        describe_split(matcher, split)
    assert describe_split(matcher, split, gallery_file=out).query.finite().all()


def test_a_network_that_gives_no_numbers_is_not_advised_to_keep_them_otherwise(
    people, tmp_path, monkeypatch
):
    opened(monkeypatch, describe=DescribeRunner(scale=np.nan), compare=CompareRunner())
    split = reid.evaluation.evaluating.load_split("synthetic", people)
    with pytest.raises(ModelFileError, match="check its weights, or use FP32"):
        describe_to_file(tmp_path, split.query, "query", tmp_path / "query.safetensors")


def test_vectors_are_kept_the_same_in_every_form_and_an_unknown_form_is_refused(
    people, tmp_path, monkeypatch
):
    opened(monkeypatch, embed=ProjectionRunner())
    query = reid.evaluation.evaluating.load_split("synthetic", people).query
    files = [tmp_path / f"{form}.safetensors" for form in STORED]
    for file in files:
        describe_to_file(tmp_path, query, "query", file, stored=file.stem)
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(ValueError, match="one of float16, float32, found 'float8'"):
        describe_to_file(tmp_path, query, "query", files[0], stored="float8")


def test_a_file_of_other_images_is_one_line(run, people, tmp_path, capsys):
    file = tmp_path / "query.safetensors"
    described(run, people, "query", file)
    code = main(["eval", str(run), *DATA, str(people), "--gallery", str(file)])
    assert code == 1
    assert "images that are not the gallery of this data" in capsys.readouterr().err


def test_another_split_and_another_branch_are_described_when_asked_for(
    people, tmp_path, monkeypatch
):
    trained_on = {"num_test_identities": 100, "split_seed": 4}
    asked: dict[str, object] = {}
    whole = reid.evaluation.evaluating.load_split("synthetic", people)

    def load(name: str, root: Path, **options: int) -> Split:
        asked.update(options)
        return whole

    monkeypatch.setattr(reid.evaluation.evaluating, "load_split", load)
    monkeypatch.setattr(
        reid.evaluation.evaluating, "_trained_on", lambda *_: tuple(trained_on.values())
    )
    train(tiny_sisnet("stages.0.iterations=1"), people, tmp_path / "run")
    vectors = []
    for number, more in enumerate((["--stage", "second", "--split-seed", "0"], [])):
        out = tmp_path / f"{number}.safetensors"
        arguments = [str(tmp_path / "run"), *DATA, str(people), "--out", str(out), *more]
        result = CliRunner().invoke(describe, arguments)
        assert result.exit_code == 0, result.output
        chosen = {name: asked[name] for name in trained_on.keys() | {"split_seed"} & asked.keys()}
        assert chosen == trained_on | ({"split_seed": 0} if more else {})
        vectors.append(load_file(out)["vector"])
    assert vectors[0].shape == vectors[1].shape
    assert not np.allclose(*vectors)


def test_nothing_to_describe_is_one_line_and_no_file(tmp_path):
    out = tmp_path / "gallery.safetensors"
    with pytest.raises(DataError, match="the gallery is empty"):
        describe_to_file(tmp_path / "missing.onnx", (), "gallery", out)
    assert not out.exists()
