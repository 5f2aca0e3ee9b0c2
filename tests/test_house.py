"""The rules of the house, read from the source's syntax trees.

A rule is a function from {path: source} to what breaks it. Each is run on the shipped
source, and on a small planted house that breaks it once.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("reid", "export", "deploy")
FRONT_DOOR = "reid/__init__.py"
"""The one file of the ground floor that may name the upper ones."""

Sources = Mapping[str, str]
Rule = Callable[[Sources], list[str]]

STEPS = {
    **dict.fromkeys(
        (
            *("", "types", "errors", "closing", "files", "packages", "locks", "outputs"),
            *("printing", "progress", "spans"),
        ),
        0,
    ),
    **dict.fromkeys(("losses", "caffe", "model_file"), 1),
    "models": 2,
    "config": 3,
    **dict.fromkeys(("data", "runtime"), 4),
    "matching": 5,
    "evaluation": 6,
    "report": 7,
    "training": 8,
    "api": 9,
    "cli": 10,
}
"""Room or module of the ground floor -> its step; it imports lower ones, or others of step 0."""

NO_TORCH = (
    *("reid.deploy", "reid.runtime.onnx_runner", "reid.runtime.tensorrt_runner"),
    "reid.export.building",
    "reid.export.adopting",
)
TORCH = ("torch", "torchvision")

BANNED = {
    "reid.types": (*TORCH, "cv2", "onnx", "reid.files"),
    "reid.evaluation": (*TORCH, "cv2", "reid.files"),
    **dict.fromkeys(
        (
            "reid.evaluation.metrics",
            "reid.evaluation.ranking",
            "reid.evaluation.reranking",
            "reid.evaluation.scoring",
            "reid.matching.distances",
            "reid.matching.labels",
        ),
        (*TORCH, "cv2", "pathlib", "os", "io", "reid.files"),
    ),
    "reid.models": ("pathlib", "os", "io", "reid.config", "reid.files"),
    "reid.losses": ("torch.optim", "pathlib", "os", "reid.config"),
    "reid.data": ("torch.cuda", "urllib", "http", "requests", "reid.evaluation"),
    "reid.training": ("onnx", "onnxruntime", "click"),
    "reid.runtime": ("cv2", "onnx", "click"),
    "reid.caffe": (*TORCH, "onnx", "cv2", "click"),
    "reid.deploy": ("onnxscript",),
}
"""Room -> what no file of it imports."""

BANNED_NAMES = ("utils", "util", "helpers", "common", "base", "misc")
NETWORKS = ("msp_cnn", "csn", "sisnet")
"""Homes of networks: none of them imports another."""

SPEAKERS = ("commands", "cli")
"""Modules, or packages of modules, that print."""

WORK = ("matching", "runtime", "evaluation", "training", "models", "losses", "report")
"""Rooms that the commands reach through the API alone."""

MAX_LINES = 400
LONG_FILES: dict[str, str] = {}
"""Path -> why it is longer than MAX_LINES."""

BROAD_EXCEPTS = {
    "export/tensorrt/builder_progress.py": "nothing may be raised through TensorRT's C++ frames",
}
"""Path -> why it catches everything; what it caught is raised again elsewhere."""


def shipped() -> dict[str, str]:
    """{path from the root: source} of every shipped Python file."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for floor in FLOORS
        for path in sorted((ROOT / floor).rglob("*.py"))
    }


def module_of(path: str) -> str:
    """``export/onnx.py`` -> ``reid.export.onnx``; a package is its folder's name."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts if parts[0] == "reid" else ["reid", *parts])


def is_in(name: str, room: str) -> bool:
    """Whether ``name`` is ``room`` or something inside it."""
    return name == room or name.startswith(f"{room}.")


def type_checking_lines(tree: ast.Module) -> set[int]:
    """Lines of the blocks that only type checkers read."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for line in range(node.lineno, (node.body[-1].end_lineno or node.lineno) + 1)
    }


