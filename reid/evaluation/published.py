"""Published results beside a measured one, if both are for the same test.

The published results are in ``published.toml``. Two results are comparable only if the query
identities, the images and the protocol are the same; otherwise the reason is given.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
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
    """A row of a paper's table: results in [0, 1] by the names in ``COLUMNS``, and the source.

    ``gap_rank1`` and ``gap_map`` are the gains from cascading two scales (SiSNet's Table 3).
    ``percent`` are the same figures with the paper's own digits: ``80.30``.
    """

    method: str
    figures: Mapping[str, float]
    source: str
    percent: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        percent = dict(self.percent)
        return {"method": self.method, **self.figures, "source": self.source, "percent": percent}


@dataclass(frozen=True, slots=True)
class PublishedTest:
    """A test with published results; the numbers of images are 0 if they are not fixed."""

    dataset: str
    protocol: str
    num_identities: int
    num_query: int
    num_gallery: int
    note: str
    rows: tuple[Published, ...]

    def mismatch(self, report: EvalReport) -> str:
        """How a measured test differs from this one; empty if it does not."""
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
    """Every test with published results."""
    text = resources.files("reid.evaluation").joinpath("published.toml").read_text("utf-8")
    content = tomllib.loads(text, parse_float=str)  # with the paper's digits
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
    names = ("rank1", "rank5", "rank10", "gap_rank1", "gap_map")
    percent = {name: entry[name] for name in names if name in entry}
    source = paper["source"]
    if "table" in entry:
        source += f", table {entry['table']}"
    if "map" in entry:
        percent[f"map_{paper['ap']}"] = entry["map"]
        source += f"; its mAP definition ({paper['ap']}) is inferred"
    figures = {name: float(Decimal(text) / 100) for name, text in percent.items()}
    return Published(entry["method"], figures, source, percent)


@dataclass(frozen=True, slots=True)
class Beside:
    """The published test that matches a measured one, or the reason ``why`` there is none."""

    test: PublishedTest | None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``report.json``."""
        rows = self.test.rows if self.test else ()
        note = self.test.note if self.test else ""
        return {"refused": self.why, "note": note, "rows": [one.to_json() for one in rows]}


def published_beside(report: EvalReport) -> Beside:
    """The published results for the test that was measured."""
    known = [one for one in published_tests() if one.dataset == report.dataset]
    if not known:
        names = ", ".join(sorted({one.dataset for one in published_tests()}))
        return Beside(None, f"no published results for {report.dataset}; there are for {names}")
    if report.reranking:
        return Beside(None, "published results are without re-ranking, the measured one is with it")
    if report.mirrored:
        return Beside(None, "published results are of single images, the measured one is mirrored")
    reasons = []
    for test in known:
        mismatch = test.mismatch(report)
        if not mismatch:
            return Beside(test)
        reasons.append(mismatch)
    return Beside(None, f"published results for {report.dataset} have {'; or '.join(reasons)}")


def published_table(report: EvalReport) -> str:
    """For the terminal: the measured row, the papers' rows and their sources; or the reason."""
    beside = published_beside(report)
    if beside.test is None:
        return f"not comparable with the papers: {beside.why}"
    rows = [
        [one.method, *(one.percent.get(name, "-") for name in COLUMNS.values())]
        for one in beside.test.rows
    ]
    sources = dict.fromkeys(one.source for one in beside.test.rows)
    return "\n".join(
        [
            "published results with the same protocol",
            *aligned([["model", *COLUMNS], row(report), *rows]),
            *(f"source: {source}" for source in sources),
            beside.test.note,
        ]
    )
