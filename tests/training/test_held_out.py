"""The learning curve: searches for people that are kept out of training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reid.config.settings import TrainConfig
from reid.data import load_split
from reid.data.content import image_hashes
from reid.data.images import read_image
from reid.errors import ConfigError, DataError
from reid.evaluation.evaluating import Evaluation, evaluate
from reid.matching import PairMatcher, open_matcher
from reid.training.checkpoint import load_checkpoint
from reid.training.curves import curves_picture
from reid.training.held_out import HeldOut
from reid.training.loop import train
from reid.types import ImageRecord, Split
from tests.heard import Heard, Interruption
from tests.training import test_train_csn
from tests.training.test_loop import equal, rows_of, tiny, weights_of

OUT = ("data.held_out_identities=3", "sampler.identities_per_batch=2", "run.log_every=100")


def with_held_out(overrides: tuple[str, ...], *more: str) -> TrainConfig:
    return tiny(overrides, *OUT, *more)


def held_out(config: TrainConfig, people: Path) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Its records: trained on, kept out."""
    records = load_split("synthetic", people).train
    trained = HeldOut(config, records).trained
    return list(trained), [record for record in records if record not in trained]


def rank1_by_hand(run: Path, kept_out: list[ImageRecord], config: TrainConfig) -> float:
    """Each query against the other people's images and its own of other cameras."""
    split = HeldOut(config, kept_out + others(kept_out))._split
    matcher = open_matcher(run, "cpu")
    sides = [
        matcher.describe([read_image(record.path) for record in side])
        for side in (split.query, split.gallery)
    ]
    found = []
    for record, vector in zip(split.query, sides[0], strict=True):
        distances = [
            (float(np.linalg.norm(vector - other)), seen.person_id)
            for seen, other in zip(split.gallery, sides[1], strict=True)
            if (seen.person_id, seen.camera_id) != (record.person_id, record.camera_id)
        ]
        found.append(min(distances)[1] == record.person_id)
    matcher.close()
    return float(np.mean(found))


def others(kept_out: list[ImageRecord]) -> list[ImageRecord]:
    """Two people of one camera: they can be trained on, and not be held out."""
    return [
        dataclasses.replace(one, person_id=person, camera_id=1)
        for person in (9001, 9002)
        for one in kept_out[:1]
    ]


def test_the_log_has_the_search_for_people_that_were_not_trained_on(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    config = with_held_out(tiny_overrides, "run.check_every=4")
    heard = Heard()
    train(config, people, tmp_path, reporter=heard)
    rows = {int(row["step"]): row for row in rows_of(tmp_path) if row["held_out_rank1"]}
    ends = np.cumsum([stage.iterations for stage in config.stages]).tolist()
    assert sorted(rows) == sorted({4, 8, *ends})
    assert sum("held-out" in line for line in heard.said) == len(rows)
    trained, kept_out = held_out(config, people)
    assert len({record.person_id for record in kept_out}) == 3
    assert images_trained_on(tmp_path) == frozenset(image_hashes(tuple(trained)))
    by_hand = rank1_by_hand(tmp_path, kept_out, config)
    assert float(rows[ends[-1]]["held_out_rank1"]) == pytest.approx(by_hand, abs=1e-4)
    assert curves_picture(tmp_path / "log.csv").shape[1] > curves_picture_without(tmp_path)


def images_trained_on(run: Path) -> frozenset[bytes]:
    trained = load_checkpoint(run / "checkpoint.pt").trained_images
    assert trained is not None
    return trained.images


def curves_picture_without(run: Path) -> int:
    """The picture's width without the figures."""
    lines = (run / "log.csv").read_text().replace("held_out_rank1,held_out_map", "one,other")
    log = run / "without.csv"
    log.write_text(lines)
    return curves_picture(log).shape[1]


def test_searching_changes_nothing_in_training(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    train(with_held_out(tiny_overrides, "run.check_every=1"), people, tmp_path / "often")
    rarely = with_held_out(tiny_overrides, "run.check_every=100")
    train(rarely, people, tmp_path / "rarely", reporter=Interruption(3))
    train(rarely, people, tmp_path / "rarely", resume=True)
    assert equal(weights_of(tmp_path / "often"), weights_of(tmp_path / "rarely"))


def test_a_stage_is_searched_at_its_size_and_by_pairs_where_it_learns_them(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []

    def heard(matcher: PairMatcher, split: Split, best: int) -> Evaluation:
        searched.append((matcher.manifest.preprocess.input_shape, best))
        return evaluate(matcher, split, best=best)

    monkeypatch.setattr("reid.training.held_out.evaluate", heard)
    config = test_train_csn.tiny(
        "data.held_out_identities=3",
        *(f"preprocess.{kind}_height=96" for kind in ("resize", "crop")),
        "stages=[{name='vectors',iterations=1,image_height=80,image_width=40,base_lr=0.001,"
        "loss_weights={contrastive=1.0}},"
        "{name='pairs',iterations=1,base_lr=0.001,loss_weights={classification=1.0}}]",
    )
    train(config, people, tmp_path)
    assert searched == [((3, 80, 40), 1), ((3, 96, 40), searched[1][1])]
    assert searched[1][1] > 1


def test_a_network_that_compares_pairs_is_searched_by_its_scores(
    people: Path, tmp_path: Path
) -> None:
    config = test_train_csn.tiny(
        "data.held_out_identities=3", "run.check_every=2", "optimizer.average_decay=0.5"
    )
    train(config, people, tmp_path)
    figures = [row["held_out_rank1"] for row in rows_of(tmp_path)]
    assert [bool(figure) for figure in figures] == [False, True, False, True]
    assert all(0 <= float(figure) <= 1 for figure in figures if figure)


@pytest.mark.parametrize(
    ("number", "words"), [("7", "held_out_identities=7 of 8"), ("9", "9 held-out identities")]
)
def test_more_people_than_can_be_spared_are_refused(
    people: Path, tiny_overrides: tuple[str, ...], tmp_path: Path, number: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        train(tiny(tiny_overrides, f"data.held_out_identities={number}"), people, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_people_of_one_camera_cannot_be_held_out(
    people: Path, tiny_overrides: tuple[str, ...]
) -> None:
    config = with_held_out(tiny_overrides)
    records = [
        dataclasses.replace(record, camera_id=1) for record in load_split("synthetic", people).train
    ]
    with pytest.raises(DataError, match="two cameras"):
        HeldOut(config, records)


def test_a_number_below_zero_is_refused(tiny_overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"data\.held_out_identities .*-1"):
        tiny(tiny_overrides, "data.held_out_identities=-1")
