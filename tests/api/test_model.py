"""What an open model answers: embeddings, distances, rankings, figures, files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import reid
from reid.api.notebook import MAX_ROWS
from reid.evaluation.evaluating import evaluate_models, split_as_trained
from reid.matching.distances import euclidean_distances
from reid.model_file.manifest import read_manifest
from tests.heard import Heard


def test_vectors_have_length_one_and_are_the_same_for_a_path_and_its_pixels(
    model: reid.Model, queries: list[Path]
) -> None:
    by_path = model.embed(queries)
    pixels = [np.asarray(cv2.imread(str(path)), np.uint8) for path in queries]
    assert by_path.vectors.shape == (len(queries), 256)
    assert by_path.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(by_path.vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(by_path.vectors, model.embed(pixels).vectors)
    assert by_path.names == tuple(map(str, queries))


def test_paths_and_arrays_may_be_mixed_and_keep_their_order(
    model: reid.Model, queries: list[Path]
) -> None:
    pixels = np.asarray(cv2.imread(str(queries[1])), np.uint8)
    mixed = model.embed([queries[0], pixels, str(queries[2])])
    np.testing.assert_array_equal(mixed.vectors, model.embed(queries[:3]).vectors)
    assert mixed.names == (str(queries[0]), "", str(queries[2]))


def test_a_folder_is_its_images_and_a_stack_of_arrays_is_each_of_them(
    model: reid.Model, people: Path, queries: list[Path]
) -> None:
    assert model.embed(people / "query").names == tuple(map(str, queries))
    stack = np.zeros((3, 40, 20, 3), np.uint8)
    assert len(model.embed(stack)) == 3
    assert len(model.embed(stack[0])) == 1
    assert len(model.embed([])) == 0


def test_rgb_is_another_picture(model: reid.Model, queries: list[Path]) -> None:
    pixels = np.asarray(cv2.imread(str(queries[0])), np.uint8)
    assert model.distances([pixels], [pixels[:, :, ::-1]])[0, 0] > 1e-3


def test_distances_are_euclidean_whichever_side_was_described_before(
    model: reid.Model, queries: list[Path], gallery_images: list[Path]
) -> None:
    first, second = model.embed(queries), model.embed(gallery_images)
    expected = euclidean_distances(first.vectors, second.vectors)
    for query in (queries, first):
        for gallery in (gallery_images, second):
            found = model.distances(query, gallery)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_features_are_saved_loaded_and_used(
    model: reid.Model, queries: list[Path], tmp_path: Path
) -> None:
    features = model.embed(queries)
    features.save(tmp_path / "f.safetensors")
    again = reid.Features.load(str(tmp_path / "f.safetensors"))
    assert (len(again), again.names) == (len(queries), features.names)
    np.testing.assert_array_equal(again.vectors, features.vectors)
    np.testing.assert_array_equal(
        model.distances(again, features), model.distances(features, features)
    )


def test_maps_of_a_network_that_compares_pairs_are_kept_and_compared(
    pair_files: Path, queries: list[Path], tmp_path: Path
) -> None:
    with reid.load(pair_files, device="cpu") as csn:
        gallery = csn.embed(queries)
        assert set(gallery.arrays) > {"vector"}
        gallery.save(tmp_path / "maps.safetensors")
        again = reid.Features.load(tmp_path / "maps.safetensors")
        expected = csn.distances(queries[:2], queries)
        assert expected.shape == (2, len(queries))
        np.testing.assert_allclose(csn.distances(queries[:2], again), expected, atol=1e-4)
        short = csn.distances(queries[:1], again, shortlist=3)[0]
        best = np.argsort(short)[:3]
        np.testing.assert_allclose(short[best], expected[0][best], atol=1e-4)


def test_a_ranking_is_the_sorted_distances(
    model: reid.Model, queries: list[Path], gallery_images: list[Path]
) -> None:
    ranked = model.rank(queries, gallery_images, k=4)
    table = model.distances(queries, gallery_images)
    np.testing.assert_array_equal(ranked.indices, np.argsort(table, axis=1, kind="stable")[:, :4])
    first = ranked[0][0]
    assert first.name == str(gallery_images[first.row])
    assert first.distance == pytest.approx(float(table[0].min()))
    assert [one[0].row for one in ranked] == ranked.indices[:, 0].tolist()
    assert model.rank(queries[:1], queries[:2], k=99).indices.shape == (1, 2)


def test_figures_are_shares_of_one_and_those_of_the_evaluation(
    api_run: reid.Run, model: reid.Model, people: Path
) -> None:
    result = model.evaluate("synthetic", people)
    split = split_as_trained(api_run.folder, "synthetic", people)
    (expected,) = evaluate_models([api_run.folder], split, device="cpu")
    assert result.rank1 == expected.report.cmc[1] == result.cmc[1]
    assert result.mAP == expected.report.map_step
    assert 0 <= result.rank1 <= result.cmc[5] <= 1
    assert result.report.model == str(api_run.folder)


def test_images_that_were_trained_on_are_refused_unless_allowed(
    model: reid.Model, people: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(people, tmp_path / "people")
    trained = sorted((root / "bounding_box_train").glob("*.jpg"))[:3]
    for number, image in enumerate(trained):
        shutil.copy(image, root / "bounding_box_test" / f"0000_c1s1_09999{number}_00.jpg")
    with pytest.raises(reid.errors.DataError, match=r"3 of the \d+ test images.*allow_trained_on"):
        model.evaluate("synthetic", root)
    result = model.evaluate("synthetic", root, allow_trained_on=True)
    assert result.report.num_trained_on == 3
    assert "trained on 3 of the test images" in result.to_text()
    assert "trained on 3 of the test images" in result._repr_html_()
    assert model.evaluate("synthetic", people).report.num_trained_on == 0


def test_a_query_that_is_its_own_match_is_a_warning_in_python_too(
    api_onnx: Path, people: Path, tmp_path: Path
) -> None:
    for folder in ("query", "gallery"):
        for number, image in enumerate(sorted((people / "query").glob("*.jpg"))[:4]):
            target = tmp_path / folder / f"person {image.name[:4]}" / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
    warned = pytest.warns(UserWarning, match="4 query images are in the gallery too")
    with reid.load(api_onnx, device="cpu", threads=1) as model, warned:
        result = model.evaluate("folder", tmp_path)
    assert len(result.report.warnings) == 1
    assert result.report.num_trained_on is None


def test_an_evaluation_can_be_re_ranked_and_shot(model: reid.Model, people: Path) -> None:
    assert model.evaluate("synthetic", people, rerank=(4, 2, 0.5)).report.reranking == (
        "k1 4, k2 2, lambda 0.5"
    )
    assert model.evaluate("synthetic", people, shots=1).report.protocol.name == "single_shot"


def test_score_of_a_model_s_distances_is_its_evaluation(model: reid.Model, people: Path) -> None:
    result = model.evaluate("synthetic", people)
    split = split_as_trained(model.path, "synthetic", people)
    sides = [split.query, split.gallery]
    table = model.distances(*([one.path for one in side] for side in sides))
    ids = [[one.person_id for one in side] for side in sides]
    cameras = [[one.camera_id for one in side] for side in sides]
    figures = reid.score(table, *ids, *cameras)
    assert figures.rank1 == result.rank1
    assert figures.mAP == pytest.approx(result.mAP)
    assert figures.num_query == len(split.query)


def test_the_page_is_one_file_or_a_folder(model: reid.Model, people: Path, tmp_path: Path) -> None:
    result = model.evaluate("synthetic", people)
    alone = result.to_html(tmp_path / "alone.html")
    text = alone.read_text()
    assert "<script" not in text
    assert "report.json" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["alone.html"]
    page = result.to_html(tmp_path / "folder")
    assert page.name == "index.html"
    found = json.loads((page.parent / "report.json").read_text())
    assert found["models"][0]["cmc"]["rank1"] == result.rank1


def test_a_notebook_shows_figures_and_pictures_without_scripts(
    model: reid.Model, people: Path, queries: list[Path], tmp_path: Path
) -> None:
    html = model.evaluate("synthetic", people)._repr_html_()
    assert "data:image/" in html
    assert "rank-1" in html
    assert "<script" not in html
    odd = tmp_path / "<b>&quot;.jpg"
    odd.write_bytes(queries[0].read_bytes())
    ranked = model.rank([odd], queries, k=2)._repr_html_()
    assert ranked.count("data:image/jpeg;base64,") == 3
    assert "<b>&" not in ranked
    assert "&lt;b&gt;" in ranked
    assert not re.search(r"<script|https?://", ranked)


def test_a_notebook_shows_few_rows_and_says_what_has_no_picture(model: reid.Model) -> None:
    images = [np.full((40, 20, 3), 5 * number, np.uint8) for number in range(MAX_ROWS + 3)]
    html = model.rank(model.embed(images), images, k=1)._repr_html_()
    assert html.count("<tr>") == MAX_ROWS
    assert "and 3 more" in html
    assert html.count("no picture") == MAX_ROWS  # features keep no pixels


def test_exported_files_are_proven_and_answer_as_the_run(
    model: reid.Model, queries: list[Path], tmp_path: Path
) -> None:
    heard = Heard()
    files = model.export(tmp_path, progress=heard)
    assert [file.name for file in files] == ["msp_cnn.fp32.onnx", "msp_cnn.fp16.onnx"]
    assert [proof["passed"] for proof in files.proofs] == [True, True]
    assert read_manifest(files.onnx[0]).parity["passed"]
    assert files.deployed == files.onnx[1]
    assert heard.done["proving"] == [1, 1]
    with reid.load(files.onnx[0], device="cpu") as exported:
        found = exported.embed(queries).vectors
        assert exported.manifest.network == "msp_cnn"
    np.testing.assert_allclose(found, model.embed(queries).vectors, atol=1e-4)


def test_a_file_that_answers_otherwise_is_not_proven(
    api_run: reid.Run, api_onnx: Path, pair_files: Path
) -> None:
    with pytest.raises(reid.ParityError):
        reid.prove(api_run.folder, pair_files / "out" / "csn.describe.fp32.onnx", crops=16)
    assert reid.prove(api_run.folder, api_onnx, crops=16, evaluate=False).passed


def test_progress_is_heard_in_the_order_of_the_work(model: reid.Model, queries: list[Path]) -> None:
    heard = Heard()
    model.distances(queries, queries, progress=heard)
    assert heard.begun["describing"] == len(queries)
    assert sum(heard.done["describing"]) == len(queries)


def test_a_model_may_be_closed_twice_and_says_so(model: reid.Model) -> None:
    assert "torch" in repr(model)
    model.close()
    model.close()
    assert "closed" in repr(model)


def test_training_takes_a_mapping_or_lines(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    lines = [*tiny_overrides, "run.seed=3"]
    first = reid.train("msp_cnn_synthetic", people, tmp_path / "lines", overrides=lines)
    pairs = dict(line.split("=", 1) for line in tiny_overrides if not line.startswith("stages"))
    values = {name: int(text) if text.isdigit() else text for name, text in pairs.items()}
    weights = {"softmax": 1.0, "euclidean": 1.0}
    stage = {"name": "one", "iterations": 2, "base_lr": 0.01, "loss_weights": weights}
    second = reid.train(
        "msp_cnn_synthetic",
        str(people),
        str(tmp_path / "mapping"),
        overrides={**values, "run.seed": 3, "stages": [stage]},
    )
    assert (first.config.run.seed, second.config.run.seed) == (3, 3)
    assert (first.result.step, second.result.step) == (10, 2)
    assert second.config.preprocess == first.config.preprocess
    resumed = reid.train(
        "msp_cnn_synthetic", people, tmp_path / "lines", overrides=lines, resume=True
    )
    assert (resumed.result.step, resumed.result.steps_before) == (10, 10)
    assert first.result.steps_before == 0
    assert "10 steps in" in first.to_text()
    assert "10 steps, the last 0 in" in resumed.to_text()


def test_the_manifest_of_an_exported_file_may_be_inside_it_alone(
    api_onnx: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "moved.onnx"
    alone.write_bytes(api_onnx.read_bytes())
    with reid.load(alone, device="cpu") as model:
        assert (model.manifest.network, model.manifest.stage) == ("msp_cnn", "embed")
        assert model.manifest.checkpoint_sha256 == read_manifest(api_onnx).checkpoint_sha256
