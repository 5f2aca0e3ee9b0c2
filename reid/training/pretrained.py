"""Loading pretrained weights (ImageNet's or re-ID's) into a backbone.

Nothing is downloaded. A file is safetensors, or a state dict that PyTorch reads without
running code; arrays outside the backbone (a classifier) are listed and not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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

_OPTIONAL = ".num_batches_tracked"
"""The end of names that files from before 2018 lack; nothing is computed from them."""

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What was loaded: the number of arrays, names that the file lacks (batch counters at most),
    and names in the file that the backbone does not have."""

    loaded: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def words(self) -> str:
        """``318 arrays loaded; not in the file: none; not used: fc.bias, fc.weight``."""
        lists = (("not in the file", self.missing), ("not used", self.unexpected))
        return "; ".join(
            [f"{self.loaded} arrays loaded", *(f"{what}: {_some(names)}" for what, names in lists)]
        )


def load_pretrained(backbone: nn.Module, path: Path) -> Pretrained:
    """Load a file's weights into ``backbone``, all of them or none.

    Toolkits put words before the names (``module.``, ``backbone.``, ``_orig_mod.``, ``encoder.``
    and others, one after another): the prefix under which all of the backbone's names are found
    is taken off. Numbers of another precision are converted. Raises CheckpointError for a file
    that cannot be read without running code or is damaged, and for weights of another
    architecture: a parameter that is missing, of another shape or not finite, or an unknown one
    inside the backbone's own layers.
    """
    own = backbone.state_dict()
    arrays = read_state_dict(path)
    prefix = _prefix(arrays, own, path)
    found = {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
    children = {name for name, _ in backbone.named_children()}
    missing = [name for name in own if name not in found]
    unexpected = sorted(found.keys() - own.keys())
    unused = sorted({*unexpected, *(name for name in arrays if not name.startswith(prefix))})
    problems = [f"missing {name}" for name in missing if not name.endswith(_OPTIONAL)]
    problems += [f"unexpected {name}" for name in unexpected if name.split(".")[0] in children]
    problems += [
        problem
        for name, value in found.items()
        if name in own and (problem := misfit(name, own[name], value))
    ]
    if problems:
        raise CheckpointError(_another_architecture(path, own, arrays, prefix, problems))
    fitting = {name: value for name, value in found.items() if name in own}
    for name, value in fitting.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {name} contains NaN or infinity; download it again")
    backbone.load_state_dict(fitting, strict=False)
    return Pretrained(len(fitting), tuple(missing), tuple(unused))


def _prefix(arrays: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> str:
    """What stands before the backbone's names in the file: where most of them are found.

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
) -> str:
    """Why a file does not fit, with what to do: another file, or another depth."""
    fitting = sum(f"{prefix}{name}" in arrays for name in own)
    under = f" under the prefix {_some([prefix])!r}" if prefix else ""
    if 2 * fitting < len(own):
        return (
            f"{path} does not hold the network's backbone: {fitting} of its {len(own)} arrays are "
            f"there{under}; expected names such as {_some(list(own)[:2])}, found "
            f"{_some(list(arrays)[:2])}; name a file of the same kind of network"
        )
    return (
        f"{path} holds weights of another architecture{under}: {_some(problems, '; ')}; name a "
        "file of the same depth, or change network.depth"
    )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name, on the CPU, unchanged.

    ``.safetensors`` by suffix; anything else is a file of ``torch.save``, a state dict or a
    training checkpoint with one in it. Raises CheckpointError.
    """
    what, absent = "weights file", "nothing is downloaded: put the file there"
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except FileNotFoundError:
            raise CheckpointError(f"no {what} {path}; {absent}") from None
        except (SafetensorError, OSError, LookupError, ValueError) as error:
            raise CheckpointError(f"{path} is not a {what} ({error}); copy it again") from None
    remedy = "save the state dict alone: torch.save(model.state_dict(), FILE)"
    body = load_without_code(path, what, absent, remedy, numpy_scalars=True)
    while isinstance(body, dict) and (
        inner := next((body[nest] for nest in NESTS if isinstance(body.get(nest), dict)), None)
    ):
        body = inner
    entries = body.items() if isinstance(body, dict) else ()
    arrays = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}
    if not arrays:
        raise CheckpointError(f"{path} is not a state dict: expected named arrays, found none")
    return arrays


def _some(words: list[str] | tuple[str, ...], between: str = ", ") -> str:
    """The first few, on one line whatever characters the names contain."""
    plain = [word if word.isprintable() else ascii(word) for word in words]
    return few_of(plain, _SHOWN, between) or "none"
