"""Each call with each kind of bad input: one typed error, in one sentence that names the fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import reid

GOOD = np.full((32, 16, 3), 120, np.uint8)

Call = Callable[[reid.Model, Any, Path], object]
"""Something that takes an image, with a model and a folder to write into."""

IMAGE_CALLS: dict[str, Call] = {
    "embed": lambda model, image, _: model.embed([GOOD, image]),
    "embed one": lambda model, image, _: model.embed(image),
    "query": lambda model, image, _: model.distances([image], [GOOD]),
    "gallery": lambda model, image, _: model.distances([GOOD], [image]),
    "rank": lambda model, image, _: model.rank([image], [GOOD]),
    "add": lambda model, image, folder: reid.Gallery.open(folder / "g", model).add([image]),
    "search": lambda model, image, folder: filled(folder, model).search(image),
    "update": lambda model, image, _: reid.Tracker(model).update([[0, 0, 9, 30]], image),
}

BAD_IMAGES: dict[str, tuple[object, str]] = {
    "None": (None, "cv2.imread"),
    "float of 0-1": (np.full((32, 16, 3), 0.5, np.float32), r"float32.*255 \* image"),
    "float of 0-255": (np.full((32, 16, 3), 99.5), r"float64.*round\(\)"),
    "int32": (np.full((32, 16, 3), 9, np.int32), "int32"),
    "grey": (GOOD[:, :, 0], r"\(32, 16\).*COLOR_GRAY2BGR"),
    "alpha": (np.zeros((32, 16, 4), np.uint8), r"\(32, 16, 4\).*alpha"),
    "channels first": (np.zeros((3, 32, 16), np.uint8), "transpose"),
    "empty": (np.zeros((0, 16, 3), np.uint8), r"empty.*\(0, 16, 3\)"),
    "number": (7, "int"),
}


def filled(folder: Path, model: reid.Model) -> reid.Gallery:
    """A gallery of one image."""
    gallery = reid.Gallery.open(folder / "filled", model)
    gallery.add([GOOD])
    return gallery


def one_sentence(error: BaseException) -> None:
    """A message is one line that says what was expected, and has no traceback's words."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize("fault", BAD_IMAGES)
@pytest.mark.parametrize("call", IMAGE_CALLS)
def test_what_is_no_image_is_an_input_error(
    call: str, fault: str, model: reid.Model, tmp_path: Path
) -> None:
    image, words = BAD_IMAGES[fault]
    with pytest.raises(reid.InputError, match=words) as caught:
        IMAGE_CALLS[call](model, image, tmp_path)
    one_sentence(caught.value)
    if fault != "number" or call not in ("embed one", "search"):
        assert "BGR" in str(caught.value)


