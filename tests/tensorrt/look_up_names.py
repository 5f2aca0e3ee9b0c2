"""Looks names and arguments up in the TensorRT bindings on the path; prints what is missing.

Its own process: with TensorRT 10's bindings anything but looking crashes here.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import tensorrt_bindings as trt

Signature = list[tuple[str, bool]]
"""A parameter's name and whether it has a default, without ``self``."""

TYPES = {
    "buffer": "bytes",
    "typing_extensions.Buffer": "bytes",
    "typing.SupportsInt": "int",
    "List[Dims]": "list[Dims]",
}
"""A type in a docstring, without the module's name -> the one that a stand-in says."""


def resolve(chain: list[str]) -> Any:
    """``["LayerType", "CONSTANT"]`` -> the value. Raises AttributeError."""
    value: Any = trt
    for name in chain:
        value = getattr(value, name)
    return value


def signatures(function: Any) -> list[Signature]:
    """The overloads in a docstring of pybind11."""
    return [[_parameter(part) for part in parts] for parts, _ in _overloads(function)]


def typed_signatures(function: Any) -> list[list[str]]:
    """The overloads as ``["name: int", ..., "bool"]``: the parameters, then what is returned."""
    return [
        [*(f"{_parameter(part)[0]}: {_type(part)}" for part in parts), _type(f"_: {returned}")]
        for parts, returned in _overloads(function)
    ]


def _type(text: str) -> str:
    """``self: tensorrt_bindings.tensorrt.Dims = 1`` -> ``Dims``."""
    words = text.partition(":")[2].partition(" = ")[0].strip()
    words = words.replace("tensorrt_bindings.tensorrt.", "")
    return TYPES.get(words, words)


def _overloads(function: Any) -> list[tuple[list[str], str]]:
    """Parameters without ``self``, and what is returned."""
    found = []
    for line in (function.__doc__ or "").splitlines():
        match = re.match(r"\s*(?:\d+\. )?\w+\((self: .*)\) -> (.*)", line)
        if match:
            found.append((_split(match[1])[1:], match[2]))
    return found


def _split(text: str) -> list[str]:
    """At the commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _parameter(text: str) -> tuple[str, bool]:
    return text.partition(":")[0].strip(), " = " in text


def accepts(signature: Signature, positional: int, keywords: list[str]) -> bool:
    names = [name for name, _ in signature]
    required = {name for name, has_default in signature[positional:] if not has_default}
    return positional <= len(names) and required <= set(keywords) <= set(names[positional:])


def problem_of(use: dict[str, Any]) -> str:
    """Empty, or what the bindings lack of one use."""
    name = ".".join(use["chain"])
    try:
        value = resolve(use["chain"])
    except AttributeError:
        return f"{name} does not exist"
    if use["kind"] == "stand-in":
        typed = typed_signatures(value)
        return "" if use["signature"] in typed else f"{name} is {typed}, not {use['signature']}"
    known = signatures(value.__init__ if isinstance(value, type) else value)
    if use["kind"] == "call" and not any(
        accepts(signature, use["positional"], use["keywords"]) for signature in known
    ):
        return f"{name} does not take {use['positional']} arguments and {use['keywords']}: {known}"
    if use["kind"] == "override" and not any(len(s) == use["positional"] for s in known):
        return f"{name} is not called with {use['positional']} arguments: {known}"
    return ""


if __name__ == "__main__":
    problems = [problem_of(use) for use in json.load(sys.stdin)]
    json.dump({"version": trt.__version__, "problems": [p for p in problems if p]}, sys.stdout)
