"""Progress of a TensorRT build, from the phases reported to its progress monitor."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from reid.progress import Reporter

TOTAL = 1000


@dataclass
class _Phase:
    num_steps: int
    done: int = 0
    children: dict[str, _Phase] = field(default_factory=dict)

    def share(self) -> float:
        """Share done; a nested phase counts as part of the current step of its parent."""
        inside = max((child.share() for child in self.children.values()), default=0.0)
        return min(1.0, (self.done + inside) / max(1, self.num_steps))


class PhaseTree:
    """Converts nested phases of known lengths to one number that never decreases.

    TensorRT calls from several threads, nests phases, and may finish a phase before its last
    step.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self._parents: dict[str, str | None] = {}
        self._best = 0
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, num_steps: int) -> None:
        with self._lock:
            phase = _Phase(num_steps)
            self._open[name] = phase
            self._parents[name] = parent
            if parent in self._open:
                self._open[parent].children[name] = phase

    def step(self, name: str, index: int) -> int:
        """Step ``index`` of ``name`` is done; return the progress in thousandths."""
        with self._lock:
            if name in self._open:
                self._open[name].done = max(self._open[name].done, index + 1)
            return self._grown()

    def finish(self, name: str) -> int:
        """``name`` is over, even if steps are missing; return the progress in thousandths."""
        with self._lock:
            phase = self._open.pop(name, None)
            parent = self._parents.pop(name, None)
            if phase is not None and parent is None:
                self._best = TOTAL
            if parent in self._open:
                self._open[parent].children.pop(name, None)
            return self._grown()

    def _grown(self) -> int:
        roots = [p for name, p in self._open.items() if self._parents[name] not in self._open]
        share = max((phase.share() for phase in roots), default=0.0)
        self._best = max(self._best, int(TOTAL * share))
        return self._best


def progress_monitor(trt: Any, reporter: Reporter) -> Any:
    """A ``trt.IProgressMonitor`` that reports to ``reporter``, in thousandths and TensorRT's words.

    An exception from ``reporter``, including Ctrl-C, cancels the build and is kept in the
    monitor's ``failure``, because it must not pass through TensorRT's C++ frames.
    """
    tree, advance = PhaseTree(), reporter.begin("building", TOTAL)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.failure: BaseException | None = None
            self.done = 0

        def _report(self, done: int, phase: str) -> None:
            try:
                if self.failure is None:
                    advance(done - self.done, phase)
                    self.done = done
            except BaseException as error:
                self.failure = error

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            tree.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._report(tree.step(phase_name, step), phase_name)
            return self.failure is None

        def phase_finish(self, phase_name: str) -> None:
            self._report(tree.finish(phase_name), phase_name)

    return Monitor()
