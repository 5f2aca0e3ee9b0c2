"""Find the reference graphs, in an installed package or in a clone."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from reid.errors import CaffeError, nearest

_FOLDER = "prototxt_ref"


def reference(name: str) -> Path:
    """The file of a reference graph, e.g. ``"msp_cnn_test"`` or ``"msp_cnn_test.prototxt"``.

    Raises CaffeError, with the nearest name, if there is no such graph.
    """
    folder = reference_folder()
    wanted = name if name.endswith(".prototxt") else f"{name}.prototxt"
    known = sorted(path.name for path in folder.glob("*.prototxt"))
    if wanted not in known:
        raise CaffeError(
            f"no reference graph {name!r}{nearest(wanted, known)}; "
            f"known: {', '.join(known) or f'none in {folder}'}"
        )
    return folder / wanted


def reference_folder() -> Path:
    """The folder with the graphs and their README.

    A wheel has it inside the package; a clone, an editable install or an unpacked sdist has it
    beside the package. It contains no Python, so importing it cannot locate it.
    """
    package = Path(str(resources.files("reid")))
    inside = package / _FOLDER
    return inside if inside.is_dir() else package.parent / _FOLDER
