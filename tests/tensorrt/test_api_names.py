"""Every TensorRT name and argument in our sources exists in TensorRT 10.3 and in 11.4.

The uses are read from the syntax tree, not kept by hand: a variable named after what it
holds (``builder``, ``config`` ...) stands for that class.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.tensorrt_fakes import (
    FIRST_STREAM,
    FakeContext,
    FakeDevice,
    FakeEngine,
    FakeRuntime,
    FakeTensorRt,
    Gone,
)

ROOT = Path(__file__).parents[2]
SOURCES = [
    *sorted((ROOT / "export").rglob("*.py")),
    *sorted((ROOT / "reid" / "runtime").glob("tensorrt_*.py")),
]
CLASSES = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "constant": "IConstantLayer",
    "context": "IExecutionContext",
    "convolution": "IConvolutionLayer",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "problem": "ParserError",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
VERSIONS = ("10.3.0", "11.4.0.106")

Use = dict[str, Any]
Look = Callable[[str, object], Any]


def _root_name(node: ast.expr) -> str | None:
    """``engine`` for ``engine``, ``_engine`` and ``self._engine``."""
    if isinstance(node, ast.Name):
        return node.id.lstrip("_")
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr.lstrip("_") if node.value.id == "self" else None
    return None


class Collector(ast.NodeVisitor):
    """The uses of TensorRT in one file that takes ``trt`` as a value."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self._aliases: dict[str, list[str]] = {}

    def _chain(self, node: ast.expr) -> list[str] | None:
        """``trt.A.B``, ``alias.B`` and ``config.b`` -> a path of names in the module."""
        root = _root_name(node)
        if root == "trt":
            return []
        if root in self._aliases:
            return self._aliases[root]
        if root in CLASSES:
            return [CLASSES[root]]
        if isinstance(node, ast.Attribute):
            inner = self._chain(node.value)
            # What lies behind a member of an object is no longer a name of the module.
            if inner is None or (inner and not inner[-1][0].isupper()):
                return None
            return [*inner, node.attr]
        return None

    def _add(self, chain: list[str], kind: str, positional: int, keywords: list[str]) -> None:
        if chain and not chain[-1].startswith("__"):
            self.uses.append(
                {"chain": chain, "kind": kind, "positional": positional, "keywords": keywords}
            )

    def visit_Assign(self, node: ast.Assign) -> None:
        targets, values = [node.targets[0]], [node.value]
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            targets, values = node.targets[0].elts, node.value.elts
        for target, value in zip(targets, values, strict=True):
            chain = self._chain(value) if isinstance(value, ast.Attribute) else None
            if isinstance(target, ast.Name) and chain and _root_name(value) not in CLASSES:
                self._aliases[target.id] = chain
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        chain = self._chain(node.func) if isinstance(node.func, ast.Attribute) else None
        if chain:
            written_out = not any(isinstance(argument, ast.Starred) for argument in node.args)
            assert written_out, f"line {node.lineno}: write the arguments out, to be checked"
            keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
            self._add(chain, "call", len(node.args), keywords)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = self._chain(node)
        if chain:
            self._add(chain, "name", 0, [])
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            chain = self._chain(base) if isinstance(base, ast.Attribute) else None
            for method in node.body if chain else ():
                is_override = isinstance(method, ast.FunctionDef) and method.name in OVERRIDES
                if isinstance(method, ast.FunctionDef) and is_override:
                    count = len(method.args.args) - 1
                    self._add([*(chain or ()), method.name], "override", count, [])
        self.generic_visit(node)


OVERRIDES = {"log", "phase_start", "step_complete", "phase_finish"}


def uses_in(source: str) -> list[Use]:
    collector = Collector()
    collector.visit(ast.parse(source))
    return collector.uses


def project_uses() -> list[Use]:
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    return [use for text in texts if "trt: Any" in text or "_trt" in text for use in uses_in(text)]


def test_the_sources_use_every_class_that_has_a_variable_name() -> None:
    used = {use["chain"][0] for use in project_uses()}
    assert set(CLASSES.values()) <= used
    assert {"Builder", "BuilderFlag", "IProgressMonitor", "ILogger", "DataType"} <= used


def test_names_arguments_aliases_and_overrides_are_collected() -> None:
    source = """
class Monitor(trt.IProgressMonitor):
    def phase_start(self, a, b, c): ...
kinds = trt.LayerType
self._context.execute_async_v3(stream)
config.set_timing_cache(cache, ignore_mismatch=False)
kinds.CONVOLUTION
layer.get_output(0).dtype.name
"""
    found = {(".".join(u["chain"]), u["kind"], u["positional"]) for u in uses_in(source)}
    assert {
        ("IProgressMonitor.phase_start", "override", 3),
        ("IExecutionContext.execute_async_v3", "call", 1),
        ("IBuilderConfig.set_timing_cache", "call", 1),
        ("LayerType.CONVOLUTION", "name", 0),
        ("ILayer.get_output", "call", 1),
    } <= found
    assert not any("dtype" in name for name, _, _ in found)


