"""The result of a comparison: every measure with its limit, as a table, JSON and a verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .tolerances import AT_LEAST


class Report(Protocol):
    """The result of any comparison of a candidate with its reference."""

    @property
    def reference(self) -> str: ...
    @property
    def candidate(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def num_crops(self) -> int: ...

    @property
    def failures(self) -> tuple[str, ...]:
        """One line per failure."""
        ...

    @property
    def passed(self) -> bool: ...

    @property
    def figure(self) -> str:
        """The most important result, in a few words."""
        ...

    def to_json(self) -> dict[str, Any]: ...
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Check:
    """One measure and its limit. ``found`` is None if it was not checked."""

    measure: str
    found: float | None
    allowed: float

    @property
    def status(self) -> str:
        """``ok``, ``FAILED`` (also for NaN) or ``not checked``."""
        if self.found is None:
            return "not checked"
        at_least = self.measure in AT_LEAST
        within = self.found >= self.allowed if at_least else self.found <= self.allowed
        return "ok" if within else "FAILED"

    @property
    def limit(self) -> str:
        """The allowed value with its direction."""
        return f"{'>=' if self.measure in AT_LEAST else '<='} {self.allowed:.6g}"


@dataclass(frozen=True, slots=True)
class Hashes:
    """What was compared: file name -> SHA-256, of either side."""

    reference: Mapping[str, str] = field(default_factory=dict)
    candidate: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, dict[str, str]]:
        """Plain values."""
        return {
            "reference_sha256": dict(self.reference),
            "candidate_sha256": dict(self.candidate),
        }

    def lines(self) -> list[str]:
        """A line for each file."""
        files = [*self.reference.items(), *self.candidate.items()]
        return [f"sha256     {digest}  {name}" for name, digest in files]


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The models compared, and every measure with its limit."""

    reference: str
    candidate: str
    precision: str
    num_crops: int
    batch_sizes: tuple[int, ...]
    checks: tuple[Check, ...]
    remarks: tuple[str, ...] = ()
    """Failures without a limit, such as a row that is not finite."""
    hashes: Hashes = field(default_factory=Hashes)
    dataset: str = ""
    """Whose images were compared; empty if not known."""
    reference_precision: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """One line per failure: the measure, what was found, what is allowed."""
        failed = [
            f"{check.measure} {check.found:.6g}, allowed {check.limit}"
            for check in self.checks
            if check.status == "FAILED"
        ]
        return (*self.remarks, *failed)

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def figure(self) -> str:
        """``lowest row cosine 0.999998``; for pair networks also the largest errors."""
        found = {check.measure: check.found for check in self.checks}
        cosine, stored = found["lowest_row_cosine"], found.get("stored_error")
        largest = f"largest error {found['max_error']:.2g}"
        if cosine is None:
            return largest
        if stored is None:
            return f"lowest row cosine {cosine:.6f}"
        return f"lowest row cosine {cosine:.6f}, {largest} ({stored:.2g} from float16 descriptions)"

    def found(self, measure: str) -> float | None:
        """The value of one measure; None if it was not checked. Raises KeyError."""
        return {check.measure: check.found for check in self.checks}[measure]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json`` and the manifest; NaN becomes null, with status FAILED."""
        body = dataclasses.asdict(self)
        del body["hashes"]
        body |= self.hashes.to_json()
        body["batch_sizes"] = list(self.batch_sizes)
        body["remarks"] = list(self.remarks)
        body["checks"] = {
            check.measure: {
                "found": finite_or_none(check.found),
                "allowed": check.allowed,
                "status": check.status,
            }
            for check in self.checks
        }
        return {"passed": self.passed, **body, "failures": list(self.failures)}

    def text(self) -> str:
        """The report as a table."""
        batches = ", ".join(map(str, self.batch_sizes))
        lines = [
            f"reference  {self.reference}",
            f"candidate  {self.candidate} ({self.precision})",
            f"crops      {self.num_crops}, in batches of {batches}",
            *self.hashes.lines(),
            "",
            f"{'measure':<20}{'found':>14}{'allowed':>14}  ",
        ]
        for check in self.checks:
            found = "-" if check.found is None else f"{check.found:.6g}"
            lines.append(f"{check.measure:<20}{found:>14}{check.limit:>14}  {check.status}")
        verdict = "parity: passed" if self.passed else f"parity: FAILED ({len(self.failures)})"
        return "\n".join([*lines, "", *self.remarks, verdict])


def finite_or_none(value: float | None) -> float | None:
    """A number for JSON: None (null) for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None