@pytest.mark.parametrize("call", [name for name in IMAGE_CALLS if name != "update"])
def test_a_path_that_is_not_there_is_a_data_error(
    call: str, model: reid.Model, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.jpg"
    if call == "embed":
        with pytest.raises(reid.DataError, match=r"missing\.jpg") as caught:
            model.embed([missing])
    else:
        with pytest.raises(reid.DataError, match=r"missing\.jpg") as caught:
            IMAGE_CALLS[call](model, missing, tmp_path)
    one_sentence(caught.value)


@pytest.mark.parametrize("call", [name for name in IMAGE_CALLS if name != "update"])
def test_a_damaged_file_is_a_data_error(call: str, model: reid.Model, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"not a picture")
    with pytest.raises(reid.DataError, match=r"damaged\.jpg") as caught:
        IMAGE_CALLS[call](model, damaged, tmp_path)
    one_sentence(caught.value)


def test_adding_names_a_damaged_file_after_all_others_are_added(
    model: reid.Model, tmp_path: Path
) -> None:
    damaged, whole = tmp_path / "damaged.jpg", tmp_path / "whole.png"
    damaged.write_bytes(b"not a picture")
    cv2.imwrite(str(whole), np.full((32, 16, 3), 7, np.uint8))
    with reid.Gallery.open(tmp_path / "g", model) as gallery:
        with pytest.raises(reid.DataError, match=r"damaged\.jpg") as caught:
            gallery.add([damaged, whole])
        one_sentence(caught.value)
        assert len(gallery) == 1


def test_a_folder_without_images_is_a_data_error(model: reid.Model, tmp_path: Path) -> None:
    with pytest.raises(reid.DataError, match="no image"):
        model.embed(tmp_path)


CLOSED_CALLS: dict[str, Callable[[reid.Model, Path], object]] = {
    "embed": lambda model, _: model.embed([GOOD]),
    "distances": lambda model, _: model.distances([GOOD], [GOOD]),
    "rank": lambda model, _: model.rank([GOOD], [GOOD]),
    "evaluate": lambda model, folder: model.evaluate("synthetic", folder),
    "export": lambda model, folder: model.export(folder),
    "enter": lambda model, _: model.__enter__(),
    "gallery": lambda model, folder: reid.Gallery.open(folder / "g", model),
    "tracker": lambda model, _: reid.Tracker(model),
}


@pytest.mark.parametrize("call", CLOSED_CALLS)
def test_a_closed_model_is_refused_by(call: str, model: reid.Model, tmp_path: Path) -> None:
    model.close()
    with pytest.raises(reid.ClosedError, match="closed") as caught:
        CLOSED_CALLS[call](model, tmp_path)
    one_sentence(caught.value)
    assert str(model.path) in str(caught.value)


def test_a_tracker_and_a_gallery_notice_that_their_model_was_closed(
    model: reid.Model, tmp_path: Path
) -> None:
    gallery, tracker = filled(tmp_path, model), reid.Tracker(model)
    model.close()
    with pytest.raises(reid.ClosedError):
        gallery.search(GOOD)
    with pytest.raises(reid.ClosedError):
        gallery.add([GOOD])
    with pytest.raises(reid.ClosedError):
        tracker.update([], np.zeros((40, 40, 3), np.uint8))


def test_a_closed_gallery_is_refused(model: reid.Model, tmp_path: Path) -> None:
    gallery = filled(tmp_path, model)
    gallery.close()
    gallery.close()
    for call in (gallery.summary, lambda: gallery.search(GOOD), lambda: gallery.add([GOOD])):
        with pytest.raises(reid.ClosedError, match="filled"):
            call()


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("missing.onnx", reid.ModelFileError, "no such file"),
        ("", reid.ModelFileError, r"checkpoint\.pt"),
        (None, reid.InputError, "NoneType"),
        (7, reid.InputError, "int"),
    ],
)
def test_load_of_a_wrong_path(
    path: Any, error: type[reid.ReidError], words: str, tmp_path: Path
) -> None:
    where = tmp_path / path if isinstance(path, str) else path
    with pytest.raises(error, match=words) as caught:
        reid.load(where)
    one_sentence(caught.value)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"device": "gpu"}, reid.ModelFileError),
        ({"threads": -1}, reid.InputError),
        ({"batch_size": 0}, reid.InputError),
        ({"graph": "nothing"}, reid.ModelFileError),
    ],
)
def test_load_with_a_wrong_setting(
    settings: dict[str, Any], error: type[reid.ReidError], api_run: reid.Run
) -> None:
    with pytest.raises(error) as caught:
        reid.load(api_run.folder, **settings)
    one_sentence(caught.value)


def test_a_file_of_two_image_graphs_is_refused_where_vectors_are_needed(pair_files: Path) -> None:
    with pytest.raises(reid.ModelFileError, match="two images at once") as caught:
        reid.load(pair_files / "out" / "csn.pair.fp32.onnx")
    one_sentence(caught.value)