def imports(path: str, source: str, *, run_time_only: bool = False) -> Iterator[str]:
    """Names that a file imports anywhere, absolute: ``a.b`` and, for names from it, ``a.b.c``."""
    tree = ast.parse(source, path)
    skipped = type_checking_lines(tree) if run_time_only else set()
    package = module_of(path).split(".")
    if not path.endswith("__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node.lineno not in skipped:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.lineno not in skipped:
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def breaks(
    sources: Sources,
    wrong: Callable[[str, str], bool],
    why: str,
    *,
    run_time_only: bool = False,
) -> list[str]:
    """``path: why name`` for each import that is ``wrong(module, name)``."""
    return sorted(
        f"{path}: {why} {name}"
        for path, source in sources.items()
        for name in set(imports(path, source, run_time_only=run_time_only))
        if wrong(module_of(path), name)
    )


def upper_floors_meet_only_through_files(sources: Sources) -> list[str]:
    """``reid.export`` and ``reid.deploy`` never import each other."""

    def wrong(module: str, name: str) -> bool:
        pair = ("reid.export", "reid.deploy")
        return any(is_in(module, here) and is_in(name, there) for here, there in (pair, pair[::-1]))

    return breaks(sources, wrong, "imports the other upper floor:")


def ground_floor_imports_no_upper_floor(sources: Sources) -> list[str]:
    """Nothing in ``reid`` imports ``reid.export`` or ``reid.deploy``.

    ``reid/__init__.py`` may name them for type checkers: it gives their functions by string.
    """
    sources = {path: text for path, text in sources.items() if path != FRONT_DOOR}

    def wrong(module: str, name: str) -> bool:
        upper = ("reid.export", "reid.deploy")
        return not any(is_in(module, floor) for floor in upper) and any(
            is_in(name, floor) for floor in upper
        )

    return breaks(sources, wrong, "imports an upper floor:")


def the_front_door_loads_nothing(sources: Sources) -> list[str]:
    """``reid/__init__.py`` imports step 0 and the standard library; the rest is by string."""
    front = {path: text for path, text in sources.items() if path == FRONT_DOOR}
    light = {room for room, step in STEPS.items() if step == 0}

    def wrong(module: str, name: str) -> bool:
        return is_in(name, "reid") and name.partition(".")[2].partition(".")[0] not in light

    return breaks(front, wrong, "loads at once:", run_time_only=True)


def steps_go_down(sources: Sources) -> list[str]:
    """A ground-floor room imports lower steps only.

    What only a type checker reads does not count.
    """
    ground = {path: source for path, source in sources.items() if path.startswith("reid/")}
    rooms = {path: module_of(path).partition(".")[2].partition(".")[0] for path in ground}
    found = [
        f"{path}: {room!r} has no step in STEPS"
        for path, room in rooms.items()
        if room not in STEPS
    ]
    known = {path: source for path, source in ground.items() if rooms[path] in STEPS}

    def wrong(module: str, name: str) -> bool:
        here = module.partition(".")[2].partition(".")[0]
        there = name.partition(".")[2].partition(".")[0]
        if not is_in(name, "reid") or there not in STEPS:
            return False
        beside = here != there and STEPS[there] == STEPS[here] > 0
        return STEPS[there] > STEPS[here] or beside

    return found + breaks(known, wrong, "climbs the steps to", run_time_only=True)


def networks_keep_apart(sources: Sources) -> list[str]:
    """No network's package imports another network's."""

    def wrong(module: str, name: str) -> bool:
        homes = [f"reid.models.{network}" for network in NETWORKS]
        return any(
            is_in(module, here) and is_in(name, there)
            for here in homes
            for there in homes
            if here != there
        )

    return breaks(sources, wrong, "imports another network:")


def a_network_is_named_at_home_alone(sources: Sources) -> list[str]:
    """Outside a network's package no string is its name and nothing of it is imported.

    ``reid/models/__init__.py`` alone imports the packages themselves, for its table.
    """
    homes = {network: f"reid.models.{network}" for network in NETWORKS}

    def outside(path: str, network: str) -> bool:
        return not is_in(module_of(path), homes[network]) and path != "reid/models/__init__.py"

    def names(path: str, node: ast.AST) -> bool:
        text = node.value if isinstance(node, ast.Constant) else None
        return isinstance(text, str) and any(
            (text == network or home in text) and outside(path, network)
            for network, home in homes.items()
        )

    def wrong(module: str, name: str) -> bool:
        return any(
            is_in(name, home) and not is_in(module, home) and module != "reid.models"
            for home in homes.values()
        )

    return nodes(sources, names, "names a network") + breaks(sources, wrong, "imports a network:")


def a_network_s_defaults_stand_in_its_settings(sources: Sources) -> list[str]:
    """No argument in a network's package that is named as a setting has a default of its own."""
    found = []
    for network in NETWORKS:
        home = f"reid/models/{network}/"
        tree = ast.parse(sources.get(f"{home}settings.py", ""))
        settings = {
            node.target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }

        def own(path: str, node: ast.AST, settings: set[str] = settings) -> bool:
            if not isinstance(node, ast.FunctionDef):
                return False
            named = [*node.args.posonlyargs, *node.args.args]
            given = zip(named[::-1], node.args.defaults[::-1], strict=False)
            only = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return any(
                argument.arg in settings and isinstance(default, ast.Constant | ast.Tuple)
                for argument, default in (*given, *only)
            )

        inside = {path: text for path, text in sources.items() if path.startswith(home)}
        found += nodes(inside, own, "a default that belongs to the settings")
    return found


def imports_make_no_circle(sources: Sources) -> list[str]:
    """No module imports, through others, itself."""
    modules = {module_of(path): path for path in sources}
    graph = {
        module: {
            name
            for name in imports(path, sources[path], run_time_only=True)
            if name in modules and name != module
        }
        for module, path in modules.items()
    }
    return circles(graph)


def upper_rooms_make_no_circle(sources: Sources) -> list[str]:
    """No room of an upper floor needs, through others, itself: they can be read in an order.

    The ground floor's rooms have their steps.
    """
    rooms = {path: ".".join(module_of(path).split(".")[:3]) for path in sources}
    upper = {path: room for path, room in rooms.items() if not path.startswith("reid/")}
    graph: dict[str, set[str]] = {room: set() for room in upper.values()}
    for path, room in upper.items():
        there = {".".join(name.split(".")[:3]) for name in imports(path, sources[path])}
        graph[room] |= (there & graph.keys()) - {room}
    return circles(graph)


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The first circle of "name -> what it needs", as a rule's finding."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [f"circle: {' <- '.join(error.args[1])}"]
    return []


def the_edge_needs_no_torch(sources: Sources) -> list[str]:
    """Nothing that deploy or the exported files' runners import leads to torch."""
    modules = {module_of(path): path for path in sources}
    reached = {name: name for name in modules if any(is_in(name, root) for root in NO_TORCH)}
    queue, found = list(reached), []
    while queue:
        module = queue.pop()
        names = set(imports(modules[module], sources[modules[module]], run_time_only=True))
        if any(is_in(name, banned) for name in names for banned in TORCH):
            found.append(f"{modules[module]}: torch, through {reached[module]}")
        parts = [name.split(".") for name in (*names, module)]
        # Importing a.b.c runs a and a.b as well.
        runs = {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
        for name in sorted(runs & modules.keys() - reached.keys()):
            reached[name] = f"{reached[module]} -> {name}"
            queue.append(name)
    return found


def rooms_keep_to_their_business(sources: Sources) -> list[str]:
    """No room imports what its row of the house's table forbids."""

    def wrong(module: str, name: str) -> bool:
        return any(
            is_in(module, room) and is_in(name, banned)
            for room, all_banned in BANNED.items()
            for banned in all_banned
        )

    return breaks(sources, wrong, "does not belong here:")


def nodes(sources: Sources, wrong: Callable[[str, ast.AST], bool], why: str) -> list[str]:
    """``path:line: why`` for each syntax node that is ``wrong(path, node)``."""
    return [
        f"{path}:{getattr(node, 'lineno', 0)}: {why}"
        for path, source in sources.items()
        for node in ast.walk(ast.parse(source, path))
        if wrong(path, node)
    ]


def imports_stand_at_the_top(sources: Sources) -> list[str]:
    """Only command files import inside a function."""

    def wrong(path: str, node: ast.AST) -> bool:
        if not {*SPEAKERS}.isdisjoint(Path(path).with_suffix("").parts) or not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef)
        ):
            return False
        return any(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in ast.walk(node))

    return nodes(sources, wrong, "an import inside a function")


