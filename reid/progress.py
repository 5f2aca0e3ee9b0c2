"""Reporting progress: one ``Reporter``, silent by default.

A task calls ``begin`` with its name and its number of steps, then calls the returned function
with each count of steps done. A terminal or notebook shows a bar, a log a line every half
minute. All of it goes to stderr; stdout is for results. What cannot be written (stderr closed,
a full disk) is dropped; the work goes on.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any, Protocol

from reid.printing import LINES, json_text, printable, write_to

PLAIN, TIMED, JSON = "plain", "timed", "json"
"""Styles of lines on stderr: see ``set_log_style``."""

_style = PLAIN

_TROUBLE = re.compile(
    r"\b(lost|failed|cannot|refused|not delivered|not recorded|trying again|missing|damaged"
    r"|left out|without encryption|cut short)\b"
)

Say = Callable[[str], object]
"""Called with a line of text for the user."""

LOG_INTERVAL_S = 30.0
"""The least time between two lines of progress in a log."""

_BAR_INTERVAL_S = 0.5

_CONTROLS = "\n\t\r\x1b"
"""What a bar itself writes; lines of text come to it without."""


class Advance(Protocol):
    """Called with the count of steps just done and a short status text."""

    def __call__(self, count: int, /, words: str = "") -> object: ...


def ignore(count: int, /, words: str = "") -> None:
    """The Advance that does nothing."""


class Reporter:
    """Receives progress. This one prints nothing; others derive from it.

    >>> advance = SILENT.begin("describing", 100)
    >>> advance(64)
    >>> SILENT.say("36 images to go")
    """

    def begin(self, what: str, total: int) -> Advance:
        """Begin ``total`` steps of ``what`` (0: not known); call the result with steps done."""
        return ignore

    def say(self, line: str) -> None:
        """Print a line of text for the user."""


SILENT = Reporter()
"""The default Reporter."""


class _Stderr:
    """The process's stderr; what it cannot write is dropped without an error."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # full, closed, never opened
            write_to(sys.stderr, text, keep=_CONTROLS)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()

    def isatty(self) -> bool:
        try:
            return sys.stderr.isatty()
        except (AttributeError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class BarReporter(Reporter):
    """A bar with the time left, for a terminal or a notebook."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def begin(self, what: str, total: int) -> Advance:
        """Restart the bar under another name."""
        self._bar.set_description_str(printable(what), refresh=False)
        self._bar.set_postfix_str("", refresh=False)
        self._bar.reset(total or None)
        return self._advance

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(printable(line, LINES), file=_Stderr())

    def _advance(self, count: int, /, words: str = "") -> None:
        if words:
            self._bar.set_postfix_str(printable(words), refresh=False)
        self._bar.update(count)


class LogReporter(Reporter):
    """Lines for a log, at most one in ``LOG_INTERVAL_S``; the first at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written_s: float | None = None

    def begin(self, what: str, total: int) -> Advance:
        """Start counting from 0 under another name."""
        first: tuple[float, int] | None = None
        done = 0

        def advance(count: int, /, words: str = "") -> None:
            # The time left is reckoned from the first report on: it may hold the steps of an
            # earlier process, or those that wait for everything to be loaded.
            nonlocal first, done
            done += count
            first = first or (self._clock(), done)
            seconds, steps = self._clock() - first[0], done - first[1]
            left = f"{seconds * (total - done) / steps:.0f} s left" if total and steps else ""
            self._write(what, done, total, left, words)

        self._write(what, 0, total, "", "")
        return advance

    def say(self, line: str) -> None:
        """Print the line."""
        say(line)

    def _write(self, what: str, done: int, total: int, *words: str) -> None:
        now = self._clock()
        if self._written_s is not None and now - self._written_s < LOG_INTERVAL_S:
            return
        self._written_s = now
        count = f"{done:,} of {total:,}" if total else f"{done:,}"
        say(f"{what}: {', '.join([count, *filter(None, words)])}")


@contextmanager
def progress_bar(what: str = "opening") -> Iterator[Reporter]:
    """A Reporter for the user: a bar that starts as ``what``, or lines in a log."""
    stderr = _Stderr()
    if _style != PLAIN or not (stderr.isatty() or "ipykernel" in sys.modules):
        yield LogReporter()
        return
    tqdm = importlib.import_module("tqdm.auto").tqdm  # imported only to show a bar
    with tqdm(desc=what, file=stderr, mininterval=_BAR_INTERVAL_S, dynamic_ncols=True) as bar:
        yield BarReporter(bar)


@contextmanager
def reporting(progress: bool | Reporter) -> Iterator[Reporter]:
    """The caller's Reporter, a bar for True, or silence for False."""
    if isinstance(progress, Reporter):
        yield progress
    elif progress:
        with progress_bar() as reporter:
            yield reporter
    else:
        yield SILENT


def say(line: str) -> None:
    """Print a line for the user on stderr, as ``set_log_style`` has it."""
    stderr = _Stderr()
    stderr.write(f"{_styled(printable(line, LINES))}\n")
    stderr.flush()


def set_log_style(style: str) -> None:
    """How ``say`` prints from now on: PLAIN, TIMED (time and level first) or JSON.

    With the last two there is no bar, only lines.
    """
    global _style
    _style = style


def _styled(line: str) -> str:
    if _style == PLAIN:
        return line
    now = datetime.now(timezone.utc)
    text = line.removeprefix("reid: ")
    time_, level = f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z", _level(text)
    if _style == TIMED:
        return f"{time_} {level.upper()} {text}"
    return json_text({"time": time_, "level": level, "message": text}, None)


def _level(text: str) -> str:
    """A line's level, by the words that the lines of this program have."""
    if text.startswith("error: "):
        return "error"
    return "warning" if _TROUBLE.search(text) else "info"


def counted(reporter: Reporter, what: str) -> Callable[[int, int], None]:
    """What to call with (done, total) as a list grows; the first call begins the reporting."""
    advance: Advance = ignore
    before = 0

    def count(done: int, total: int) -> None:
        nonlocal advance, before
        if advance is ignore:
            advance = reporter.begin(what, total)
        advance(done - before)
        before = done

    return count
