"""Spans of time as people write them."""

from __future__ import annotations

import re

from reid.errors import ConfigError

_SPAN = re.compile(r"(\d{1,6}(?:\.\d+)?)([smhd])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds_from_span(text: str) -> float:
    """``30d``, ``8h``, ``90m`` or ``10s`` in seconds. Raises ConfigError for anything else."""
    found = _SPAN.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise ConfigError(
            f"a span of time is a number and s, m, h or d, such as 8h or 30d; found {text!r}"
        )
    return float(found[1]) * _UNITS_S[found[2]]