@pytest.mark.tensorrt
@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_and_argument_exists_in(version: str, look: Look) -> None:
    answer = look(version, project_uses())
    assert answer["version"] == version
    assert not answer["problems"], "\n".join(answer["problems"])


@pytest.mark.tensorrt
@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_or_argument_that_does_not_exist_is_found_in(version: str, look: Look) -> None:
    source = """
config.set_timing_cash(cache)
config.set_timing_cache(cache)
trt.BuilderFlag.FASTER
context.execute_async_v3(stream, 1)
context.execute_async_v3(handle=stream)
class Log(trt.ILogger):
    def log(self, severity): ...
"""
    problems = look(version, uses_in(source))["problems"]
    for name in (
        "IBuilderConfig.set_timing_cash does not exist",
        "IBuilderConfig.set_timing_cache does not take 1",
        "BuilderFlag.FASTER does not exist",
        "IExecutionContext.execute_async_v3 does not take 2",
        "IExecutionContext.execute_async_v3 does not take 0 arguments and ['handle']",
        "ILogger.log is not called with 1",
    ):
        assert any(problem.startswith(name) for problem in problems), (name, problems)


@pytest.mark.tensorrt
def test_the_weak_typing_that_tensorrt_11_removed_is_found_missing(look: Look) -> None:
    source = "config.set_flag(trt.BuilderFlag.FP16)"
    assert look("10.3.0", uses_in(source))["problems"] == []
    assert look("11.4.0.106", uses_in(source))["problems"] == ["BuilderFlag.FP16 does not exist"]


STAND_INS: tuple[type[Gone], ...] = (FakeRuntime, FakeEngine, FakeContext)

WRITTEN = {
    "tuple[int, ...]": "tuple",
    "list[tuple[int, ...]]": "list[Dims]",
    **{stand_in.__name__: stand_in.real for stand_in in STAND_INS},
}
"""An annotation of a stand-in -> the type in the docstrings."""


def stand_in_uses(stand_in: type[Gone]) -> list[Use]:
    """The public methods with their types, and the names of the other members."""
    uses: list[Use] = []
    for name, method in stand_in.strict.items():
        described = inspect.signature(method)
        written = [
            f"{parameter.name}: {_written(parameter.annotation)}"
            for parameter in list(described.parameters.values())[1:]
        ]
        # Sizes are given as a tuple; those returned are of a class of TensorRT's.
        returned = _written(described.return_annotation).replace("tuple", "Dims")
        chain = [stand_in.real, name]
        uses.append({"chain": chain, "kind": "stand-in", "signature": [*written, returned]})
    others = {name for name in vars(stand_in) if name[0] != "_"} - {"real", "strict"}
    return uses + [
        {"chain": [stand_in.real, name], "kind": "name", "positional": 0, "keywords": []}
        for name in sorted(others - set(stand_in.strict))
    ]


def _written(annotation: str) -> str:
    words = annotation.removesuffix(" | None")
    return WRITTEN.get(words, words.rpartition(".")[2] if "[" not in words else words)


@pytest.mark.tensorrt
@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_ins_of_the_runtime_have_the_signatures_of(version: str, look: Look) -> None:
    uses = [use for stand_in in STAND_INS for use in stand_in_uses(stand_in)]
    assert len(uses) >= 17
    assert not look(version, uses)["problems"]


@pytest.mark.tensorrt
def test_a_stand_in_with_another_signature_is_found(look: Look) -> None:
    chain = ["IExecutionContext", "set_tensor_address"]
    for signature in (["name: str", "address: int", "bool"], ["name: str", "memory: str", "bool"]):
        use = {"chain": chain, "kind": "stand-in", "signature": signature}
        assert len(look("10.3.0", [use])["problems"]) == 1


def test_the_stand_ins_refuse_what_the_bindings_refuse() -> None:
    trt = FakeTensorRt(FakeDevice(), "10.3.0")
    context = FakeContext(trt)
    with pytest.raises(TypeError, match="set_tensor_address"):
        context.set_tensor_address("data", None)
    with pytest.raises(TypeError, match="set_input_shape"):
        context.set_input_shape("data", iter((1, 3)))
    trt.device.open_stream()
    with pytest.raises(RuntimeError):
        context.set_optimization_profile_async(5, FIRST_STREAM)
