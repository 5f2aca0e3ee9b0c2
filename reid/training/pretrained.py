"""Loading pretrained weights (ImageNet's or re-ID's) into a backbone.

Nothing is downloaded. A file is safetensors, or a state dict that PyTorch reads without
running code; arrays outside the backbone (a classifier) are listed and not used.
"""

from __future__ import annotations

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

PREFIXES = ("module.", "backbone.", "base.")
"""Prefixes that DataParallel and re-ID toolkits add to a backbone's names, in any order."""

NESTS = ("state_dict", "model")
"""Keys of the state dict in a training checkpoint."""

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

    ``PREFIXES`` are removed; numbers of another precision are converted. Raises CheckpointError
    for a file that cannot be read without running code or is damaged, and for weights of another
    architecture: a parameter that is missing, of another shape or not finite, or an unknown one
    inside the backbone's own layers.
    """
    found = _without_prefixes(read_state_dict(path), path)
    own = backbone.state_dict()
    children = {name for name, _ in backbone.named_children()}
    missing = [name for name in own if name not in found]
    unexpected = sorted(found.keys() - own.keys())
    problems = [f"missing {name}" for name in missing if not name.endswith(_OPTIONAL)]
    problems += [f"unexpected {name}" for name in unexpected if name.split(".")[0] in children]
    problems += [
        problem
        for name, value in found.items()
        if name in own and (problem := misfit(name, own[name], value))
    ]
    if problems:
        raise CheckpointError(
            f"{path} has weights of another architecture: {_some(problems, '; ')}; name a file "
            "of the same depth, or change network.depth"
        )
    fitting = {name: value for name, value in found.items() if name in own}
    for name, value in fitting.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {name} contains NaN or infinity; download it again")
    backbone.load_state_dict(fitting, strict=False)
    return Pretrained(len(fitting), tuple(missing), tuple(unexpected))


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
    body = load_without_code(path, what, absent, remedy)
    for nest in NESTS:
        if isinstance(body, dict) and isinstance(body.get(nest), dict):
            body = body[nest]
    entries = body.items() if isinstance(body, dict) else ()
    arrays = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}
    if not arrays:
        raise CheckpointError(f"{path} is not a state dict: expected named arrays, found none")
    return arrays


def _without_prefixes(arrays: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Raises CheckpointError if two names become the same."""
    stripped: dict[str, Tensor] = {}
    for name, value in arrays.items():
        while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
            name = name.removeprefix(prefix)
        if name in stripped:
            raise CheckpointError(
                f"{path} has two networks: it has {_some([name])} under two prefixes; save only one"
            )
        stripped[name] = value
    return stripped


def _some(words: list[str] | tuple[str, ...], between: str = ", ") -> str:
    """The first few, on one line whatever characters the names contain."""
    plain = [word if word.isprintable() else ascii(word) for word in words]
    return few_of(plain, _SHOWN, between) or "none"
