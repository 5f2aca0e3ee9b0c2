"""The record of a run: a CSV row and TensorBoard scalars every few updates."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from reid.errors import output_errors
from reid.files import write_text
from reid.printing import printable

CSV_NAME = "log.csv"
_LEADING = ("step", "stage", "epoch", "lr", "loss")
_TRAILING = ("images_per_s",)


class RunLog:
    """Appends to ``log.csv`` and TensorBoard's event file in a run folder.

    ``kept_steps`` drops rows after the checkpoint that a resumed run starts from, so that each
    step is in the CSV once. Rows that are damaged are dropped too: ``num_damaged`` counts them.
    """

    def __init__(self, folder: Path, losses: Sequence[str], kept_steps: int = 0) -> None:
        self.columns = (*_LEADING, *losses, *_TRAILING)
        self.path = folder / CSV_NAME
        self.num_damaged = 0
        with output_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(self.path, self._kept(kept_steps))
            self._file = open(self.path, "a", newline="", encoding="utf-8")  # noqa: SIM115
            self._board = SummaryWriter(str(folder), purge_step=kept_steps + 1)
        self._rows = csv.DictWriter(self._file, self.columns, restval="")

    def _kept(self, kept_steps: int) -> str:
        lines = [",".join(self.columns)]
        if kept_steps and self.path.exists():
            for row in self.path.read_bytes().splitlines()[1:]:
                line = row.decode("utf-8", "surrogateescape")
                step = self._step_of(line)
                if step is None:
                    self.num_damaged += 1
                elif step <= kept_steps:
                    lines.append(line)
        return "\n".join(lines) + "\n"

    def _step_of(self, line: str) -> int | None:
        """The step of a row; None where it is not whole, or a number of it is none."""
        try:
            (cells,) = csv.reader([line], strict=True)
            step = int(line.partition(",")[0])
            for cell in filter(None, (*cells[:1], *cells[2:])):  # the second is the stage's name
                float(cell)
        except (csv.Error, ValueError):
            return None
        return step if len(cells) == len(self.columns) and printable(line) == line else None

    def write(self, step: int, stage: str, epoch: float, values: Mapping[str, float]) -> None:
        """Write one row; ``values`` has lr, loss, the active losses and images_per_s."""
        row: dict[str, str] = {key: f"{value:.6g}" for key, value in values.items()}
        row |= {"step": str(step), "stage": stage, "epoch": f"{epoch:.3f}"}
        with output_errors(self.path):
            self._rows.writerow(row)
            self._file.flush()
            for key, value in values.items():
                self._board.add_scalar(f"train/{key}", value, step)

    def close(self) -> None:
        """Flush to the disk."""
        with output_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._board.close()
