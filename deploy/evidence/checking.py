"""Checking a file of evidence: complete, unchanged, and signed by whose key.

The file may be hostile: names and sizes are checked before anything is unpacked, everything is
unpacked in memory within bounds, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid.errors import ConfigError, DataError
from reid.printing import printable

from .signing import fingerprint, is_signed, public_key, public_key_of_file
from .writing import EVIDENCE, FORMAT, PUBLIC_KEY, SIGNATURE, SUMS, UNSIGNED

MAX_FILES = 2000
MAX_FILE_BYTES = 64 << 20
MAX_BYTES = 1 << 30
"""Most bytes that are unpacked, and most bytes of the ZIP file."""

MAX_RATIO = 200
"""How many times larger a file may become; pictures hardly do (a choice)."""

_SMALL_BYTES = 1 << 20
"""Below it the ratio does not matter: a list of hashes packs well."""

_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9]+)*")
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError),
    *(OSError, ValueError, EOFError, OverflowError, KeyError, IndexError),
)
"""What zipfile raises for damaged files."""

_LISTED_NOWHERE = (SUMS, SIGNATURE)


@dataclass(frozen=True)
class Verified:
    """A file of evidence that is complete and unchanged.

    ``key`` is the fingerprint of the key that signed it, empty if it is unsigned; ``trusted`` is
    whether the caller gave that key. Without it a signature says only that the key inside the
    file was used.
    """

    file: str
    files: int
    images: int
    made: str
    made_by: str
    key: str
    trusted: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "signed": bool(self.key)}

    def to_text(self) -> str:
        """What holds, in two lines."""
        by = f" by {printable(self.made_by)}" if self.made_by else ""
        head = f"{self.file}: {self.files} files unchanged, {self.images} images, "
        head += f"made {printable(self.made)}{by}"
        if not self.key:
            return f"{head}\nUNSIGNED: anyone can have made this file"
        if self.trusted:
            return f"{head}\nsigned with the given key {self.key}"
        return (
            f"{head}\nsigned with the key inside the file, {self.key}: compare it with the "
            "operator's, or give that with --public-key"
        )


def verified(path: Path, key_file: Path | None = None) -> Verified:
    """Check a file of evidence, and that the key in ``key_file`` signed it.

    Raises DataError for a file that is changed, incomplete, has more files than are listed, is
    unsigned though a key was given, or is no file of evidence; ConfigError for a key that cannot be
    read.
    """
    key = public_key_of_file(key_file) if key_file is not None else None
    files = unpacked(path)
    _check_list(path, files)
    signer = _signer(path, files)
    if key is not None and signer is None:
        raise DataError(f"{path} is not signed, but a key was given to check it with")
    if key is not None and signer is not None and fingerprint(key) != fingerprint(signer):
        raise DataError(f"{path} is signed with another key, {fingerprint(signer)}")
    body = _body(path, files)
    return Verified(
        str(path),
        len(files),
        len(body["images"]),
        str(body.get("made", "")),
        str(body.get("made_by", "")),
        fingerprint(signer) if signer is not None else "",
        key is not None,
    )


def unpacked(path: Path) -> dict[str, bytes]:
    """Name -> content of all files. Raises DataError, ConfigError if there is no such file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES:,} bytes")
        file = open(path, "rb")  # noqa: SIM115  (closed below; its errors are others)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        with file, zipfile.ZipFile(file) as packed:
            _check_names(path, packed.infolist())
            return {one.filename: _content(path, packed, one) for one in packed.infolist()}
    except _DAMAGE as error:
        raise DataError(
            f"{path} is damaged, or not a ZIP file ({printable(str(error))[:200]})"
        ) from None


def _check_names(path: Path, listed: list[zipfile.ZipInfo]) -> None:
    """Raise DataError for what evidence never has, before anything is unpacked."""
    if len(listed) > MAX_FILES:
        raise DataError(f"{path} has {len(listed):,} files; evidence has {MAX_FILES:,} at most")
    seen: set[str] = set()
    for one in listed:
        name, kind = printable(one.filename)[:100], stat.S_IFMT(one.external_attr >> 16)
        if not _NAME.fullmatch(one.filename) or kind not in (0, stat.S_IFREG):
            raise DataError(f"{path} has {name!r}, which is no file of evidence")
        if one.filename.lower() in seen:
            raise DataError(f"{path} has {name!r} twice")
        if one.compress_type not in _METHODS or one.flag_bits & 1:
            raise DataError(f"{path}: {name} is encrypted, or packed in another way")
        large = one.file_size > max(_SMALL_BYTES, MAX_RATIO * one.compress_size)
        if large or one.file_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: {name} would unpack to {one.file_size:,} bytes")
        seen.add(one.filename.lower())
    if sum(one.file_size for one in listed) > MAX_BYTES:
        raise DataError(f"{path} would unpack to more than {MAX_BYTES:,} bytes")


def _content(path: Path, packed: zipfile.ZipFile, one: zipfile.ZipInfo) -> bytes:
    with packed.open(one) as opened:
        content = opened.read(one.file_size + 1)
    if len(content) != one.file_size:
        raise DataError(f"{path}: {one.filename} has another size than the ZIP file says")
    return content


def _check_list(path: Path, files: dict[str, bytes]) -> None:
    """Raise DataError unless the list has exactly these files, unchanged."""
    if SUMS not in files:
        raise DataError(f"{path} has no {SUMS}; expected a file of evidence from `reid serve`")
    listed: dict[str, str] = {}
    for line in files[SUMS].decode("utf-8", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None or found[2] in listed:
            raise DataError(f"{path}: {SUMS} is malformed: {printable(line)[:100]!r}")
        listed[found[2]] = found[1]
    there = set(files) - {*_LISTED_NOWHERE}
    for words, names in (
        ("is missing", set(listed) - there),
        ("was added: it is not in the list", there - set(listed)),
    ):
        if names:
            raise DataError(f"{path}: {printable(min(names))[:100]} {words}")
    for name, digest in listed.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise DataError(f"{path}: {name} was changed")


def _signer(path: Path, files: dict[str, bytes]) -> Any:
    """The key inside the file, if it signed the list; None for a file marked as unsigned."""
    if (SIGNATURE in files) != (PUBLIC_KEY in files) or (SIGNATURE in files) == (UNSIGNED in files):
        raise DataError(f"{path}: the signature or its key was removed or added")
    if SIGNATURE not in files:
        return None
    key = public_key(files[PUBLIC_KEY], f"{path}: {PUBLIC_KEY}")
    if not is_signed(key, files[SIGNATURE], files[SUMS]):
        raise DataError(f"{path}: the signature is not that of {SUMS}: it was changed")
    return key


def _body(path: Path, files: dict[str, bytes]) -> dict[str, Any]:
    try:
        body: Any = json.loads(files[EVIDENCE])
        if not (isinstance(body, dict) and body["format"] == FORMAT):
            raise ValueError
        if not isinstance(body["images"], list):
            raise ValueError
    except (KeyError, RecursionError, ValueError):
        raise DataError(f"{path}: {EVIDENCE} is missing or not of {FORMAT!r}") from None
    return body
