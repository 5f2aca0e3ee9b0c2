"""Weights that were trained elsewhere, put into a backbone: ImageNet's, or re-ID's.

Nothing is downloaded. A file is safetensors, or a state dict that PyTorch reads without
running code; what it has beside the backbone (a classifier) stays unused and is named.
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
"""What DataParallel and the re-ID toolkits put before a backbone's names, in any order."""

NESTS = ("state_dict", "model")
"""Where a training checkpoint keeps its state dict."""

_OPTIONAL = ".num_batches_tracked"
"""Ends the names that files of before 2018 lack; nothing is computed from them."""

_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What was put in: the number of arrays, the backbone's that the file lacks (counters of
    batches, at most), and the file's that the backbone has no place for."""

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
    """Put a file's weights into ``backbone``, all of them or none.

    Prefixes of ``PREFIXES`` are taken off; numbers of another precision are converted. Raises
    CheckpointError for a file that cannot be read without running code or is damaged, and for
    weights of another architecture: a parameter that is missing, of another shape or not
    finite, or an unknown one inside the backbone's own layers.
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
            f"{path} holds weights of another architecture: {_some(problems, '; ')}; name a file "
            "of the same depth, or change network.depth"
        )
    fitting = {name: value for name, value in found.items() if name in own}
    for name, value in fitting.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {name} is not finite everywhere; fetch it anew")
    backbone.load_state_dict(fitting, strict=False)
    return Pretrained(len(fitting), tuple(missing), tuple(unexpected))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name, on the CPU, as they stand in it.

    ``.safetensors`` by suffix; anything else is a file of ``torch.save``, a state dict or a
    training checkpoint with one in it. Raises CheckpointError.
    """
    what, absent = "file of weights", "nothing is downloaded: put one there"
    if path.suffix.lower() == ".safetensors":
        try:
            return load_file(path)
        except FileNotFoundError:
            raise CheckpointError(f"no {what} {path}; {absent}") from None
        except (SafetensorError, OSError, LookupError, ValueError) as error:
            raise CheckpointError(f"{path} is no {what} ({error}); copy it anew") from None
    remedy = "save the state dict alone: torch.save(model.state_dict(), FILE)"
    body = load_without_code(path, what, absent, remedy)
    for nest in NESTS:
        if isinstance(body, dict) and isinstance(body.get(nest), dict):
            body = body[nest]
    entries = body.items() if isinstance(body, dict) else ()
    arrays = {k: v for k, v in entries if isinstance(k, str) and isinstance(v, Tensor)}
    if not arrays:
        raise CheckpointError(f"{path} is no state dict: expected named arrays, found none")
    return arrays


def _without_prefixes(arrays: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Raises CheckpointError where two names become one."""
    stripped: dict[str, Tensor] = {}
    for name, value in arrays.items():
        while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
            name = name.removeprefix(prefix)
        if name in stripped:
            raise CheckpointError(
                f"{path} holds two networks: {_some([name])} stands in it under two prefixes; "
                "save one"
            )
        stripped[name] = value
    return stripped


def _some(words: list[str] | tuple[str, ...], between: str = ", ") -> str:
    """The first few of them, on one line whatever a file's names hold."""
    plain = [word if word.isprintable() else ascii(word) for word in words]
    return few_of(plain, _SHOWN, between) or "none"
