"""Caffe's Python layers of the Siamese, without Caffe: against the losses of ``reid``."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.caffe import reference
from reid.caffe.files import read_net
from reid.data import load_split
from reid.data.synthetic.writing import write_synthetic
from reid.losses.cross_correlation import cross_correlation_loss
from reid.model_file.preprocess import Preprocess
from tests.prototxt_ref.caffe_stand_in import Float64, Run


def maps(seed: int, *shape: int) -> Float64:
    """Like Pool1: a third of the values 0, some patches all 0."""
    values = np.random.default_rng(seed).normal(0.3, 1, shape).clip(min=0)
    values[0, 0, :4] = 0
    return values


@pytest.mark.parametrize("outside_rows", [True, False])
@pytest.mark.parametrize("shape", [(5, 2, 9, 6), (3, 1, 5, 7)])
def test_the_cross_correlation_layer_computes_the_loss_and_its_gradient(
    shape: tuple[int, ...], outside_rows: bool
) -> None:
    first, second = maps(1, *shape), maps(2, *shape)
    second[0] = first[0] + 0.05 * second[0]  # a positive pair that is alike
    same = np.arange(shape[0]) % 2 == 0
    run = Run("CrossCorrelationLoss", [first, second, same], outside_rows=outside_rows)
    (loss,) = run.forward()
    pool1 = torch.from_numpy(np.concatenate([first, second])).requires_grad_()
    rows = torch.arange(shape[0])
    expected = cross_correlation_loss(
        pool1, rows, rows + shape[0], torch.from_numpy(same), outside_rows=outside_rows
    )
    assert loss.shape == (1,)
    assert loss[0] == pytest.approx(expected.item(), rel=1e-12)
    assert 0.1 < loss[0] < 2
    (gradient,) = torch.autograd.grad(expected, pool1)
    found = run.backward(0.5)
    for side, part in enumerate(gradient.numpy().reshape(2, *shape)):
        assert np.abs(part).max() > 1e-4
        np.testing.assert_allclose(found[side], 0.5 * part, rtol=1e-9, atol=1e-14)


def test_pairs_without_a_kept_score_cost_nothing() -> None:
    flat = np.zeros((2, 1, 5, 5))
    run = Run("CrossCorrelationLoss", [flat, flat, [1, 0]])
    assert run.forward()[0] == 0
    assert not np.any(run.backward(1.0)[:2])


def test_the_normalising_layer_gives_rows_of_length_1_and_the_gradient_of_that() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    values[2] = 0
    slope = np.random.default_rng(1).normal(size=(4, 6))
    run = Run("L2Normalise", [values])
    (units,) = run.forward()
    tensor = torch.from_numpy(values).requires_grad_()
    expected = torch.nn.functional.normalize(tensor)
    np.testing.assert_allclose(units, expected.detach(), rtol=1e-14)
    (gradient,) = torch.autograd.grad((expected * torch.from_numpy(slope)).sum(), tensor)
    found = run.backward(slope)[0]
    kept = [0, 1, 3]
    np.testing.assert_allclose(found[kept], gradient.numpy()[kept], rtol=1e-12, atol=1e-15)
    assert not found[2].any()


@pytest.mark.parametrize(
    ("layer", "bottoms", "settings", "named"),
    [
        ("CrossCorrelationLoss", [np.ones((1, 1, 3, 3))] * 2 + [[1]], {"pach": 5}, "pach"),
        ("CrossCorrelationLoss", [np.ones((1, 1, 3, 3))] * 2 + [[1]], {"patch": 4}, "patch"),
        ("CrossCorrelationLoss", [np.ones((1, 3)), np.ones((1, 3)), [1]], {}, r"\(1, 3\)"),
        ("L2Normalise", [np.ones((1, 3))] * 2, {}, "bottoms"),
    ],
)
def test_a_layer_that_is_set_up_wrongly_says_what_is_wrong(
    layer: str, bottoms: list[Float64], settings: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Run(layer, bottoms, **settings)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic people: 4 to train on, with 3 cameras of 2 images each."""

    folder = tmp_path_factory.mktemp("people")
    write_synthetic(folder, num_train_identities=4, num_test_identities=2, images_per_camera=2)
    return folder


