"""``reid verify``."""

from __future__ import annotations

from pathlib import Path

import click

from reid.cli import options
from reid.printing import json_text, show


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The Ed25519 public key, PEM, that has to have signed it.",
)
@options.as_json
def verify(file: Path, public_key: Path | None, as_json: bool) -> None:
    """Check a file of evidence from `reid serve`: complete, unchanged, signed.

    Ends with exit code 1 and one line if FILE was changed, has files that are missing or not
    listed, or is not signed with the given key.
    """
    from ..api.evidence import verify_evidence

    found = verify_evidence(file, public_key)
    show(json_text(found.to_json()) if as_json else found.to_text())
