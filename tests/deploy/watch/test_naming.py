"""Names for tracks: given by several looks with a margin, taken back when later ones disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.deploy.gallery import ANYWHERE, GalleryEntry, Match, Where
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.watch.appearance import AppearanceModel, PersonAppearance
from reid.deploy.watch.motion import Motion
from reid.deploy.watch.naming import NEIGHBOURS, RETRY_S, Namer, NamingSettings
from reid.deploy.watch.track import Track
from reid.errors import UnavailableError
from tests.deploy.watch.conftest import ColourMatcher, appearance_of

RED, BLUE, GREEN, PURPLE = (1, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 1)
BOX = np.array([0, 0, 20, 50], np.float32)
People = Sequence[tuple[str, PersonAppearance]]


class NamedGallery:
    """A gallery of vectors with names, searched exactly."""

    name = "people"

    def __init__(self, people: People) -> None:
        self._people = people

    def __len__(self) -> int:
        return len(self._people)

    def search(self, descriptions: Any, k: int = 10, where: Where = ANYWHERE) -> list[list[Match]]:
        found = []
        for row in descriptions:
            matches = [
                Match(
                    n,
                    float(np.linalg.norm(row - appearance.rows[0]["vector"][0])),
                    GalleryEntry("x", person),
                )
                for n, (person, appearance) in enumerate(self._people)
            ]
            found.append(sorted(matches, key=lambda match: match.distance)[:k])
        return found


PEOPLE: People = [
    ("anna", appearance_of(*RED)),
    ("", appearance_of(*GREEN)),
    ("bert", appearance_of(*BLUE)),
]


def track(number: int = 1) -> Track:
    return Track(number, Motion(BOX), appearance_of(*RED), BOX, 0.9, 0.0, 0.0)


def namer(model: AppearanceModel, people: People = PEOPLE, **settings: Any) -> Namer:
    gallery: Any = NamedGallery(people)
    return Namer(model, gallery, 0.65, NamingSettings(**settings))


def look(one: Namer, seen: Track, *colours: float, after_s: float = 0.5) -> str:
    """Look at a track once more; its name then, empty without one."""
    seen.seen_s += after_s
    seen.look = appearance_of(*colours)
    one.name([seen])
    return "" if seen.candidate is None else seen.candidate.person


def test_a_name_needs_several_looks_that_agree(model: AppearanceModel) -> None:
    names, seen = namer(model, least_looks=3), track()
    assert [look(names, seen, *RED) for _ in range(4)] == ["", "", "anna", "anna"]
    assert seen.candidate is not None
    assert (seen.candidate.distance, seen.candidate.looks) == (pytest.approx(0, abs=1e-3), 4)
    assert seen.candidate.margin == pytest.approx(np.sqrt(2), abs=1e-3)


def test_successive_frames_are_one_look(model: AppearanceModel) -> None:
    names, seen = namer(model, least_looks=2, look_every_s=0.4), track()
    assert look(names, seen, *RED) == ""
    assert [look(names, seen, *RED, after_s=0.1) for _ in range(3)] == ["", "", ""]
    assert look(names, seen, *RED, after_s=0.1) == "anna"


def test_nobody_is_named_without_a_margin_over_the_second_person(model: AppearanceModel) -> None:
    nearly_both = (1, 0, 0.7)
    near = float(np.linalg.norm(vector(*nearly_both) - vector(*RED)))
    second = float(np.linalg.norm(vector(*nearly_both) - vector(*BLUE)))
    share = (second - near) / 0.65
    assert near < 0.65
    strict, lax = (namer(model, least_looks=1, margin=share * by) for by in (1.05, 0.95))
    assert look(strict, track(), *nearly_both) == ""
    assert look(lax, track(), *nearly_both) == "anna"


def vector(*colours: float) -> np.ndarray[Any, Any]:
    return np.asarray(appearance_of(*colours).rows[0]["vector"][0])


def test_nobody_is_named_beyond_the_limit_and_images_without_a_name_give_none(
    model: AppearanceModel,
) -> None:
    one = namer(model, least_looks=1, margin=0)
    assert look(one, track(), *PURPLE) == ""  # 0.77 from both
    assert look(one, track(), *GREEN) == ""
    assert look(namer(model, PEOPLE[1:2], least_looks=1), track(), *GREEN) == ""


def test_the_only_person_of_a_gallery_needs_no_margin(model: AppearanceModel) -> None:
    seen = track()
    assert look(namer(model, PEOPLE[:1], least_looks=1), seen, *RED) == "anna"
    assert seen.candidate is not None
    assert seen.candidate.margin is None


def test_many_images_of_one_person_do_not_stand_for_a_margin(model: AppearanceModel) -> None:
    # The search finds no more than these, and the second person may be as near as the last.
    many = [("anna", appearance_of(*RED))] * NEIGHBOURS
    assert look(namer(model, [*many, PEOPLE[2]], least_looks=1), track(), *RED) == ""
    assert look(namer(model, [*many[1:], PEOPLE[2]], least_looks=1), track(), *RED) == "anna"


def test_a_name_is_taken_back_when_later_looks_disagree(model: AppearanceModel) -> None:
    names = namer(model, least_looks=3, kept_looks=10, agree=0.5, keep=0.3)
    seen = track()
    given = [look(names, seen, *RED) for _ in range(4)]
    given += [look(names, seen, *BLUE) for _ in range(12)]
    # anna's four of ten looks become three of ten, then two; by then bert's are eight.
    assert given == ["", "", *["anna"] * 9, *["bert"] * 5]
    assert [look(names, seen, *PURPLE) for _ in range(9)][-1] == ""


def test_a_name_with_few_of_the_looks_is_not_given(model: AppearanceModel) -> None:
    names, seen = namer(model, least_looks=3, agree=0.5), track()
    assert [look(names, seen, *PURPLE) for _ in range(5)] == [""] * 5
    assert [look(names, seen, *RED) for _ in range(5)] == ["", "", "", "", "anna"]


def test_two_tracks_of_a_frame_never_have_one_name(model: AppearanceModel) -> None:
    names = namer(model, least_looks=1)
    elder, younger = track(1), track(2)
    for _ in range(3):
        look(names, elder, *RED)
    look(names, younger, *RED)
    assert younger.candidate is not None
    names.name([younger, elder])
    assert (elder.candidate is None, younger.candidate is None) == (False, True)


def test_where_no_one_is_seen_the_gallery_is_not_searched(model: AppearanceModel) -> None:
    class Unsearched(NamedGallery):
        def search(self, *rest: Any, **others: Any) -> list[list[Match]]:
            raise AssertionError("searched")

    gallery: Any = Unsearched(PEOPLE)
    Namer(model, gallery, 0.65).name([track()])


def test_a_gallery_that_does_not_answer_gives_no_names_and_is_asked_again_later(
    model: AppearanceModel,
) -> None:
    class Away(NamedGallery):
        away, asked = False, 0

        def search(
            self, descriptions: Any, k: int = 10, where: Where = ANYWHERE
        ) -> list[list[Match]]:
            self.asked += 1
            if self.away:
                raise UnavailableError("people does not answer")
            return super().search(descriptions, k, where)

    gallery, said, now_s = Away(PEOPLE), [], [0.0]
    names = Namer(model, gallery, 0.65, say=said.append, clock=lambda: now_s[0])
    one, other = track(1), track(2)

    def look(number: int, *tracks: Track) -> None:
        for each, colour in zip(tracks, (RED, BLUE), strict=False):
            each.look, each.seen_s = appearance_of(*colour), float(number)
        names.name(tracks)

    for number in range(3):
        look(number, one)
    assert one.candidate is not None
    gallery.away, asked = True, gallery.asked
    for number in range(3, 40):
        look(number, one, other)
    assert (gallery.asked, len(said)) == (asked + 1, 1)  # once for all cameras and rounds
    assert one.candidate.person == "anna"
    assert other.candidate is None
    now_s[0] += RETRY_S
    look(40, one, other)
    assert (gallery.asked, len(said)) == (asked + 2, 1)
    gallery.away = False
    now_s[0] += RETRY_S
    for number in range(41, 44):
        look(number, one, other)
    assert other.candidate is not None
    assert other.candidate.person == "bert"
    assert len(said) == 2


def test_only_images_with_a_name_are_asked_for_so_that_others_do_not_hide_them(
    model: AppearanceModel, tmp_path: Path
) -> None:
    gallery = open_gallery(str(tmp_path / "people"), ColourMatcher(), create=True)
    unnamed = [GalleryEntry("door", box=(n, 0, 9, 9), time_s=float(n)) for n in range(200)]
    gallery.add(np.tile(np.array([RED], np.float32), (200, 1)), unnamed)
    gallery.add(np.array([(0.95, 0.31, 0)], np.float32), [GalleryEntry("a.jpg", "anna")])
    names, one = Namer(model, gallery, 0.65), track()
    for number in range(3):
        one.look, one.seen_s = appearance_of(*RED), float(number)
        names.name([one])
    assert one.candidate is not None
    assert one.candidate.person == "anna"
