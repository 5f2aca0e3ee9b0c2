"""Loading pretrained weights (ImageNet's or re-ID's) into a backbone, or into a whole network.

Nothing is downloaded. A file is safetensors, or a state dict that PyTorch reads without
running code; arrays outside the backbone (a classifier) are listed and not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid.errors import CheckpointError, few_of
from reid.packages import missing
from reid.training.torch_files import load_without_code, misfit

try:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
except ImportError as error:
    raise missing("safetensors", "a file of pretrained weights") from error

NESTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Where a training checkpoint keeps its state dict, one inside another."""

_MOST_NESTS = 8
"""A table may hold itself, so the search has an end."""

_OPTIONAL = ".num_batches_tracked"
"""The end of names that files from before 2018 lack; nothing is computed from them."""

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What was loaded: names of arrays, names that the file lacks (batch counters at most), names
    in the file that the network does not have, and names that stay newly initialised."""

    names: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    new: tuple[str, ...] = ()

    @property
    def loaded(self) -> int:
        """The number of arrays."""
        return len(self.names)

    def words(self) -> str:
        """``318 arrays loaded; not in the file: none; not used: fc.bias, fc.weight``."""
        lists = [("not in the file", self.missing), ("not used", self.unexpected)]
        lists += [("newly initialised", self.new)] if self.new else []
        return "; ".join(
            [f"{self.loaded} arrays loaded", *(f"{what}: {_some(names)}" for what, names in lists)]
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """How the arrays of a file have to fit.

    ``may_be_new`` are names that stay newly initialised where the file lacks them or has another
    shape, or, with ``all_new``, always. ``whole``: a name that the network does not have is refused
    wherever it is. ``what``, ``other_kind`` and ``remedy`` are words for messages.
    """

    what: str = "the network's backbone"
    other_kind: str = "name a file of the same kind of network"
    remedy: str = "name a file of the same depth, or change network.depth"
    may_be_new: Set[str] = frozenset()
    all_new: bool = False
    whole: bool = False


BACKBONE = Fit()


def load_pretrained(backbone: nn.Module, path: Path) -> Pretrained:
    """Load a file's weights into ``backbone``, all of them or none; see ``load_arrays``."""
    return load_arrays(backbone, read_state_dict(path), path, BACKBONE)


def load_arrays(
    module: nn.Module, arrays: Mapping[str, Tensor], path: Path, fit: Fit
) -> Pretrained:
    """Load the arrays of ``path`` into ``module``, all of them or none.

    Toolkits put words before the names (``module.``, ``backbone.``, ``_orig_mod.``, ``encoder.``
    and others, one after another): the prefix under which all of the module's names are found
    is taken off. Numbers of another precision are converted. Raises CheckpointError for a file
    that cannot be read without running code or is damaged, and for weights of another
    architecture: a parameter that is missing, of another shape or not finite, or an unknown one
    inside the module's own layers.
    """
    state = module.state_dict()
    found, prefix = _without_prefix(arrays, state, path, fit)
    new = [name for name in state if name in fit.may_be_new and _stays_new(name, state, found, fit)]
    own = {name: value for name, value in state.items() if name not in new}
    unexpected = sorted(found.keys() - state.keys())
    unused = sorted({*unexpected, *(name for name in arrays if not name.startswith(prefix))})
    missing = [name for name in own if name not in found]
    problems = [f"missing {name}" for name in missing if not name.endswith(_OPTIONAL)]
    problems += _unknown_inside(module, unexpected, fit)
    problems += [
        problem
        for name, value in found.items()
        if name in own and (problem := misfit(name, own[name], value))
    ]
    if problems:
        raise CheckpointError(_another_architecture(path, own, arrays, prefix, problems, fit))
    fitting = {name: value for name, value in found.items() if name in own}
    for name, value in fitting.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {name} contains NaN or infinity; copy or download it again"
            )
    module.load_state_dict(fitting, strict=False)
    return Pretrained(tuple(fitting), tuple(missing), tuple(unused), tuple(new))


