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

from .gallery import Confirmation, GalleryEntry, Where
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
do not take."""

CONFIRMED_FIELDS: Fields = {"said": (DataType.VARCHAR, {"max_length": 1024})}

UNKNOWN_US = -(1 << 62)
"""The time of an image without a time."""


def make_collection(client: MilvusClient, name: str, dim: int, fields: Fields, about: str) -> None:
    """Create an empty collection of such rows, with Milvus's automatic index."""
    schema = MilvusClient.create_schema(
        auto_id=False, description=about, enable_dynamic_field=fields is FIELDS
    )
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    for field, (kind, options) in fields.items():
        schema.add_field(field, kind, **options)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")


def row_of(
    number: int, vector: FloatArray, entry: GalleryEntry, with_place: bool
) -> dict[str, Any]:
    """A gallery entry as a row. Raises DataError for a text that is too long for its field."""
    texts = {
        "person": _unicode(entry.person),
        "camera": _unicode(entry.camera),
        "source": _unicode(entry.source),
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
    place = {PLACE: json.dumps([entry.frame, entry.seconds])} if with_place else {}
    return {"id": number, "vector": vector, "time_us": time_us, "box": box, **texts, **place}


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
    )


def confirmation_of(said: str, time_s: float) -> Confirmation:
    query, number, same = json.loads(said)
    return Confirmation(query, number, same, time_s)


def filter_of(where: Where) -> str:
    """A filter in Milvus's language; names are quoted as JSON, so that none ends its quotes."""
    conditions = [
        f"{field} in {json.dumps([*map(_unicode, names)], ensure_ascii=False)}"
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
    return " and ".join(conditions)


def _unicode(text: str) -> str:
    """Valid UTF-8, which Milvus needs and a file's name may not be."""
    return text.encode("utf-8", "replace").decode()


def ids_of(entries: Sequence[GalleryEntry], *, earlier: bool = False) -> list[int]:
    """Keys as Milvus's signed primary keys, or those of collections of earlier versions."""
    keys = earlier_keys_of(entries) if earlier else keys_of(entries)
    ids: list[int] = keys.view(np.int64).tolist()
    return ids
