"""Identities that outlive their process, in a file that holds numbers only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from reid.deploy.watch.appearance import AppearanceModel, PersonAppearance
from reid.deploy.watch.identities import MIN_DESCRIBED, Identities
from reid.deploy.watch.identity_file import RESERVED, SAVE_EVERY_S, IdentityFile
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.track import Track
from reid.errors import ModelFileError, OutputError
from reid.matching import PairMatcher
from tests.deploy.watch.conftest import ColourMatcher, appearance_of
from tests.matching.conftest import CompareRunner, DescribeRunner

RED, BLUE, GREEN = (1, 0, 0), (0, 0, 1), (0, 1, 0)
BOX = np.array([0, 0, 20, 50], np.float32)
DAY_S = 86_400.0


def fail(line: str) -> None:
    raise AssertionError(line)


def track_of(appearance: PersonAppearance) -> Track:
    appearance.count = MIN_DESCRIBED
    return Track(1, Motion(BOX), appearance, BOX, 0.9, 0.0, 0.0)


class Run:
    """One run with a file of identities. ``clock`` is the machine's, in seconds."""

    def __init__(
        self, path: Path, model: AppearanceModel, say: Callable[[str], None] = fail, name: str = ""
    ) -> None:
        self.now_s = 0.0
        self.identities = Identities(model, run=name)
        self.file = IdentityFile(path, self.identities, model, say, lambda: self.now_s)

    def see(self, *people: PersonAppearance, at_s: float = 1e9) -> list[int]:
        tracks = [track_of(one) for one in people]
        self.identities.begin_round(at_s)
        self.identities.name(tracks)
        self.file.frames([])
        return [one.identity.number for one in tracks if one.identity is not None]


def vectors(*colours: tuple[float, ...]) -> list[PersonAppearance]:
    return [appearance_of(*colour) for colour in colours]


def test_the_next_run_knows_the_same_people_and_gives_new_numbers_to_others(
    tmp_path: Path, model: AppearanceModel
) -> None:
    first = Run(tmp_path / "people", model, name="run1")
    assert first.see(*vectors(RED, BLUE)) == [1, 2]
    first.file.close()
    second = Run(tmp_path / "people", model, name="run2")
    assert second.file.restored == 2
    assert second.see(*vectors(BLUE, GREEN, RED)) == [2, 3, 1]
    assert {one.number: one.run for one in second.identities.known} == {
        1: "run1",
        2: "run1",
        3: "run2",
    }
    second.file.close()
    assert (tmp_path / "people").stat().st_mode & 0o777 == 0o600


def test_the_feature_maps_of_a_network_that_compares_pairs_come_back_as_they_were(
    tmp_path: Path,
) -> None:
    pairs = AppearanceModel(PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4))
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (128, 64, 3)).astype(np.uint8) for _ in range(3)]
    red, newer, blue = (one for one in pairs.describe(crops, [0.9, 0.4, 0.8]) if one)
    red.add(newer)
    first = Run(tmp_path / "people", pairs)
    assert first.see(red, blue) == [1, 2]
    first.file.close()
    second = Run(tmp_path / "people", pairs)
    found = {one.number: one.tracks[0] for one in second.identities.known}
    for number, appearance in ((1, red), (2, blue)):
        assert found[number].score == pytest.approx(appearance.score)
        assert len(found[number].rows) == len(appearance.rows) == 3 - number
        for row, stored in zip(appearance.rows, found[number].rows, strict=True):
            assert row.keys() == stored.keys()
            assert all(np.array_equal(row[name], stored[name]) for name in row)
    second.file.close()


def test_identities_of_the_day_before_are_forgotten_and_their_numbers_are_not_used_again(
    tmp_path: Path, model: AppearanceModel
) -> None:
    first = Run(tmp_path / "people", model)
    first.see(*vectors(RED), at_s=1e9)
    first.see(*vectors(BLUE), at_s=1e9 + 0.9 * DAY_S)
    first.file.close()
    second = Run(tmp_path / "people", model)
    assert second.see(*vectors(RED, BLUE), at_s=1e9 + 1.1 * DAY_S) == [3, 2]
    second.file.close()


def test_a_run_that_is_killed_leaves_no_number_that_is_given_twice(
    tmp_path: Path, model: AppearanceModel
) -> None:
    killed = Run(tmp_path / "people", model)
    killed.see(*vectors(RED, BLUE))
    killed.now_s += SAVE_EVERY_S
    killed.see(*vectors(RED))  # stored
    killed.see(*vectors(GREEN))  # not stored any more
    killed.file._threads.shutdown()
    killed.file._held.close()
    second = Run(tmp_path / "people", model)
    assert second.see(*vectors(RED)) == [1]
    (number,) = second.see(*vectors(GREEN))
    assert 3 < number <= RESERVED + 4
    second.file.close()


def test_a_file_that_cannot_be_written_is_said_once_and_written_again(
    tmp_path: Path, model: AppearanceModel
) -> None:
    said: list[str] = []
    folder = tmp_path / "disk"
    folder.mkdir()
    run = Run(folder / "people", model, said.append)
    (folder / "people").unlink()
    (folder / "people").mkdir()
    for _ in range(3):
        run.now_s += SAVE_EVERY_S
        run.see(*vectors(RED))
        run.file._threads.submit(lambda: None).result()
    assert len(said) == 1
    (folder / "people").rmdir()
    run.file.close()
    assert [str(folder) in line for line in said] == [True, True]
    assert Run(folder / "people", model).see(*vectors(RED)) == [1]


def test_two_runs_do_not_share_a_file(tmp_path: Path, model: AppearanceModel) -> None:
    run = Run(tmp_path / "people", model)
    with pytest.raises(OutputError, match="being written"):
        Run(tmp_path / "people", model)
    run.file.close()


def test_what_is_damaged_or_of_another_model_is_refused_and_left_as_it_is(
    tmp_path: Path, model: AppearanceModel
) -> None:
    path = tmp_path / "people"
    run = Run(path, model)
    run.see(*vectors(RED, BLUE))
    run.file.close()
    good = path.read_bytes()

    other = ColourMatcher()
    other.identity = {"network": "other colours"}
    with pytest.raises(ModelFileError, match="another model"):
        Run(path, AppearanceModel(other))
    for bad in (good[:-4], good[:-4] + b"\xff\xff\xff\xff", b"", b"no such file", b"{}" * 5000):
        path.write_bytes(bad)
        with pytest.raises(ModelFileError, match="people"):
            Run(path, model)
        assert path.read_bytes() == bad
    path.write_bytes(good)
    assert Run(path, model).see(*vectors(BLUE)) == [2]


def test_the_file_has_numbers_and_no_names_or_pictures(
    tmp_path: Path, model: AppearanceModel
) -> None:
    run = Run(tmp_path / "people", model, name="run1")
    run.see(*vectors(RED))
    run.file.close()
    with safe_open(tmp_path / "people", "np") as file:
        assert sorted(file.keys()) == sorted(
            ["row.vector", "identity", "track", "count", "score", "known", "seen_us", "run"]
        )
        assert json.loads(file.metadata()["runs"]) == ["run1"]