def test_features_of_another_model_are_refused(model: reid.Model, pair_files: Path) -> None:
    with reid.load(pair_files, device="cpu") as csn:
        maps = csn.embed([GOOD])
        with pytest.raises(reid.ModelFileError, match="another model") as caught:
            model.distances(maps, [GOOD])
        one_sentence(caught.value)
        with pytest.raises(reid.ModelFileError, match="another model"):
            csn.distances([GOOD], model.embed([GOOD]))
        with pytest.raises(reid.ModelFileError, match="maps"):
            _ = maps.vectors


def test_a_gallery_of_another_model_is_refused(
    model: reid.Model, pair_files: Path, tmp_path: Path
) -> None:
    filled(tmp_path, model).close()
    with (
        reid.load(pair_files, device="cpu") as csn,
        pytest.raises(reid.ModelFileError),
    ):
        reid.Gallery.open(tmp_path / "filled", csn)


def test_an_exported_file_has_no_caffe_files(api_onnx: Path, tmp_path: Path) -> None:
    with (
        reid.load(api_onnx, device="cpu") as model,
        pytest.raises(reid.ReidError, match="caffe") as caught,
    ):
        model.export(tmp_path, caffe=True)
    one_sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_graph_or_engine_option_is_refused(model: reid.Model, tmp_path: Path) -> None:
    with pytest.raises(reid.ConfigError, match="pair"):
        model.export(tmp_path, also=["pair"])
    with pytest.raises(reid.ConfigError, match="opt_batch"):
        model.export(tmp_path, engine_options={"opt_bach": 4})


