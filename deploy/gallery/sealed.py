"""Small JSON files that carry the SHA-256 of their own content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_KEY = "sha256"


def sealed_json(body: Mapping[str, Any]) -> str:
    """The text of a file with this content."""
    return json.dumps({**body, _KEY: _digest(body)}, indent=1) + "\n"


def unsealed(body: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    """The content of a file, without its hash, which is ``needed`` or may be missing.

    Raises ValueError where the content differs from it.
    """
    rest = {name: value for name, value in body.items() if name != _KEY}
    if (needed or _KEY in body) and body.get(_KEY) != _digest(rest):
        raise ValueError("its content differs from its checksum")
    return rest


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
