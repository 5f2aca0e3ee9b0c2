"""The versions that CI passed with: compare this environment with them, or write them anew.

usage: python .ci/constraints.py compare FILE
       python .ci/constraints.py write FILE
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

LEFT_OUT = ("pip", "reid-toolkit", "setuptools", "wheel")
"""The project itself and what installs it; [milvus] needs an older setuptools than others do."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
MAX_NAMES = 8
HEADER = """\
# Exact versions that CI passed with, on Python {python} with [cpu,dev]. Install by them:
#   pip install -c .ci/constraints.txt -e ".[cpu]"
# A version that needs a newer Python than 3.10 says so; there pip chooses an older one.
# Written by: .ci/run --write-constraints
"""


def installed() -> dict[str, importlib.metadata.Distribution]:
    """What is installed here, by normalised name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        if name not in LEFT_OUT:
            found.setdefault(name, distribution)  # the first is the one that Python imports
    return found


def version_of(distribution: importlib.metadata.Distribution) -> str:
    """Without the local part: 2.13.0+cpu is a build of 2.13.0, and pip takes either for it."""
    return Version(distribution.version).public


def pin(name: str, distribution: importlib.metadata.Distribution) -> str:
    """One line of the file, with a marker where the version is not for every Python of ours."""
    pinned = f"{name}=={version_of(distribution)}"
    needed = SpecifierSet(",".join(distribution.metadata.get_all("Requires-Python", [])))
    # The last patch release stands for each Python: ">=3.10.2" is met by today's 3.10.
    oldest = next(python for python in PYTHONS if needed.contains(f"{python}.99"))
    return pinned if oldest == PYTHONS[0] else f"{pinned} ; python_version >= '{oldest}'"


def write(file: Path) -> None:
    """Write the versions of this environment to ``file``."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [pin(name, distribution) for name, distribution in sorted(installed().items())]
    file.write_text(HEADER.format(python=python) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {len(lines)} versions to {file}")


def compare(file: Path) -> None:
    """Print, in a line, which packages are not here in the version that ``file`` names."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    pins = {canonicalize_name(pinned.name): pinned for pinned in map(Requirement, lines)}
    here = {name: version_of(distribution) for name, distribution in installed().items()}
    others = [
        name
        for name, pinned in pins.items()
        if (pinned.marker is None or pinned.marker.evaluate())
        and not pinned.specifier.contains(here.get(name, "0"), prereleases=True)
    ]
    unknown = sorted(here.keys() - pins.keys())
    if others:
        print(f"other versions than in {file}: {short(others)}")
    if unknown:
        print(f"not in {file}: {short(unknown)}")
    if not others and not unknown:
        print(f"the versions are those of {file}")


def short(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def main(words: list[str]) -> int:
    """Run one command; 2 is the exit code of a wrong one."""
    commands = {"compare": compare, "write": write}
    if len(words) != 2 or words[0] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    commands[words[0]](Path(words[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
