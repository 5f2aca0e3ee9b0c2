"""Times as text, and as seconds since 1970 UTC."""

from __future__ import annotations

from datetime import datetime, timezone

from reid.errors import DataError


def seconds_from_text(text: str) -> float:
    """ISO 8601 (``2026-05-01T12:30``, ``...+02:00``, ``...Z``; UTC by default), or seconds since
    1970.

    Raises DataError for anything else, and for a date without dashes: as seconds, ``20260501``
    is in 1970, and erasing since then would erase everything.
    """
    words = text.strip()
    try:
        if words[4:5] != "-":  # otherwise a date
            return _finite(float(_no_date(words)))
        # Python 3.10 reads no Z.
        when = datetime.fromisoformat(words[:-1] + "+00:00" if words.endswith("Z") else words)
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise DataError(
            f"a time is written 2026-05-01T12:30:00 (UTC, or with +02:00), or as seconds since "
            f"1970; found {text[:60]!r}"
        ) from None


def text_from_seconds(time_s: float | None) -> str:
    """``2026-05-01T12:30:00Z``, with milliseconds if needed; empty for no time."""
    if time_s is None:
        return ""
    try:
        when = datetime.fromtimestamp(time_s, timezone.utc)
    except (ValueError, OverflowError, OSError):  # outside the calendar
        return f"{time_s:.0f}"
    places = "milliseconds" if when.microsecond else "seconds"
    return when.isoformat(timespec=places).replace("+00:00", "Z")


def position_text(seconds: float) -> str:
    """A place in a video, as players show it: ``1:02:03.250``, ``0:07``."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{head}.{thousandths:03d}" if thousandths else head


def _no_date(words: str) -> str:
    if len(words) == 8 and words.isdecimal() and words.startswith(("19", "20")):
        try:
            datetime.strptime(words, "%Y%m%d")
        except ValueError:
            return words
        raise ValueError
    return words


def _finite(number: float) -> float:
    if not abs(number) < 1e12:
        raise ValueError
    return number
