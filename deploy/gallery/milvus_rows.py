"""A gallery's rows and filters in Milvus's form."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient

from reid.errors import DataError
from reid.types import FloatArray

from .gallery import GalleryEntry, Where
from .rows import earlier_keys_of, keys_of, microseconds

MAX_BYTES = {"person": 512, "camera": 512, "source": 4096, "picture": 65_535}
"""Field -> largest size in bytes of UTF-8; pictures are base 64."""

Fields = Mapping[str, tuple[DataType, dict[str, int]]]

FIELDS: Fields = {
    **{name: (DataType.VARCHAR, {"max_length": size}) for name, size in MAX_BYTES.items()},
    "box": (DataType.VARCHAR, {"max_length": 64}),
    "time_us": (DataType.INT64, {}),
}
PLACE = "place"
"""A frame's number and its seconds, as JSON: a dynamic field, which collections of earlier versions
do not take. So are TRACK and the texts below, each only where it is known."""

TRACK, RUN = "track", "run"
DYNAMIC_TEXTS = (RUN, "picture_ref", "model")

VECTOR_FIELD = "vector"

UNKNOWN_US = -(1 << 62)
"""The time of an image without a time."""


def make_collection(
    client: MilvusClient,
    name: str,
    dim: int,
    fields: Fields,
    about: str,
    index: Mapping[str, Any],
    timeout_s: float,
) -> None:
    """Create an empty collection of such rows."""
    schema = MilvusClient.create_schema(
        auto_id=False, description=about, enable_dynamic_field=fields is FIELDS
    )
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dim)
    for field, (kind, options) in fields.items():
        schema.add_field(field, kind, **options)
    chosen = client.prepare_index_params()
    chosen.add_index(VECTOR_FIELD, metric_type="L2", **index)
    client.create_collection(
        name, schema=schema, index_params=chosen, consistency_level="Strong", timeout=timeout_s
    )


def row_of(
    number: int, vector: FloatArray, entry: GalleryEntry, with_place: bool
) -> dict[str, Any]:
    """A gallery entry as a row. Raises DataError for a text that is too long for its field."""
    texts = {
        "person": unicode_text(entry.person),
        "camera": unicode_text(entry.camera),
        "source": unicode_text(entry.source),
        "picture": base64.b64encode(entry.picture).decode("ascii"),
    }
    for name, text in texts.items():
        size = len(text.encode())
        if size > MAX_BYTES[name]:
            raise DataError(
                f"{entry.source[:200]}: a {name} of {size:,} bytes; Milvus keeps up to "
                f"{MAX_BYTES[name]:,}"
            )
    time_us = UNKNOWN_US if entry.time_s is None else microseconds(entry.time_s)
    box = json.dumps(entry.box)
    row = {"id": number, VECTOR_FIELD: vector, "time_us": time_us, "box": box, **texts}
    if not with_place:
        return row
    row[PLACE] = json.dumps([entry.frame, entry.seconds])
    known = {name: unicode_text(getattr(entry, name)) for name in DYNAMIC_TEXTS}
    row |= {name: text for name, text in known.items() if text}
    return row if entry.track is None else row | {TRACK: int(entry.track)}


def entry_of(row: Any) -> GalleryEntry:
    box = json.loads(row["box"])
    frame, seconds = json.loads(row.get(PLACE) or "[null, null]")
    return GalleryEntry(
        row["source"],
        row["person"],
        row["camera"],
        None if row["time_us"] == UNKNOWN_US else row["time_us"] / 1e6,
        tuple(box) if box else None,
        picture=base64.b64decode(row.get("picture") or ""),
        frame=frame,
        seconds=seconds,
        track=row.get(TRACK),
        **{name: row.get(name) or "" for name in DYNAMIC_TEXTS},
    )


def filter_of(where: Where) -> str:
    """A filter in Milvus's language, empty for all rows.

    Names are quoted as JSON, so that none ends its quotes.
    """
    conditions = [
        f"{field} in {json.dumps([*map(unicode_text, names)], ensure_ascii=False)}"
        for field, names in (("person", where.people), ("camera", where.cameras))
        if names
    ]
    if where.named is not None:
        conditions.append('person != ""' if where.named else 'person == ""')
    if where.since_s is not None or where.until_s is not None:
        conditions.append(f"time_us > {UNKNOWN_US}")
    if where.since_s is not None:
        conditions.append(f"time_us >= {microseconds(where.since_s)}")
    if where.until_s is not None:
        conditions.append(f"time_us < {microseconds(where.until_s)}")
    if where.ids:
        conditions.append(f"id in {[*map(int, where.ids)]}")
    if where.tracks:
        pairs = [
            f"({RUN} == {quoted(run)} and {TRACK} == {int(number)})" for run, number in where.tracks
        ]
        conditions.append(f"({' or '.join(pairs)})")
    return " and ".join(conditions)


def quoted(text: str) -> str:
    """A text in Milvus's language."""
    return json.dumps(unicode_text(text), ensure_ascii=False)


def unicode_text(text: str) -> str:
    """Valid UTF-8, which Milvus needs and a file's name may not be."""
    return text.encode("utf-8", "replace").decode()


def ids_of(entries: Sequence[GalleryEntry], *, earlier: bool = False) -> list[int]:
    """Keys as Milvus's signed primary keys, or those of collections of earlier versions."""
    keys = earlier_keys_of(entries) if earlier else keys_of(entries)
    ids: list[int] = keys.view(np.int64).tolist()
    return ids
