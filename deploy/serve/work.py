"""Blocking work in pools of threads of known size, away from the loop that reads sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from .refusals import Refusal

SEARCH_THREADS = 4
"""They decode and describe: the first is bounded on its own, the second is one at a time."""

LOOK_THREADS = 4
"""Pictures, frames and lists, which do not wait for searches."""

WRITE_THREADS = 2
"""Verdicts, which may wait for another writer, but stop no search."""

MAX_WAITING = 256
"""Requests that wait for a thread of one pool; more are asked to come again (a choice)."""

T = TypeVar("T")


class Pool:
    """Runs functions in ``threads`` threads, with a bounded queue before them."""

    def __init__(self, name: str, threads: int, waiting: int = MAX_WAITING) -> None:
        self._most = threads + waiting
        self._busy = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"reid-{name}")

    async def run(self, function: Callable[..., T], *details: Any) -> T:
        """The function's result. Raises Refusal where too many wait already."""
        if self._busy >= self._most:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many requests wait; try again", retry_after_s=1
            )
        self._busy += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, function, *details)
        finally:
            self._busy -= 1

    def close(self) -> None:
        """Begin nothing more; does not wait for what runs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Work:
    """The pools of a server."""

    def __init__(self) -> None:
        self.search = Pool("search", SEARCH_THREADS)
        self.look = Pool("look", LOOK_THREADS)
        self.write = Pool("write", WRITE_THREADS)

    def close(self) -> None:
        """See ``Pool.close``."""
        for pool in (self.search, self.look, self.write):
            pool.close()
