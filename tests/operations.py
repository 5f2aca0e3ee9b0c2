"""Counting the operations that PyTorch starts, and those for whose end a processor waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Operations(TorchDispatchMode):
    """Counts every operation, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        self.counts[operation.overloadpacket.__name__] += 1
        return operation(*arguments, **(named or {}))


class Waits(TorchDispatchMode):
    """Names the operations for whose end a processor waits, if meta tensors were on a GPU: reading
    a number, a result whose shape depends on values, a copy between the two memories."""

    ALWAYS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self,
        operation: Any,
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        name = operation.overloadpacket.__name__
        given = [x for x in tree_leaves((arguments, named)) if isinstance(x, Tensor)]
        places = {x.device.type for x in given}
        chosen = arguments[1] if name == "index" else ()
        masks = any(x is not None and x.dtype == torch.bool for x in chosen)
        if "meta" in places and (name in self.ALWAYS or masks):
            self.names.append(name)
        out = operation(*arguments, **(named or {}))
        places |= {x.device.type for x in tree_leaves(out) if isinstance(x, Tensor)}
        if len(places) > 1:
            self.names.append(name)
        return out


@contextmanager
def counted() -> Iterator[Counter[str]]:
    mode = Operations()
    with mode:
        yield mode.counts
