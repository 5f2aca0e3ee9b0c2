"""Filters of a search from names and times as a caller gives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from .gallery import Where
from .listing import names_from
from .times import seconds_from_text

Names = str | int | Sequence[str | int] | None
"""One name for all images, or one per image; numbers count as names."""

Time = str | float | datetime
Times = Time | Sequence[Time] | None
"""ISO 8601 text (UTC without an offset), seconds since 1970, or a datetime."""


def where_from_values(
    people: Names = None,
    cameras: Names = None,
    since: Time | None = None,
    until: Time | None = None,
) -> Where:
    """The filter that matches these people, cameras and times. Raises DataError."""
    names = [
        [] if some is None else [some] if isinstance(some, str | int) else list(some)
        for some in (people, cameras)
    ]
    persons, places = (names_from([str(one) for one in some]) for some in names)
    return Where(
        persons,
        places,
        None if since is None else seconds_from_time(since),
        None if until is None else seconds_from_time(until),
    )


def seconds_from_time(moment: Time) -> float:
    """Seconds since 1970 UTC. Raises DataError for a malformed time."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return seconds_from_text(moment) if isinstance(moment, str) else float(moment)
