"""Checking a file of evidence, as one call."""

from __future__ import annotations

from pathlib import Path

from ..evidence.checking import Verified, verified


def verify_evidence(file: Path, public_key: Path | None = None) -> Verified:
    """Check that a ZIP file of `reid serve` is complete, unchanged and signed.

    With ``public_key`` (Ed25519, PEM) it has to be signed with that key. Without it an unsigned
    file passes, and ``Verified.key`` is empty. Nothing is unpacked to the disk. Raises DataError
    for a file that is changed, incomplete, has files that are not listed, or is signed with
    another key or not at all; ConfigError for a file or key that cannot be read.

    >>> from reid.deploy.evidence.writing import Evidence, Picture, evidence_zip
    >>> facts = {"made": "2026-05-01T12:30:00Z", "made_by": "anna"}
    >>> picture = Picture({"id": "7", "camera": "gate"}, b"a JPEG")
    >>> file = folder / "evidence.zip"
    >>> size = file.write_bytes(evidence_zip(Evidence(facts, [picture])))
    >>> found = verify_evidence(file)
    >>> found.images, found.made_by, found.key
    (1, 'anna', '')
    """
    return verified(file, public_key)
