"""What an erasure found and erased, artefact by artefact, as a file to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = "reid erasure receipt 1"


@dataclass(frozen=True, slots=True)
class Artefact:
    """One thing that may show the people erased.

    ``erased`` counts images, lines, files or the like, as ``unit`` says. ``searched`` is false for
    what was not looked at, and ``left`` says what stays, and why.
    """

    kind: str
    place: str
    searched: bool
    erased: int = 0
    unit: str = ""
    left: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """``conditions`` are those of the erasure; ``dry_run`` says that nothing was erased."""

    conditions: dict[str, Any]
    time: str
    dry_run: bool
    artefacts: Sequence[Artefact]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "format": FORMAT,
            "time": self.time,
            "dry_run": self.dry_run,
            "conditions": self.conditions,
            "artefacts": [asdict(one) for one in self.artefacts],
            "complete": self.is_complete,
        }

    @property
    def is_complete(self) -> bool:
        """Whether everything was searched, and nothing is left."""
        return all(one.searched and not one.left for one in self.artefacts)

    def to_text(self) -> str:
        """A line for each artefact."""
        word = "to erase" if self.dry_run else "erased"
        lines = []
        for one in self.artefacts:
            words = f"{one.erased:,} {one.unit} {word}" if one.searched else "not searched"
            place = f" {one.place}" if one.place else ""
            lines.append(f"{one.kind}{place}: {words}{'; ' + one.left if one.left else ''}")
        return "\n".join(lines)
