"""The papers' tables that can be trained: their rows as recipes and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from reid.config.settings import StageConfig, TrainConfig
from reid.config.toml import parsed_toml, resolve_config
from reid.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: the method's name in ``published.toml``, and how it is trained."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()

    def config(self, more: Sequence[str] = ()) -> TrainConfig:
        """The row's settings, with ``more`` overrides last. Raises ConfigError."""
        return resolve_config(self.recipe, None, (*self.overrides, *more))


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a paper: its name here, a title and its rows."""

    name: str
    title: str
    rows: tuple[TableRow, ...]


@cache
def tables() -> dict[str, Table]:
    """All tables by name."""
    text = resources.files("reid.config").joinpath("tables.toml").read_text("utf-8")
    return {
        name: Table(
            name,
            one["title"],
            tuple(
                TableRow(row["name"], row["recipe"], tuple(row.get("set", ())))
                for row in one["rows"]
            ),
        )
        for name, one in parsed_toml(text, "tables.toml").items()
    }


def table_named(name: str) -> Table:
    """A table. Raises ConfigError for an unknown one, naming the nearest."""
    known = tables()
    if name not in known:
        raise ConfigError(
            f"unknown table {name!r}{nearest(name, tuple(known))}; tables: {', '.join(known)}"
        )
    return known[name]


def shortened(stages: Sequence[StageConfig], totals: Sequence[int], share: float) -> list[str]:
    """Overrides that shorten every stage to a ``share`` of its steps, and what counts in steps.

    ``totals`` are the stages' steps. Each keeps one step at least; warm-up and steps of the
    learning rate shrink alike, so that the schedule keeps its shape.
    """
    lines: list[str] = []
    for number, (stage, total) in enumerate(zip(stages, totals, strict=True)):
        values: dict[str, object] = {
            "epochs": 0.0,
            "iterations": max(1, round(total * share)),
            "warmup_iterations": round(stage.warmup_iterations * share),
            "stepsize": max(1, round(stage.stepsize * share)),
        }
        if stage.stepvalues:
            values["stepvalues"] = sorted({round(one * share) for one in stage.stepvalues})
        lines += [f"stages.{number}.{key}={value}" for key, value in values.items()]
    return lines
