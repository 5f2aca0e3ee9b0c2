"""What an evaluation tells: plain values for ``--json``, and paragraphs for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from reid.evaluation.cascade import Cascade, savings
from reid.evaluation.differences import difference_table, differences
from reid.evaluation.published import published_beside, published_table
from reid.evaluation.tables import camera_tables, table
from reid.types import EvalReport


class Finding(Protocol):
    """Something more that was measured of a model."""

    def words(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...


def told(
    reports: Sequence[EvalReport],
    cascades: Sequence[Cascade],
    consistencies: Sequence[Finding],
    *,
    chance: float,
    note: str = "",
    against_first: bool = False,
    camera_pairs: bool = False,
    published: bool = False,
) -> tuple[dict[str, Any], str]:
    """Everything that is known of ``reports``, which are of one split, as values and as words.

    ``note`` is about the split; ``against_first`` asks for the differences from the first report,
    ``camera_pairs`` and ``published`` for their tables in the words.
    """
    apart = differences(reports) if against_first else []
    found: dict[str, Any] = {
        "split": note,
        "chance_rank1": chance,
        "models": [report.to_json() for report in reports],
        "shortlists": [one.to_json() for one in cascades],
        "differences": [one.to_json() for one in apart],
        "map_consistency": [one.to_json() for one in consistencies],
    }
    words = [table(reports, chance), *difference_table(apart), *savings(cascades)]
    if camera_pairs:
        words += map(camera_tables, reports)
    if consistencies:
        words.append("\n".join(one.words() for one in consistencies))
    if published:
        found["published"] = published_beside(reports[0]).to_json()
        words.append(published_table(reports[0]))
    if note:
        words.append(f"the split: {note}")
    return found, "\n\n".join(words)
