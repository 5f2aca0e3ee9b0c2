"""How large the house is: files and lines of each floor, rooms of the ground floor, and the
imports between them.

    python tests/benchmarks/count_house.py [ROOT]

A room is a package or a module directly in ``reid/``; an arrow is one room importing another,
however often. What only type checkers read counts too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FLOORS = ("reid", "export", "deploy")


def imports(module: list[str], is_package: bool, source: str) -> Iterator[str]:
    """Absolute names of what a module imports; names from a module are joined to it."""
    package = module if is_package else module[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def main(root: Path) -> None:
    """Print the counts of the tree at ``root``."""
    for floor in FLOORS:
        texts = [path.read_text(encoding="utf-8") for path in (root / floor).rglob("*.py")]
        lines = sum(len(text.splitlines()) for text in texts)
        print(f"{floor + '/':8} {len(texts):4} files {lines:6} lines")
    ground = root / "reid"
    rooms = {path.stem for path in ground.iterdir() if path.suffix == ".py"} - {"__init__"}
    rooms |= {path.parent.name for path in ground.glob("*/*.py")}
    arrows = set()
    for path in ground.rglob("*.py"):
        parts = ["reid", *path.relative_to(ground).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        module = parts[:-1] if is_package else parts
        here = module[1] if len(module) > 1 else ""
        for name in imports(module, is_package, path.read_text(encoding="utf-8")):
            head, _, rest = name.partition(".")
            there = rest.partition(".")[0]
            if head == "reid" and there in rooms and there != here and here:
                arrows.add((here, there))
    print(f"rooms    {len(rooms):4}       {len(arrows):6} arrows between them")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