def commands_leave_the_work_to_the_api(sources: Sources) -> list[str]:
    """A command opens no model, gallery or detector, and calls no room that does the work."""

    def wrong(module: str, name: str) -> bool:
        opens = name.rpartition(".")[2].startswith("open_")
        works = any(is_in(name, f"reid.{room}") for room in WORK)
        return not {*SPEAKERS}.isdisjoint(module.split(".")) and (opens or works)

    return breaks(sources, wrong, "belongs in the API:", run_time_only=True)


def only_commands_print(sources: Sources) -> list[str]:
    """Nothing but the command files writes to stdout, and they by ``reid.printing`` alone."""

    def wrong(path: str, node: ast.AST) -> bool:
        speaks = not {*SPEAKERS}.isdisjoint(Path(path).with_suffix("").parts)
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        unsafe = called in ("print", "click.echo", "click.secho", "sys.stdout.write")
        return unsafe or (called == "show" and not speaks)

    return nodes(sources, wrong, "prints")


def no_broad_except(sources: Sources) -> list[str]:
    """Errors are caught by name."""

    def wrong(path: str, node: ast.AST) -> bool:
        if path in BROAD_EXCEPTS or not isinstance(node, ast.ExceptHandler):
            return False
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = ("Exception", "BaseException")
        return any(kind is None or ast.unparse(kind) in broad for kind in caught)

    return nodes(sources, wrong, "a broad except")


