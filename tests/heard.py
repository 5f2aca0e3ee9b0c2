"""A reporter that writes down what it hears, for tests of whatever reports."""

from __future__ import annotations

import os
import signal

from reid.progress import Advance, Reporter


class Heard(Reporter):
    """``calls`` are (done, total, words or what is done), ``said`` the lines."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.done: dict[str, list[int]] = {}
        self.calls: list[tuple[int, int, str]] = []
        self.said: list[str] = []

    def begin(self, what: str, total: int) -> Advance:
        self.begun[what] = total
        counts = self.done[what] = []

        def advance(count: int, /, words: str = "") -> None:
            counts.append(count)
            self.calls.append((sum(counts), total, words or what))
            self.heard(sum(counts), total, words)

        return advance

    def heard(self, done: int, total: int, words: str) -> None:
        """After each count; for tests that act on it."""

    def say(self, line: str) -> None:
        self.said.append(line)


class Interruption(Heard):
    """Asks for a stop, as Ctrl-C does, after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def heard(self, done: int, total: int, words: str) -> None:
        if done == self.step:
            os.kill(os.getpid(), signal.SIGINT)
