"""A progress bar with an ETA, on stderr; stdout is for results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_MIN_INTERVAL_S = 0.5


class ProgressBar:
    """One bar; its total may become known with the first call."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def show(self, done: int, total: int, words: str = "") -> None:
        """``done`` of ``total``, and a few words behind the bar."""
        if self._bar.total != total:
            self._bar.total = total
        if words:
            self._bar.set_postfix_str(words, refresh=False)
        self._bar.update(done - self._bar.n)

    def advance(self, count: int) -> None:
        """``count`` more are done."""
        self._bar.update(count)

    def phase(self, what: str, total: int) -> Callable[[int], None]:
        """Begin again as a bar called ``what``; returns what counts."""
        self._bar.set_description_str(what, refresh=False)
        self._bar.reset(total)
        return self.advance

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.write(line, file=sys.stderr)


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[ProgressBar]:
    """Open a bar called ``what``."""
    with tqdm(
        total=total, desc=what, file=sys.stderr, mininterval=_MIN_INTERVAL_S, dynamic_ncols=True
    ) as bar:
        yield ProgressBar(bar)


def say(line: str) -> None:
    """A line for the person at the terminal, on stderr."""
    tqdm.write(line, file=sys.stderr)
