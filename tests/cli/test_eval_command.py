"""``reid eval``'s options: what is printed, and the same as JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import reid.evaluation.evaluating
from reid.cli import main
from reid.data import load_split, read_image, write_synthetic
from reid.matching import VectorMatcher, pairs, vectors
from reid.matching.files import save_descriptions
from tests.evaluation.test_evaluating import colour_matcher

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_synthetic(folder, num_train_identities=2, num_test_identities=5)
    return folder


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two model files, both of which describe an image by its mean colour."""
    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", lambda *_: colour_matcher())
    paths = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for path in paths:
        path.touch()
    return [str(path) for path in paths]


def evaluated(
    models: list[str], drawn: Path, capsys: Capture, *options: str, data: str = "synthetic"
) -> str:
    arguments = ["eval", *models, "--data", data, "--data-root", str(drawn), *options]
    assert main(arguments) == 0
    return capsys.readouterr().out


def as_json(models: list[str], drawn: Path, capsys: Capture, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(evaluated(models, drawn, capsys, *options, "--json"))
    return found


def test_several_models_are_held_against_the_first(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    text = evaluated(models, drawn, capsys)
    assert "difference from a.onnx, in points" in text
    found = as_json(models, drawn, capsys)
    (difference,) = found["differences"]
    assert (difference["model"], difference["against"]) == (models[1], models[0])
    assert (difference["rank1"], difference["map_step"]) == (0.0, 0.0)
    assert as_json(models[:1], drawn, capsys)["differences"] == []


def test_without_a_batch_each_matcher_takes_its_own_which_the_help_tells(
    models: list[str], drawn: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def opened(
        path: Path, device: str, threads: int, batch_size: int | None, graph: str
    ) -> VectorMatcher:
        asked.append(batch_size)
        return colour_matcher()

    monkeypatch.setattr(reid.evaluation.evaluating, "open_matcher", opened)
    evaluated(models[:1], drawn, capsys)
    evaluated(models[:1], drawn, capsys, "--batch", "9")
    assert asked == [None, 9]
    assert main(["eval", "--help"]) == 0
    numbers = f"(default: {vectors.DESCRIBE_BATCH}; {pairs.DESCRIBE_BATCH} if the network compares"
    assert numbers in " ".join(capsys.readouterr().out.split())


def test_the_hash_of_each_model_is_said(models: list[str], drawn: Path, capsys: Capture) -> None:
    Path(models[1]).write_bytes(b"model")
    empty, model = (hashlib.sha256(content).hexdigest() for content in (b"", b"model"))
    found = [one["sha256"] for one in as_json(models, drawn, capsys)["models"]]
    assert found == [{models[0]: empty}, {models[1]: model}]
    assert f"sha256 {model}  {models[1]}" in evaluated(models, drawn, capsys)


def test_re_ranking_has_a_row_of_its_own_with_its_settings(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    found = as_json(models[:1], drawn, capsys, "--rerank")
    assert [one["reranking"] for one in found["models"]] == ["", "k1 20, k2 6, lambda 0.3"]
    assert len(found["differences"]) == 1
    own = as_json(models[:1], drawn, capsys, "--rerank-settings", "4", "2", "0.5")
    assert own["models"][1]["reranking"] == "k1 4, k2 2, lambda 0.5"


def test_settings_of_re_ranking_that_cannot_be_are_one_line(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    arguments = ["--data", "synthetic", "--data-root", str(drawn)]
    assert main(["eval", *models, *arguments, "--rerank-settings", "0", "6", "0.3"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("reid: error: ")
    assert all(setting in error for setting in ("k1 0", "k2 6", "lambda 0.3"))


def test_shots_choose_the_protocol(models: list[str], drawn: Path, capsys: Capture) -> None:
    for shots, name in (("1", "single_shot"), ("3", "multi_shot")):
        (found, _) = as_json(models, drawn, capsys, "--shots", shots)["models"]
        assert (found["protocol"], found["shots"], found["trials"]) == (name, int(shots), 10)
        words = " ".join(found["protocol_words"].split())
        assert words.startswith(f"{name.replace('_', '-')} (CUHK's protocol)")
        assert "no image of the query's own camera is ranked" in words
        assert words in evaluated(models, drawn, capsys, "--shots", shots)
    assert main(["eval", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "single-shot (1) or multi-shot (more) by CUHK's protocol" in shown


def test_pairs_of_cameras_are_always_in_the_json_and_printed_when_asked(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    words = "query cameras in rows, gallery cameras in columns"
    assert words not in evaluated(models, drawn, capsys)
    assert evaluated(models, drawn, capsys, "--camera-pairs").count(words) == 2
    found = as_json(models, drawn, capsys)["models"][0]
    assert {"query_camera", "gallery_camera", "num_query", "rank1", "map_step"} <= set(
        found["camera_pairs"][0]
    )
    assert set(found["tpr_at_fpr"]) == {"0.1", "0.01", "0.001", "0.0001"}


def test_figures_of_the_papers_are_refused_beside_another_test(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    text = evaluated(models[:1], drawn, capsys, "--published", data="market1501")
    why = "published results for market1501 have 750 identities, measured: 5"
    assert f"not comparable with the papers: {why}" in text
    found = as_json(models[:1], drawn, capsys, "--published")
    assert "published results for synthetic" in found["published"]["refused"]
    assert "published" not in as_json(models[:1], drawn, capsys)


def described(models: list[str], drawn: Path, folder: Path) -> dict[str, Path]:
    """Both sides as `reid describe` writes them, by the matcher of ``models``."""
    split = load_split("synthetic", drawn)
    files = {}
    for side, records in (("query", split.query), ("gallery", split.gallery)):
        matcher = colour_matcher()
        files[side] = folder / f"{side}.safetensors"
        images = [read_image(one.path) for one in records]
        save_descriptions(files[side], matcher, matcher.describe(images), records)
    return files


@pytest.mark.parametrize("names", [("query-features", "gallery-features"), ("query", "gallery")])
def test_described_sides_are_taken_by_their_option_and_by_its_old_spelling(
    names: tuple[str, str], models: list[str], drawn: Path, tmp_path: Path, capsys: Capture
) -> None:
    files = described(models, drawn, tmp_path)
    options = [f"--{names[0]}", str(files["query"]), f"--{names[1]}", str(files["gallery"])]
    found = as_json(models[:1], drawn, capsys, *options)["models"][0]
    plain = as_json(models[:1], drawn, capsys)["models"][0]
    assert (found["cmc"], found["map_step"]) == (plain["cmc"], plain["map_step"])


def test_an_option_that_was_renamed_is_no_longer_in_the_help(capsys: Capture) -> None:
    assert main(["eval", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--gallery-features" in shown
    assert "--gallery " not in shown


def test_a_shortlist_means_the_same_in_every_command(capsys: Capture) -> None:
    for command in ("eval", "parity", "search", "serve"):
        assert main([command, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        words = "the K gallery images nearest by ranking vector"
        assert words in shown, command
        assert "0 compares with all" in shown


def test_mirrored_models_say_so_in_name_and_json(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    text = evaluated(models[:1], drawn, capsys, "--mirror")
    assert "a.onnx, mirrored " in text
    (found,) = as_json(models[:1], drawn, capsys, "--mirror", "--rerank")["models"][1:]
    assert found["model"] == f"{models[0]}, mirrored, re-ranked"
    assert found["mirrored"] is True
    (plain,) = as_json(models[:1], drawn, capsys)["models"]
    assert plain["mirrored"] is False


def test_figures_of_the_papers_are_not_put_beside_a_mirrored_one(
    models: list[str], drawn: Path, capsys: Capture
) -> None:
    text = evaluated(models[:1], drawn, capsys, "--published", "--mirror", data="market1501")
    assert "the measured one is mirrored" in text


def test_plain_features_are_refused_beside_mirrored_images(
    models: list[str], drawn: Path, tmp_path: Path, capsys: Capture
) -> None:
    files = described(models, drawn, tmp_path)
    order = ["eval", models[0], "--data", "synthetic", "--data-root", str(drawn), "--mirror"]
    assert main([*order, "--gallery-features", str(files["gallery"])]) == 1
    assert "mirrored no (this model: yes)" in capsys.readouterr().err