def test_evaluate_names_what_is_wrong_with_the_dataset(
    model: reid.Model, people: Path, tmp_path: Path
) -> None:
    with pytest.raises(reid.DataError, match="market1501"):
        model.evaluate("market1502", people)
    with pytest.raises(reid.DataError):
        model.evaluate("synthetic", tmp_path)
    with pytest.raises(reid.InputError, match="shots"):
        model.evaluate("synthetic", people, shots=0)
    with pytest.raises(reid.ConfigError, match="shortlist"):
        model.evaluate("synthetic", people, shortlist=3)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda root, out: reid.train("no_such", root, out), reid.ConfigError),
        (lambda root, out: reid.train(None, root, out), reid.InputError),
        (lambda root, out: reid.train("msp_cnn_synthetic", out, out), reid.DataError),
        (
            lambda root, out: reid.train("msp_cnn_synthetic", root, out, overrides={"run.sede": 1}),
            reid.ConfigError,
        ),
        (
            lambda root, out: reid.train("msp_cnn_synthetic", root, out, start_from=3),
            reid.InputError,
        ),
        (
            lambda root, out: reid.train("msp_cnn_synthetic", root, out, freeze_steps=2.5),
            reid.InputError,
        ),
        (
            lambda root, out: reid.train(
                "msp_cnn_synthetic",
                root,
                out,
                freeze_steps=2,
                overrides={"sampler.identities_per_batch": 3, "run.precision": "fp32"},
            ),
            reid.ConfigError,
        ),
        (
            lambda root, out: reid.train("msp_cnn_synthetic", root, out, overrides="run.seed=1"),
            reid.InputError,
        ),
        (
            lambda root, out: reid.train(
                "msp_cnn_synthetic", root, out, overrides={"run.seed": object()}
            ),
            reid.ConfigError,
        ),
    ],
)
def test_train_with_what_cannot_be(
    call: Callable[[Path, Path], object],
    error: type[reid.ReidError],
    people: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error) as caught:
        call(people, tmp_path / "out")
    one_sentence(caught.value)
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, 2.0], [1], [1, 2]), r"\(2,\)"),
        (([[1.0, 2.0]], [1, 1], [1, 2]), r"query_ids.*\(1,\)"),
        (([[1.0, 2.0]], [1], [1]), r"gallery_ids.*\(2,\)"),
        (([[1.0, np.nan]], [1], [1, 2]), "NaN"),
        (([["a", "b"]], [1], [1, 2]), "numbers"),
        (([[1.0, 2.0]], [1.5], [1, 2]), "whole numbers"),
        (([[1.0, 2.0]], ["1"], [1, 2]), "names"),
        (([[1.0, 2.0]], [1], [1, 2], [1]), "go together"),
        (([[1.0, 2.0]], [1], [1, 2], [1], [1]), r"gallery_cameras.*\(2,\)"),
        ((np.zeros((0, 2)), [], [1, 2]), r"\(0, 2\)"),
    ],
)
def test_score_of_arrays_that_do_not_fit(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(reid.InputError, match=words) as caught:
        reid.score(*arguments)
    one_sentence(caught.value)


@pytest.mark.parametrize("settings", [{"protocol": "markt"}, {"protocol": "multi_query"}])
def test_score_by_a_protocol_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(reid.ConfigError):
        reid.score([[1.0, 2.0]], [1], [1, 2], **settings)


@pytest.mark.parametrize(
    ("boxes", "settings", "words"),
    [
        ([[1, 2, 3]], {}, r"\(1, 3\)"),
        ([[50, 20, 10, 90]], {}, "x2 above x1"),
        ([["a", "b", "c", "d"]], {}, "numbers"),
        ([[0, 0, np.inf, 9]], {}, "finite"),
        ([[0, 0, 9, 30]], {"scores": [0.5, 0.5]}, r"\(1,\)"),
    ],
)
def test_update_with_boxes_that_are_none(
    boxes: Any, settings: dict[str, Any], words: str, model: reid.Model
) -> None:
    with pytest.raises(reid.InputError, match=words) as caught:
        reid.Tracker(model).update(boxes, np.zeros((99, 99, 3), np.uint8), **settings)
    one_sentence(caught.value)


def test_time_that_does_not_rise_is_refused(model: reid.Model) -> None:
    tracker, frame = reid.Tracker(model), np.zeros((99, 99, 3), np.uint8)
    tracker.update([], frame, time_s=5.0)
    with pytest.raises(reid.InputError, match="rise"):
        tracker.update([], frame, time_s=5.0)


def test_a_tracker_or_gallery_of_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path: Any = tmp_path / "model.onnx"
    with pytest.raises(reid.InputError, match=r"reid\.load"):
        reid.Tracker(path)
    with pytest.raises(reid.InputError, match=r"reid\.load"):
        reid.Gallery.open(tmp_path / "g", path)


def test_a_gallery_refuses_what_it_cannot_do(model: reid.Model, tmp_path: Path) -> None:
    with pytest.raises(reid.DataError, match="no gallery"):
        reid.Gallery.open(tmp_path / "none", model).search(GOOD)
    gallery = filled(tmp_path, model)
    with pytest.raises(reid.InputError, match=r"\bk\b.*found 0"):
        gallery.search(GOOD, k=0)
    with pytest.raises(reid.InputError, match="search_each"):
        gallery.search(model.embed([GOOD, GOOD]))
    with pytest.raises(reid.InputError, match="people has 2"):
        gallery.add([GOOD // 2], people=["ann", "bob"])
    with pytest.raises(reid.DataError, match="2026-05-01"):
        gallery.add([GOOD // 3], times="yesterday")
    with pytest.raises(reid.InputError, match="choose"):
        gallery.delete()
    assert len(gallery) == 1


def test_prove_names_the_file_that_is_missing(api_run: reid.Run, tmp_path: Path) -> None:
    with pytest.raises(reid.ModelFileError, match=r"missing\.onnx"):
        reid.prove(api_run.folder, tmp_path / "missing.onnx")


def test_saved_features_that_are_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(reid.ModelFileError, match="no such file"):
        reid.Features.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(reid.ModelFileError) as caught:
        reid.Features.load(tmp_path / "text.safetensors")
    one_sentence(caught.value)
