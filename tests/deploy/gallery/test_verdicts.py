"""What users confirm and deny: kept with the user, taken back, erased, safe from crashes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reid.deploy.gallery import Confirmation, GalleryEntry, GalleryStore, Where
from reid.deploy.gallery.checking import check_gallery, drop_damaged
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.verdict_file import EARLIER_NAME, VERDICTS_NAME, VerdictFile
from reid.errors import DataError, ModelFileError, OutputError
from reid.locks import locked
from reid.matching import VectorMatcher
from tests.deploy.gallery.conftest import entries_of, people_vectors

VERDICT = Confirmation("ab", 3, True, 1.5, "anna")


def file_of(gallery: GalleryStore) -> Path:
    return Path(gallery.name, VERDICTS_NAME)


def test_the_newest_verdict_of_all_users_counts_and_all_are_kept(gallery: GalleryStore) -> None:
    given = [
        Confirmation("ab", 3, True, 1.0, "anna"),
        Confirmation("ab", 3, False, 2.0, "ben"),
        Confirmation("ab", 4, False, 3.0, "ben"),
        Confirmation("cd", 3, False, 4.0, "anna"),
    ]
    for one in given:
        gallery.confirm(one)
    assert gallery.confirmed() == given
    assert gallery.verdicts("ab") == {3: given[1], 4: given[2]}
    assert gallery.verdicts("ef") == {}


def test_undoing_takes_back_only_what_the_same_user_said(gallery: GalleryStore) -> None:
    gallery.confirm(Confirmation("ab", 3, True, 1.0, "anna"))
    gallery.confirm(Confirmation("ab", 3, False, 2.0, "ben"))
    gallery.confirm(Confirmation("ab", 3, None, 3.0, "ben"))
    assert gallery.verdicts("ab") == {3: Confirmation("ab", 3, True, 1.0, "anna")}
    gallery.confirm(Confirmation("ab", 3, None, 4.0, "anna"))
    assert gallery.verdicts("ab") == {}
    assert len(gallery.confirmed()) == 4


def test_other_processes_verdicts_are_seen(gallery: GalleryStore, matcher: VectorMatcher) -> None:
    other = open_gallery(gallery.name, matcher)
    assert other.verdicts("ab") == {}
    gallery.confirm(VERDICT)
    assert other.verdicts("ab") == {3: VERDICT}
    other.forget_verdicts(["ab"])
    assert gallery.confirmed() == []
    gallery.confirm(VERDICT)
    assert other.verdicts("ab") == {3: VERDICT}


def test_a_verdict_does_not_wait_for_the_gallerys_writer(gallery: GalleryStore) -> None:
    with locked(Path(gallery.name, "writer.lock")):
        gallery.confirm(VERDICT)
    assert gallery.verdicts("ab") == {3: VERDICT}


def test_verdicts_of_earlier_versions_are_read_and_go_on(gallery: GalleryStore) -> None:
    row = {"query": "ab", "id": 1, "same": True, "time_s": 1.0}
    Path(gallery.name, EARLIER_NAME).write_text(json.dumps([row]))
    gallery.confirm(VERDICT)
    old = Confirmation("ab", 1, True, 1.0)
    assert gallery.confirmed() == [old, VERDICT]
    assert gallery.verdicts("ab") == {1: old, 3: VERDICT}
    assert gallery.forget_verdicts((), [3]) == 1
    assert gallery.confirmed() == [old]
    assert not Path(gallery.name, EARLIER_NAME).exists()


def test_an_unfinished_line_is_not_read_and_the_next_verdict_replaces_it(
    gallery: GalleryStore,
) -> None:
    gallery.confirm(VERDICT)
    with open(file_of(gallery), "ab") as file:
        file.write(b'0badf00d {"query": "a')
    assert gallery.confirmed() == [VERDICT]
    later = Confirmation("ab", 4, False, 2.0)
    gallery.confirm(later)
    assert gallery.confirmed() == [VERDICT, later]


def test_a_changed_line_is_damage_and_the_other_lines_can_be_kept(gallery: GalleryStore) -> None:
    others = [Confirmation("ab", number, True, 1.0) for number in range(3)]
    for one in others:
        gallery.confirm(one)
    content = bytearray(file_of(gallery).read_bytes())
    content[content.index(b'"id": 1') + 6] = ord("7")
    file_of(gallery).write_bytes(content)
    with pytest.raises(ModelFileError, match=VERDICTS_NAME):
        gallery.confirmed()
    assert [one.file for one in check_gallery(Path(gallery.name)).damaged] == [VERDICTS_NAME]
    assert drop_damaged(Path(gallery.name)).damaged == []
    assert gallery.confirmed() == [others[0], others[2]]


@pytest.mark.parametrize("field", [{"id": True}, {"same": "yes"}, {"user": 1}, {"query": None}])
def test_a_verdict_of_wrong_kinds_is_damage(
    gallery: GalleryStore, field: dict[str, object]
) -> None:
    row = {"query": "ab", "id": 1, "same": True, "time_s": 1.0} | field
    Path(gallery.name, EARLIER_NAME).write_text(json.dumps([row]))
    with pytest.raises(ModelFileError, match="malformed"):
        gallery.confirmed()


def test_a_full_disk_leaves_the_verdicts_as_they_were(
    gallery: GalleryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.confirm(VERDICT)
    before = file_of(gallery).read_bytes()
    real = os.pwrite

    def half(file: int, content: bytes, at: int) -> int:
        """As a disk with room for 20 bytes: the first part fits, the rest does not."""
        if at > len(before):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, content[:20], at)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OutputError, match="disk is full"):
        gallery.confirm(Confirmation("ab", 4, False, 2.0))
    assert file_of(gallery).read_bytes() == before
    file_of(gallery).unlink()
    before = b""
    with pytest.raises(OutputError, match="disk is full"):
        gallery.confirm(VERDICT)
    assert not file_of(gallery).exists()


def test_erasing_images_erases_their_verdicts_from_every_file(gallery: GalleryStore) -> None:
    gallery.add(people_vectors(2, 10), entries_of(20))
    gallery.confirm(Confirmation("5ecre7", 3, True, 1.0))
    gallery.confirm(Confirmation("ab", 13, True, 2.0))
    assert gallery.delete(Where(people=("p0",))) == 10
    assert gallery.confirmed() == [Confirmation("ab", 13, True, 2.0)]
    for path in Path(gallery.name).rglob("*"):
        assert path.is_dir() or b"5ecre7" not in path.read_bytes()


def test_a_reader_that_has_the_old_file_open_reads_nothing_erased(gallery: GalleryStore) -> None:
    gallery.confirm(VERDICT)
    with open(file_of(gallery), "rb") as held:
        gallery.forget_verdicts(["ab"])
        assert held.read() == b""


WRITER = """
import sys
from pathlib import Path
from reid.deploy.gallery import Confirmation
from reid.deploy.gallery.verdict_file import VerdictFile
file = VerdictFile(Path(sys.argv[1]))
for number in range(50):
    file.append(Confirmation(sys.argv[2], number, True, float(number)))
