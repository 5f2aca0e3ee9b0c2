"""Configurations as TOML: recipe, then a file, then ``key=value`` overrides.

The error for an unknown recipe or key names the nearest one; that for a value of the wrong
type says what was expected. ``config_from_toml`` reads back what ``config_to_toml`` wrote.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import tomli_w

from reid.config.settings import TrainConfig
from reid.errors import ConfigError, nearest
from reid.models import default_settings, network_named
from reid.models.description import NetworkSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Section = TypeVar("Section")

MAX_CHARACTERS = 1 << 20
MAX_DOTS = 100
"""No configuration comes near: a reader of TOML takes the square of the dots in a key."""

_SHOWN = 80


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the package, sorted."""
    folder = resources.files("reid.config.recipes")
    return tuple(
        sorted(f.name[: -len(".toml")] for f in folder.iterdir() if f.name.endswith(".toml"))
    )


def load_recipe(name: str) -> TrainConfig:
    """The configuration of a recipe. Raises ConfigError for an unknown one, naming the nearest."""
    return resolve_config(name)


def resolve_config(
    recipe: str,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    *,
    optimizer: Mapping[str, Any] = MappingProxyType({}),
    first_stage: Mapping[str, Any] = MappingProxyType({}),
) -> TrainConfig:
    """Recipe, overridden by a solver, ``file`` and ``overrides`` (``"a.b=value"``), in this order.

    A value is TOML, or a bare word.

    A solver's settings go into ``optimizer`` and the recipe's first stage, which keeps its name
    and losses. ``stages`` in a file replaces all of them; in an override,
    ``stages.0.epochs=3`` changes one stage. The ``config.toml`` of a run replaces the whole recipe.
    Raises ConfigError.
    """
    names = recipe_names()
    if recipe not in names:
        raise ConfigError(
            f"unknown recipe {recipe!r}{nearest(recipe, names)}; recipes: {', '.join(names)}"
        )
    text = (resources.files("reid.config.recipes") / f"{recipe}.toml").read_text(encoding="utf-8")
    tree = parsed_toml(text, f"recipe {recipe}")
    tree["recipe"] = recipe
    _merge(tree.setdefault("optimizer", {}), optimizer)
    if first_stage:
        _merge(tree["stages"][0], first_stage)
    if file is not None:
        try:
            content = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration {file}: {error}") from None
        own = parsed_toml(content, str(file))
        if _is_of_a_run(own):
            # It has every setting of its time. What has become one since has its default, which is
            # what that run did, not what the recipe says today.
            tree = {}
        _merge(tree, own)
        tree["recipe"] = recipe
    for override in overrides:
        _apply_override(tree, override)
    return config_from_tree(tree)


def _is_of_a_run(tree: Mapping[str, Any]) -> bool:
    """Whether a configuration was written by a run: it has all parts, and names its recipe."""
    return {"recipe", "network", "preprocess", "data", "sampler", "stages"} <= tree.keys()


def config_from_toml(text: str, where: str) -> TrainConfig:
    """Read back what ``config_to_toml`` wrote. Raises ConfigError."""
    return config_from_tree(parsed_toml(text, where))


def config_to_toml(config: TrainConfig) -> str:
    """Every setting, as TOML."""
    return tomli_w.dumps(dataclasses.asdict(config))


def config_from_tree(tree: Mapping[str, Any]) -> TrainConfig:
    """Nested dictionaries -> TrainConfig; every key and value checked."""
    return _build(TrainConfig, tree, "")


def parsed_toml(text: str, where: str) -> dict[str, Any]:
    """A TOML text as nested dictionaries. Raises ConfigError, which names ``where`` it is from."""
    _check_size(text, where)
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise ConfigError(f"{where} is not valid TOML: {_short(str(error))}") from None
    return tree


def _check_size(text: str, where: str) -> None:
    """Raise ConfigError for a text that would keep the TOML reader busy for minutes."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"{where} has {len(text):,} characters, expected at most {MAX_CHARACTERS:,}"
        )
    for number, line in enumerate(text.splitlines(), start=1):
        key = line.partition("=")[0]
        if key.count(".") > MAX_DOTS or line.count("[") > MAX_DOTS:
            raise ConfigError(
                f"{where}, line {number}: expected at most {MAX_DOTS} dots in a key and as many "
                f"brackets, found {_short(line)}"
            )


def _short(text: str) -> str:
    """The beginning of a text, as it can be shown."""
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _merge(into: dict[str, Any], extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set needs key=value, found {_short(override)!r}")
    _check_size(override, "--set")
    try:
        value = tomllib.loads(f"value = {raw.strip()}")["value"]
    except (ValueError, RecursionError) as error:
        value = raw.strip()  # a bare word is a string
        if value.startswith(("[", "{")):  # a list or a table, and no word
            why = str(error).partition(" (at ")[0]  # its position counts from "value ="
            raise ConfigError(
                f"--set {_short(override)} is not valid TOML: {_short(why)}; strings in a list or "
                "table need quotes, and a table stands on one line"
            ) from None
    parts = key.strip().split(".")
    node: Any = tree
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise ConfigError(
                    f"--set {key}: {part!r} must be a position from 0 to {len(node) - 1}"
                )
            if last:
                raise ConfigError(f"--set {key}: {part} is a table; name a key inside it")
            node = node[int(part)]
        elif not isinstance(node, dict):
            raise ConfigError(f"--set {key}: {'.'.join(parts[:depth])} has no keys")
        elif last:
            node[part] = value
        else:
            node = node.setdefault(part, {})


def _build(kind: type[Section], tree: Any, where: str) -> Section:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where or 'the configuration'} must be a table, found {tree!r}")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{where}.{key}" if where else key
        if key not in hints:
            raise ConfigError(f"unknown setting {path!r}{nearest(key, hints)}")
        values[key] = _convert(hints[key], value, path)
    return kind(**values)


def _convert(hint: Any, value: Any, path: str) -> Any:
    if hint is NetworkSettings:
        hint = _settings_of_network(value)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, path)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _convert_sequence(args, value, path)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a table, found {value!r}")
        return {str(k): _convert(args[1], v, f"{path}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path} must be {hint.__name__}, found {value!r}")
    return value


def _settings_of_network(tree: Any) -> type[NetworkSettings]:
    """The class of a network's settings, by the network's name."""
    name = tree.get("name") if isinstance(tree, Mapping) else None
    return network_named(str(name)).settings if name is not None else type(default_settings())


def _convert_sequence(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{path} must be a list, found {value!r}")
    if args[-1] is Ellipsis:
        return tuple(_convert(args[0], item, f"{path}.{i}") for i, item in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{path} must have {len(args)} values, found {len(value)}")
    return tuple(
        _convert(hint, item, f"{path}.{i}")
        for i, (hint, item) in enumerate(zip(args, value, strict=True))
    )
