"""Figures of the papers beside a measured one, where both are of the same test.

The figures are ``published.toml``'s. A figure says something about another only where the
people searched for, the images and the protocol are the same; else it is refused, and why.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from reid.evaluation.tables import COLUMNS, aligned, row
from reid.types import EvalReport

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Published:
    """A row of a paper's table: figures in [0, 1] by ``COLUMNS``'s names, and where from.

    ``gap_rank1`` and ``gap_map`` are what cascading two scales adds (SiSNet's Table 3).
    """

    method: str
    figures: Mapping[str, float]
    source: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        return {"method": self.method, **self.figures, "source": self.source}


@dataclass(frozen=True, slots=True)
class PublishedTest:
    """A test that papers have figures of; counts of images are 0 where they are not fixed."""

    dataset: str
    protocol: str
    num_identities: int
    num_query: int
    num_gallery: int
    note: str
    rows: tuple[Published, ...]

    def unlike(self, report: EvalReport) -> str:
        """What of a measured test is another than this; empty where nothing is."""
        if report.protocol.name != self.protocol:
            return f"protocol {self.protocol}, measured: {report.protocol.name}"
        for name in ("num_identities", "num_query", "num_gallery"):
            expected, found = getattr(self, name), getattr(report, name)
            if expected not in (0, found):
                what = name.removeprefix("num_").replace("query", "queries")
                what = what.replace("gallery", "gallery images")
                return f"{expected:,} {what}, measured: {found:,}"
        return ""


@cache
def published_tests() -> tuple[PublishedTest, ...]:
    """Every test that figures of the papers are known of."""
    content = tomllib.loads(
        resources.files("reid.evaluation").joinpath("published.toml").read_text("utf-8")
    )
    papers = content["papers"]
    return tuple(
        PublishedTest(
            dataset=one["dataset"],
            protocol=one["protocol"],
            num_identities=one["num_identities"],
            num_query=one.get("num_query", 0),
            num_gallery=one.get("num_gallery", 0),
            note=one["note"],
            rows=tuple(_row(entry, papers[entry["paper"]]) for entry in one["rows"]),
        )
        for one in content["tests"]
    )


def _row(entry: Mapping[str, Any], paper: Mapping[str, str]) -> Published:
    figures = {name: entry[name] / 100 for name in ("rank1", "rank5", "rank10") if name in entry}
    figures |= {name: entry[name] / 100 for name in ("gap_rank1", "gap_map") if name in entry}
    source = paper["source"]
    if "table" in entry:
        source += f", table {entry['table']}"
    if "map" in entry:
        figures[f"map_{paper['ap']}"] = entry["map"] / 100
        source += f"; that its mAP is the {paper['ap']} one is inferred"
    return Published(entry["method"], figures, source)


@dataclass(frozen=True, slots=True)
class Beside:
    """The published test of a measured one, or, where there is none, ``why``."""

    test: PublishedTest | None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        rows = self.test.rows if self.test else ()
        note = self.test.note if self.test else ""
        return {"refused": self.why, "note": note, "rows": [one.to_json() for one in rows]}


def published_beside(report: EvalReport) -> Beside:
    """What the papers have of the very test that was measured."""
    known = [one for one in published_tests() if one.dataset == report.dataset]
    if not known:
        names = ", ".join(sorted({one.dataset for one in published_tests()}))
        return Beside(None, f"no published figures of {report.dataset} are known; of {names} are")
    if report.reranking:
        return Beside(None, "published figures are without re-ranking, the measured one is with it")
    reasons = []
    for test in known:
        unlike = test.unlike(report)
        if not unlike:
            return Beside(test)
        reasons.append(unlike)
    return Beside(None, f"published figures of {report.dataset} are of {'; or '.join(reasons)}")


def published_table(report: EvalReport) -> str:
    """For the terminal: the measured row, the papers' rows and their sources; or why none."""
    beside = published_beside(report)
    if beside.test is None:
        return f"not comparable with the papers: {beside.why}"
    rows = [
        [
            one.method,
            *(
                f"{100 * one.figures[name]:.1f}" if name in one.figures else "-"
                for name in COLUMNS.values()
            ),
        ]
        for one in beside.test.rows
    ]
    sources = dict.fromkeys(one.source for one in beside.test.rows)
    return "\n".join(
        [
            "beside the papers, by the same protocol",
            *aligned([["model", *COLUMNS], row(report), *rows]),
            *(f"source: {source}" for source in sources),
            beside.test.note,
        ]
    )
