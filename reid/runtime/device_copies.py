"""Copies of stored arrays on a GPU, kept for the next query as long as the arrays live."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

from torch import Tensor

from reid.types import FloatArray

Copy = Callable[[FloatArray], Tensor]


class DeviceCopies:
    """Tensors of arrays by ``copy``; those of read-only arrays are kept, up to ``budget_bytes``.

    An array is recognised as the same object, and read-only says that its values never change. A
    stored gallery is read from its beginning to its end for each query, so what was kept first
    stays, and the rest is copied again. Of that rest, the arrays of the last call are kept too,
    because a batch is compared with several queries in a row. A copy goes when its array goes.
    """

    def __init__(self, copy: Copy, budget_bytes: int) -> None:
        self._copy = copy
        self._left = budget_bytes
        self._kept: dict[int, tuple[weakref.ref[FloatArray], Tensor]] = {}
        self._last: dict[int, tuple[weakref.ref[FloatArray], Tensor]] = {}
        # Reentrant: an array may go, and its copy with it, while another is being kept.
        self._lock = threading.RLock()

    def of(self, arrays: Sequence[FloatArray]) -> list[Tensor]:
        """The arrays on the device, in order; nothing may write to the tensors."""
        with self._lock:
            last, self._last = self._last, {}
            return [self._of(array, last) for array in arrays]

    def _of(
        self, array: FloatArray, last: dict[int, tuple[weakref.ref[FloatArray], Tensor]]
    ) -> Tensor:
        key = id(array)
        found = self._kept.get(key) or last.get(key)
        if found is None or found[0]() is not array:
            found = (weakref.ref(array), self._copy(array))
        if array.flags.writeable or key in self._kept:
            return found[1]
        if array.nbytes > self._left:
            self._last[key] = found
            return found[1]
        self._left -= array.nbytes
        num_bytes = array.nbytes
        self._kept[key] = (weakref.ref(array, lambda _: self._drop(key, num_bytes)), found[1])
        return found[1]

    def _drop(self, key: int, num_bytes: int) -> None:
        with self._lock:
            del self._kept[key]
            self._left += num_bytes