"""


def test_writers_at_once_lose_no_verdict_while_others_are_erased(gallery: GalleryStore) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, gallery.name, name])
        for name in ("ab", "cd")
    ]
    file = VerdictFile(Path(gallery.name))
    number = 0
    while any(one.poll() is None for one in writers):
        number += 1
        file.append(Confirmation("gone", number, True, 0.0))
        file.erase(lambda one: one.query == "gone")
    assert [one.wait() for one in writers] == [0, 0]
    assert {name: len(gallery.verdicts(name)) for name in ("ab", "cd", "gone")} == {
        "ab": 50,
        "cd": 50,
        "gone": 0,
    }


def test_stored_features_search_as_the_images_did(gallery: GalleryStore) -> None:
    vectors = people_vectors(3, 10)
    gallery.add(vectors, entries_of(30))
    gallery.delete(Where(ids=(0, 7)))
    assert gallery.features([12, 5]) == pytest.approx(vectors[[12, 5]])
    assert len(gallery.features([])) == 0
    for gone in (7, 30, -1):
        with pytest.raises(DataError, match=f"no image {gone} "):
            gallery.features([5, gone])


def test_images_are_chosen_by_track_and_by_id(gallery: GalleryStore) -> None:
    entries = [
        GalleryEntry(f"cam{i}", content=str(i), run=run, track=track)
        for i, (run, track) in enumerate([("r1", 1), ("r1", 2), ("r2", 1), ("", None)])
    ]
    gallery.add(people_vectors(2, 2), entries)
    found = gallery.search(people_vectors(1, 1), 9, Where(tracks=(("r1", 1), ("r2", 1))))[0]
    assert sorted(one.id for one in found) == [0, 2]
    found = gallery.search(people_vectors(1, 1), 9, Where(tracks=(("r1", 1),), ids=(0, 3)))[0]
    assert [one.id for one in found] == [0]
