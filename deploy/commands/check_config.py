"""``reid check-config``."""

from __future__ import annotations

from pathlib import Path

import click

from reid.printing import show
from reid.progress import say


@click.command("check-config")
@click.argument("site", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def check_config(context: click.Context, site: Path) -> None:
    """Check a site's file for `reid watch --config` and `reid serve --config`; start nothing.

    All problems are reported, each in a line with its place; then the exit code is 2.
    """
    from ..api.site import site_problems

    problems = site_problems(site)
    for problem in problems:
        say(f"{site}: {problem}")
    if problems:
        context.exit(2)
    show(f"{site}: no problems")