def list_of(people: Path, file: Path) -> Path:
    """The training images as a list that needs no ``reid`` to be read."""
    records = load_split("synthetic", people).train
    lines = [f"{one.path} {one.person_id} {one.camera_id}" for one in records]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_pairs_are_one_positive_of_another_camera_and_two_negatives(people: Path) -> None:
    records = load_split("synthetic", people).train
    run = Run(
        "PersonPairs", [], tops=4, dataset="synthetic", root=str(people), batch_size=1, held_out=0
    )
    rows = [next(run.layer._rows) for _ in range(3 * len(records))]
    anchors = [anchor for anchor, _ in rows]
    assert Counter(anchors) == dict.fromkeys(range(len(records)), 3)
    assert anchors[::3] != sorted(anchors[::3])
    for number, (anchor, other) in enumerate(rows):
        one, two = (Path(run.layer._paths[index]) for index in (anchor, other))
        of_path = {record.path: record for record in records}
        is_same = of_path[one].person_id == of_path[two].person_id
        assert is_same == (number % 3 == 0)
        assert not is_same or of_path[one].camera_id != of_path[two].camera_id


def test_images_are_prepared_as_reid_does(people: Path, tmp_path: Path) -> None:
    images = str(list_of(people, tmp_path / "images.txt"))
    run = Run("PersonPairs", [], 4, images=images, phase="TEST", held_out=0.5, batch_size=6)
    first, labels, second, same = run.forward()
    assert first.shape == second.shape == (6, 3, 144, 56)
    assert same.tolist() == [1, 0, 0, 1, 0, 0]
    expected = {
        (preprocessed(record.path)).tobytes(): record.person_id
        for record in load_split("synthetic", people).train
    }
    people_of_rows = [expected[image.astype(np.float32).tobytes()] for image in first]
    assert len(set(zip(people_of_rows, labels.tolist(), strict=True))) == len(set(labels.tolist()))
    assert all(image.astype(np.float32).tobytes() in expected for image in second)


def preprocessed(path: Path) -> Float64:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(Preprocess()(np.asarray(image, np.uint8)))


def test_training_crops_and_mirrors_each_row_anew(people: Path, tmp_path: Path) -> None:
    images = str(list_of(people, tmp_path / "images.txt"))
    run = Run("PersonPairs", [], 4, images=images, batch_size=30)
    first, labels, _, _ = run.forward()
    for one, other in pairwise(range(3)):  # the three rows of one anchor
        assert labels[one] == labels[other]
        assert not np.array_equal(first[one], first[other])
    mean = np.array([102, 102, 101])
    centre = Preprocess().resize(np.asarray(cv2.imread(run.layer._paths[0]), np.uint8))
    found = {
        is_mirrored: any(
            np.array_equal(row.transpose(1, 2, 0) + mean, crop[:, :: -1 if is_mirrored else 1])
            for row in [run.layer._image(0) for _ in range(40)]
            for top in range(17)
            for left in range(9)
            for crop in [centre[top : top + 144, left : left + 56]]
        )
        for is_mirrored in (False, True)
    }
    assert found == {False: True, True: True}


def test_held_out_images_are_in_test_alone(people: Path, tmp_path: Path) -> None:
    images = str(list_of(people, tmp_path / "images.txt"))
    trained, tested = (
        set(Run("PersonPairs", [], 4, images=images, phase=phase, held_out=0.5).layer._paths)
        for phase in ("TRAIN", "TEST")
    )
    assert trained.isdisjoint(tested)
    assert len(trained) == len(tested) == len(load_split("synthetic", people).train) / 2


@pytest.mark.parametrize(
    ("content", "settings", "named"),
    [
        ("a.jpg 1\n", {}, "line 1"),
        ("a.jpg 1 1\nb.jpg 1 2\n", {}, "two identities"),
        ("a.jpg 1 1\nb.jpg 2 1\n", {"phase": "TEST"}, "held_out"),
        ("a.jpg 1 1\nb.jpg 2 1\n", {"phase": "VAL"}, "VAL"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(
    tmp_path: Path, content: str, settings: dict[str, object], named: str
) -> None:
    images = tmp_path / "images.txt"
    images.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=named):
        Run("PersonPairs", [], 4, images=str(images), **settings)


def test_every_python_layer_of_the_graphs_is_there_and_takes_its_settings(
    people: Path, tmp_path: Path
) -> None:
    images = list_of(people, tmp_path / "images.txt")
    for graph in ("msp_cnn_train_val", "msp_cnn_train_val_dgd"):
        layers = [x for x in read_net(reference(graph)).message.layer if x.type == "Python"]
        assert len(layers) == 5
        for layer in layers:
            param = layer.python_param
            assert param.module == "msp_cnn_layers"
            settings = ast.literal_eval(param.param_str) if param.param_str else {}
            if "images" in settings:
                settings.update(images=str(images), held_out=0.5)
            example = [np.ones((2, 1, 5, 5))] * 2 + [[1, 0]]
            Run(param.layer, example[: len(layer.bottom)], len(layer.top), **settings)
