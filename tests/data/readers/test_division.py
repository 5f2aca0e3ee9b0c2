"""The rule that finds queries: every person who can be searched for has one and its answer."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reid.data.readers.division import query_and_gallery, searchable_identities
from reid.types import ImageRecord


def _records(views: list[tuple[int, int]]) -> list[ImageRecord]:
    return [ImageRecord(Path(f"{n}.jpg"), *view) for n, view in enumerate(views)]


def test_a_cameras_only_image_is_an_answer_where_another_camera_can_ask() -> None:
    query, gallery = query_and_gallery(_records([(1, 1), (1, 2), (1, 2)]), seed=0)
    assert [record.camera_id for record in query] == [2]
    assert sorted(record.camera_id for record in gallery) == [1, 2]


def test_of_two_only_images_the_first_camera_asks() -> None:
    query, gallery = query_and_gallery(_records([(1, 2), (1, 1)]), seed=0)
    assert [record.camera_id for record in query] == [1]
    assert [record.camera_id for record in gallery] == [2]


def test_junk_is_never_a_query() -> None:
    query, gallery = query_and_gallery(_records([(0, 1), (0, 1), (-1, 2), (-1, 2)]), seed=0)
    assert (len(query), len(gallery)) == (0, 4)


def test_one_camera_or_one_image_cannot_be_searched_for() -> None:
    records = _records([(1, 1), (1, 1), (2, 1), (2, 2), (3, 1), (0, 1), (0, 2)])
    assert searchable_identities(records, has_cameras=True) == (2,)
    assert searchable_identities(records, has_cameras=False) == (1, 2)


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 3)), max_size=30), st.integers(0, 9))
def test_every_searchable_person_has_a_query_with_an_answer(
    views: list[tuple[int, int]], seed: int
) -> None:
    records = _records(views)
    query, gallery = query_and_gallery(records, seed)
    assert sorted((*query, *gallery), key=records.index) == records
    for person in searchable_identities(records, has_cameras=True):
        asked = [record for record in query if record.person_id == person]
        assert asked
        assert len({record.camera_id for record in asked}) == len(asked)
        for one in asked:
            assert any(r.person_id == person and r.camera_id != one.camera_id for r in gallery)
