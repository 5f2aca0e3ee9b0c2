"""Output of an evaluation: plain values for ``--json``, and text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from reid.evaluation.cascade import ShortlistReport, savings
from reid.evaluation.differences import difference_table, differences
from reid.evaluation.published import published_beside, published_table
from reid.evaluation.tables import camera_tables, table
from reid.types import EvalReport


class Finding(Protocol):
    """An additional measurement of a model."""

    def words(self) -> str: ...

    def to_json(self) -> dict[str, Any]: ...


def summary(
    reports: Sequence[EvalReport],
    cascades: Sequence[ShortlistReport],
    consistencies: Sequence[Finding],
    *,
    chance: float,
    note: str = "",
    against_first: bool = False,
    camera_pairs: bool = False,
    published: bool = False,
) -> tuple[dict[str, Any], str]:
    """All results of ``reports``, which are for one split, as plain values and as text.

    ``note`` describes the split; ``against_first`` adds the differences from the first report,
    ``camera_pairs`` and ``published`` add their tables to the text.
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
        words.append(f"split: {note}")
    files = {name: digest for report in reports for name, digest in report.sha256.items()}
    if files:
        words.append("\n".join(f"sha256 {digest}  {name}" for name, digest in files.items()))
    return found, "\n\n".join(words)
