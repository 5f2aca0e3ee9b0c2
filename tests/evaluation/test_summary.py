"""The summary of an evaluation: its values and its text have the same results."""

from __future__ import annotations

from typing import Any

from reid.evaluation.summary import summary
from tests.evaluation.test_tables import report


class Consistent:
    def words(self) -> str:
        return "the maps agree"

    def to_json(self) -> dict[str, Any]:
        return {"correlation": 0.5}


def test_nothing_is_reported_that_was_not_asked_for() -> None:
    found, words = summary([report("run"), report("file")], [], [], chance=0.01)
    assert [one["model"] for one in found["models"]] == ["run", "file"]
    assert found["differences"] == found["shortlists"] == found["map_consistency"] == []
    assert "published" not in found
    assert "difference from" not in words
    assert "published" not in words
    assert "split:" not in words


def test_everything_asked_for_stands_in_both() -> None:
    found, words = summary(
        [report("run"), report("file")],
        [],
        [Consistent()],
        chance=0.01,
        note="seed 7",
        against_first=True,
        camera_pairs=True,
        published=True,
    )
    (difference,) = found["differences"]
    assert (difference["model"], difference["against"]) == ("file", "run")
    assert found["map_consistency"] == [{"correlation": 0.5}]
    assert "refused" in found["published"]
    for part in ("difference from run", "the maps agree", "published results", "\n\nsplit: seed 7"):
        assert part in words
    assert words.index("the maps agree") < words.index("\n\nsplit: seed 7")