def no_assert(sources: Sources) -> list[str]:
    """Checks survive ``python -O``."""
    return nodes(sources, lambda _, node: isinstance(node, ast.Assert), "an assert")


def names_say_what_is_inside(sources: Sources) -> list[str]:
    """No module is called utils or the like."""
    named = {path: module_of(path).split(".") for path in sources}
    return [path for path, parts in named.items() if set(parts) & set(BANNED_NAMES)]


def long_files_have_a_reason(sources: Sources) -> list[str]:
    """A file over MAX_LINES stands in LONG_FILES, and nothing else does."""
    long = {path for path, text in sources.items() if len(text.splitlines()) > MAX_LINES}
    return [f"{path}: over {MAX_LINES} lines" for path in sorted(long - LONG_FILES.keys())] + [
        f"{path}: needs no reason any more"
        for path in sorted((LONG_FILES.keys() & sources.keys()) - long)
    ]


PLANTED: list[tuple[Rule, dict[str, str]]] = [
    (upper_floors_meet_only_through_files, {"export/a.py": "from reid import deploy"}),
    (upper_floors_meet_only_through_files, {"deploy/a.py": "import reid.export.onnx"}),
    (
        ground_floor_imports_no_upper_floor,
        {"reid/training/loop.py": "from reid.export import onnx"},
    ),
    (
        ground_floor_imports_no_upper_floor,
        {"reid/cli/__init__.py": "def f():\n import reid.deploy"},
    ),
    (
        ground_floor_imports_no_upper_floor,
        {
            "reid/api/model.py": "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n from reid.export import api"
        },
    ),
    (the_front_door_loads_nothing, {"reid/__init__.py": "from reid.export.api import prove"}),
    (the_front_door_loads_nothing, {"reid/__init__.py": "def f():\n import reid.api.model"}),
    (steps_go_down, {"reid/training/loop.py": "from reid.api import training"}),
    (steps_go_down, {"reid/errors.py": "from reid.model_file.manifest import Manifest"}),
    (steps_go_down, {"reid/models/csn/network.py": "from reid.data import batch"}),
    (steps_go_down, {"reid/attic.py": ""}),
    (steps_go_down, {"reid/losses/drc.py": "from reid.models import layers"}),
    (steps_go_down, {"reid/evaluation/metrics.py": "from reid.training import loop"}),
    (networks_keep_apart, {"reid/models/csn/network.py": "from ..sisnet import resnet"}),
    (a_network_is_named_at_home_alone, {"reid/training/run.py": "x = 'sisnet'"}),
    (a_network_is_named_at_home_alone, {"export/onnx.py": "x = 'reid.models.csn.network:Csn'"}),
    (a_network_is_named_at_home_alone, {"reid/report/a.py": "from reid.models.csn import network"}),
    (a_network_is_named_at_home_alone, {"reid/models/graphs.py": "from reid.models import csn"}),
    (
        a_network_s_defaults_stand_in_its_settings,
        {
            "reid/models/csn/settings.py": "class S:\n divide: bool = True",
            "reid/models/csn/network.py": "def f(x, divide=True): pass",
        },
    ),
    (
        imports_make_no_circle,
        {"reid/training/loop.py": "import reid.x", "reid/x.py": "import reid.training.loop"},
    ),
    (
        upper_rooms_make_no_circle,
        {
            "deploy/cameras/a.py": "from ..gallery.b import x",
            "deploy/gallery/b.py": "",
            "deploy/gallery/c.py": "def f():\n from ..cameras import a",
        },
    ),
    (the_edge_needs_no_torch, {"deploy/gallery.py": "def f():\n import torch"}),
    (
        the_edge_needs_no_torch,
        {
            "deploy/a.py": "from .b import c",
            "deploy/b.py": "from reid.x.y import z",
            "reid/x/__init__.py": "import torch.nn",
            "reid/x/y.py": "",
        },
    ),
    (the_edge_needs_no_torch, {"reid/runtime/onnx_runner.py": "from torch import nn"}),
    (rooms_keep_to_their_business, {"reid/evaluation/metrics.py": "from pathlib import Path"}),
    (rooms_keep_to_their_business, {"reid/types.py": "import torch"}),
    (rooms_keep_to_their_business, {"reid/caffe/files.py": "import torch"}),
    (steps_go_down, {"reid/caffe/files.py": "from reid.models import msp_cnn"}),
    (rooms_keep_to_their_business, {"reid/models/csn/network.py": "from reid import config"}),
    (imports_stand_at_the_top, {"reid/training/loop.py": "def f():\n if x:\n  import torch"}),
    (
        commands_leave_the_work_to_the_api,
        {"deploy/commands/serve.py": "def f():\n from ..gallery.opening import open_gallery"},
    ),
    (
        commands_leave_the_work_to_the_api,
        {"reid/cli/describe.py": "def f():\n from reid.evaluation import evaluating"},
    ),
    (only_commands_print, {"reid/training/loop.py": "print(1)"}),
    (only_commands_print, {"reid/training/loop.py": "show('1')"}),
    (only_commands_print, {"reid/cli/train.py": "click.echo(name)"}),
    (no_broad_except, {"reid/training/loop.py": "try: f()\nexcept Exception: g()"}),
    (no_broad_except, {"reid/training/loop.py": "try: f()\nexcept: g()"}),
    (no_broad_except, {"reid/training/loop.py": "try: f()\nexcept (OSError, Exception): g()"}),
    (no_assert, {"reid/training/loop.py": "assert x"}),
    (names_say_what_is_inside, {"reid/data/utils.py": ""}),
    (names_say_what_is_inside, {"export/common/x.py": ""}),
    (long_files_have_a_reason, {"reid/training/loop.py": "x\n" * (MAX_LINES + 1)}),
]

