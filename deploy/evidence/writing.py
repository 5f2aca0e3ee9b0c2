"""A ZIP file of evidence: matches with their pictures, the limit, who took it away and when.

``SHA256SUMS`` lists every file but itself and its signature, in the form that `sha256sum -c` reads.
``SHA256SUMS.sig`` is its Ed25519 signature, 64 bytes, which openssl checks too:

    openssl pkeyutl -verify -pubin -inkey public_key.pem -rawin -in SHA256SUMS \\
        -sigfile SHA256SUMS.sig

Without a key there is UNSIGNED.txt in its place.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .signing import pem

FORMAT = "reid evidence 1"
EVIDENCE, SUMS, SIGNATURE = "evidence.json", "SHA256SUMS", "SHA256SUMS.sig"
PUBLIC_KEY, UNSIGNED, READ_ME = "public_key.pem", "UNSIGNED.txt", "READ_ME.txt"

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""A ZIP file's own times say nothing here, and make its bytes differ."""

_UNSIGNED_WORDS = """\
This file of evidence is NOT signed. SHA256SUMS shows accidental changes only: whoever changes a
picture can write a new list. To sign, give `reid serve` a key: --signing-key FILE.
"""

_WORDS = """\
Evidence from a search in a gallery of people, made by `reid serve`.

evidence.json   what was searched for, each image with its camera, time and distance, the limit,
                the model, the user who made this file and when
pictures/       the images of the gallery; queries/ the query images, where they were asked for
SHA256SUMS      a hash of each file: sha256sum -c SHA256SUMS
SHA256SUMS.sig  its Ed25519 signature, if there is a key: reid verify FILE.zip --public-key KEY

A distance says how alike two images look to a network. It does not prove that they show the same
person: a share of different people is nearer than the limit, as its words in evidence.json say.
A verdict (`confirmed`) is what a user said who looked at both images.
"""


@dataclass(frozen=True)
class Picture:
    """One image of the gallery: its facts as plain values, and its JPEG, if it has one."""

    facts: Mapping[str, Any]
    jpeg: bytes | None


@dataclass(frozen=True)
class Evidence:
    """What goes into the file; ``facts`` are plain values about the whole.

    ``queries`` are hashes with a JPEG, or None where the picture is not to be given away.
    """

    facts: Mapping[str, Any]
    images: Sequence[Picture]
    queries: Sequence[tuple[str, bytes | None]] = field(default_factory=tuple)


def evidence_zip(evidence: Evidence, key: Ed25519PrivateKey | None = None) -> bytes:
    """The ZIP file, signed with ``key`` or marked as unsigned."""
    files: dict[str, bytes] = {READ_ME: _WORDS.encode()}
    images = []
    for number, one in enumerate(evidence.images, 1):
        name = f"pictures/{number:04d}.jpg" if one.jpeg is not None else None
        if name is not None and one.jpeg is not None:
            files[name] = one.jpeg
        images.append({**one.facts, "picture": name})
    queries = []
    for query, jpeg in evidence.queries:
        name = f"queries/{query}.jpg" if jpeg is not None else None
        if name is not None and jpeg is not None:
            files[name] = jpeg
        queries.append({"hash": query, "picture": name})
    body = {"format": FORMAT, **evidence.facts, "queries": queries, "images": images}
    files[EVIDENCE] = (json.dumps(body, indent=2) + "\n").encode()
    files |= {PUBLIC_KEY: pem(key.public_key())} if key else {UNSIGNED: _UNSIGNED_WORDS.encode()}
    sums = sums_of(files)
    files[SUMS] = sums
    if key is not None:
        files[SIGNATURE] = key.sign(sums)
    return _zipped(files)


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """The list of hashes, as sha256sum writes it."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.external_attr = 0o644 << 16
            made.writestr(info, files[name], zipfile.ZIP_DEFLATED)
    return content.getvalue()
