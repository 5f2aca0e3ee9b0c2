"""Which index a gallery in Milvus has, and how hard it is searched: chosen here, not by Milvus.

Milvus's AUTOINDEX misses most neighbours of random vectors, and half of the right people where a
filter leaves few images. FLAT is exact, and fast enough up to a million images. HNSW with a long
list of candidates finds as good as all of what Milvus has sealed. What was added since, Milvus
searches by a coarse index of its own, whose effort only its administrator can raise, unless the
collection's index is FLAT: so ``prepare`` has all images sealed. See
``tests/benchmarks/bench_milvus.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .milvus_rows import VECTOR_FIELD

FLAT, HNSW = "FLAT", "HNSW"

FLAT_ROWS = 1_000_000
"""Up to so many images are searched exactly (a choice)."""

FLAT_AGAIN = 0.5
"""A gallery that shrinks below this share of FLAT_ROWS is searched exactly again (a choice)."""

CANDIDATES = 4096
"""HNSW's ``ef``: for 0.99 of the ten nearest, also of random vectors and with filters."""

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    FLAT: {"index_type": FLAT},
    HNSW: {"index_type": HNSW, "params": {"M": 32, "efConstruction": 400}},
}


def settings_of(kind: str) -> Mapping[str, Any]:
    """For Milvus's ``add_index``."""
    return _SETTINGS[kind]


def search_params(k: int) -> dict[str, Any]:
    """For a search of ``k`` images; FLAT ignores HNSW's setting."""
    return {"metric_type": "L2", "params": {"ef": max(k, CANDIDATES)}}


def kind_of(client: Any, collection: str, timeout_s: float) -> str:
    """The index that a collection has; empty if it has none."""
    found = client.list_indexes(collection, field_name=VECTOR_FIELD, timeout=timeout_s)
    if not found:
        return ""
    about = client.describe_index(collection, found[0], timeout=timeout_s) or {}
    return str(about.get("index_type", ""))


def wanted(kind: str, count: int, *, is_lite: bool) -> str:
    """The index for so many images. Milvus Lite, in this process, has FLAT alone."""
    if is_lite or count <= FLAT_ROWS * FLAT_AGAIN:
        return FLAT
    if count <= FLAT_ROWS:
        return kind if kind in _SETTINGS else FLAT
    return HNSW


def replace_index(
    client: Any, collection: str, kind: str, timeout_s: float, say: Callable[[str], object]
) -> None:
    """Build another index; meanwhile the collection cannot be searched."""
    if kind == HNSW:
        seal(client, collection, timeout_s)
    for name in client.list_indexes(collection, field_name=VECTOR_FIELD, timeout=timeout_s):
        client.release_collection(collection, timeout=timeout_s)
        client.drop_index(collection, name, timeout=timeout_s)
    chosen = client.prepare_index_params()
    chosen.add_index(VECTOR_FIELD, metric_type="L2", **settings_of(kind))
    client.create_index(collection, chosen, timeout=timeout_s)
    client.load_collection(collection, timeout=timeout_s)
    say(f"Milvus has built a {kind} index of {collection}")


def seal(client: Any, collection: str, timeout_s: float) -> None:
    """Have Milvus seal what was added, so that HNSW takes it in."""
    client.flush(collection, timeout=timeout_s)