ALLOWED: list[tuple[Rule, dict[str, str]]] = [
    (upper_floors_meet_only_through_files, {"export/a.py": "from .onnx import x\nimport reid"}),
    (
        ground_floor_imports_no_upper_floor,
        {
            "reid/__init__.py": "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n from reid.deploy.api import Gallery"
        },
    ),
    (
        the_front_door_loads_nothing,
        {
            "reid/__init__.py": "from typing import TYPE_CHECKING\nfrom reid import errors\n"
            "if TYPE_CHECKING:\n from reid.export.api import prove"
        },
    ),
    (ground_floor_imports_no_upper_floor, {"deploy/a.py": "import reid.deploy.bench.latency"}),
    (
        upper_rooms_make_no_circle,
        {
            "deploy/a/x.py": "from ..b import y",
            "deploy/b/y.py": "",
            "deploy/b/z.py": "from . import y",
        },
    ),
    (
        steps_go_down,
        {"reid/model_file/manifest.py": "from reid.model_file.preprocess import Preprocess"},
    ),
    (steps_go_down, {"reid/models/csn/network.py": "from .layers import Inception"}),
    (networks_keep_apart, {"reid/models/csn/network.py": "from ..layers import x"}),
    (steps_go_down, {"reid/models/csn/network.py": "from reid.losses import drc"}),
    (a_network_is_named_at_home_alone, {"reid/models/csn/__init__.py": "x = 'csn'"}),
    (a_network_is_named_at_home_alone, {"reid/models/__init__.py": "from reid.models import csn"}),
    (
        a_network_s_defaults_stand_in_its_settings,
        {
            "reid/models/csn/settings.py": "class S:\n divide: bool = True",
            "reid/models/csn/network.py": "def f(x, divide=DEFAULTS.divide, y=1): pass",
        },
    ),
    (
        steps_go_down,
        {
            "reid/model_file/opening.py": "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n from reid.training import checkpoint"
        },
    ),
    (
        the_edge_needs_no_torch,
        {"deploy/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import torch"},
    ),
    (the_edge_needs_no_torch, {"deploy/a.py": "import reid.x", "reid/y.py": "import torch"}),
    (imports_stand_at_the_top, {"deploy/commands.py": "def f():\n import torch"}),
    (
        commands_leave_the_work_to_the_api,
        {"reid/cli/train.py": "def f():\n from reid.api.training import train"},
    ),
    (only_commands_print, {"reid/cli/train.py": "show('1')"}),
    (imports_stand_at_the_top, {"reid/cli/train.py": "def f():\n import torch"}),
    (no_broad_except, {"reid/training/loop.py": "try: f()\nexcept OSError: g()"}),
    (long_files_have_a_reason, {"reid/training/loop.py": "x\n" * MAX_LINES}),
]

RULES = list(dict.fromkeys(rule for rule, _ in PLANTED))


def rule_name(rule: object) -> str:
    """The rule's own name, for pytest's list."""
    return getattr(rule, "__name__", "")


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_the_shipped_source_keeps(rule: Rule) -> None:
    assert rule(shipped()) == []


@pytest.mark.parametrize(("rule", "house"), PLANTED, ids=rule_name)
def test_a_planted_violation_is_caught_by(rule: Rule, house: dict[str, str]) -> None:
    assert len(rule(house)) >= 1


@pytest.mark.parametrize(("rule", "house"), ALLOWED, ids=rule_name)
def test_what_is_allowed_passes(rule: Rule, house: dict[str, str]) -> None:
    assert rule(house) == []


def test_there_is_source_on_each_floor_to_read() -> None:
    assert {path.partition("/")[0] for path in shipped()} == set(FLOORS)


def test_the_reference_graphs_room_holds_graphs_their_layers_and_words_only() -> None:
    files = [path for path in (ROOT / "prototxt_ref").iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".prototxt", ".md", ".py"}
    assert [path.name for path in files if path.suffix == ".py"] == ["msp_cnn_layers.py"]