def _without_prefix(
    arrays: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, fit: Fit
) -> tuple[dict[str, Tensor], str]:
    """The arrays below the prefix of most names, with it taken off, and the prefix."""
    prefix = _prefix(arrays, [name for name in state if name not in fit.may_be_new], path)
    below = {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    return below, prefix


def _stays_new(
    name: str, state: Mapping[str, Tensor], found: Mapping[str, Tensor], fit: Fit
) -> bool:
    return fit.all_new or name not in found or found[name].shape != state[name].shape


def _unknown_inside(module: nn.Module, unexpected: list[str], fit: Fit) -> list[str]:
    """Names that the module's own layers do not have. Those of a layer that may be new do not
    count: it may have another form in the file, such as with a bias."""
    new_layers = {name.rpartition(".")[0] for name in fit.may_be_new}
    children = {name for name, _ in module.named_children()}
    return [
        f"unexpected {name}"
        for name in unexpected
        if (fit.whole or name.split(".")[0] in children)
        and name.rpartition(".")[0] not in new_layers
    ]


def _prefix(arrays: Mapping[str, Tensor], own: list[str], path: Path) -> str:
    """What stands before the module's names in the file: where most of them are found.

    Raises CheckpointError where all of them are found under several prefixes.
    """
    needed = [name for name in own if not name.endswith(_OPTIONAL)]
    counts = Counter(
        name[: len(name) - len(wanted)]
        for wanted in needed
        for name in arrays
        if name == wanted or name.endswith(f".{wanted}")
    )
    whole = [prefix for prefix, count in counts.items() if count == len(needed)]
    if len(whole) > 1:
        shown = _some([repr(prefix) for prefix in whole])
        raise CheckpointError(
            f"{path} holds several networks, under the prefixes {shown}; save one"
        )
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")


def _another_architecture(
    path: Path,
    own: Mapping[str, Tensor],
    arrays: Mapping[str, Tensor],
    prefix: str,
    problems: list[str],
    fit: Fit,
) -> str:
    """Why a file does not fit, with what to do: another file, or another depth."""
    fitting = sum(f"{prefix}{name}" in arrays for name in own)
    under = f" under the prefix {_some([prefix])!r}" if prefix else ""
    if 2 * fitting < len(own):
        return (
            f"{path} does not hold {fit.what}: {fitting} of its {len(own)} arrays are "
            f"there{under}; expected names such as {_some(list(own)[:2])}, found "
            f"{_some(list(arrays)[:2])}; {fit.other_kind}"
        )
    return (
        f"{path} holds weights of another architecture{under}: {_some(problems, '; ')}; "
        f"{fit.remedy}"
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name, on the CPU, unchanged.

    ``.safetensors`` by suffix; anything else is a file of ``torch.save``, a state dict or a
    training checkpoint with one in it. Raises CheckpointError.
    """
    return state_dict_from_body(read_body(path, "nothing is downloaded: put the file there"), path)


def read_body(path: Path, absent: str) -> Any:
    """What a file of weights holds, read without running code. Raises CheckpointError.

    ``absent`` says what to do where there is none.
    """
    what = "weights file"
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except FileNotFoundError:
            raise CheckpointError(f"no {what} {path}; {absent}") from None
        except (SafetensorError, OSError, LookupError, ValueError) as error:
            raise CheckpointError(f"{path} is not a {what} ({error}); copy it again") from None
    remedy = "save the state dict alone: torch.save(model.state_dict(), FILE)"
    return load_without_code(path, what, absent, remedy, numpy_scalars=True)


def state_dict_from_body(body: Any, path: Path) -> dict[str, Tensor]:
    """The named arrays of a file's content, or of a table in it. Raises CheckpointError."""
    for _ in range(_MOST_NESTS):
        if isinstance(body, dict):
            inner = (body[nest] for nest in NESTS if isinstance(body.get(nest), dict))
            body = next(inner, body)
    entries = body.items() if isinstance(body, dict) else ()
    arrays = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}
    if not arrays:
        raise CheckpointError(f"{path} is not a state dict: expected named arrays, found none")
    return arrays


def _some(words: list[str] | tuple[str, ...], between: str = ", ") -> str:
    """The first few, on one line whatever characters the names contain."""
    plain = [word if word.isprintable() else ascii(word) for word in words]
    return few_of(plain, _SHOWN, between) or "none"
