"""What is closed at the end of a ``with`` block."""

from __future__ import annotations

from typing import Protocol, TypeVar

Opened = TypeVar("Opened", bound="Closeable")


class Closeable(Protocol):
    """A context manager that calls its own ``close`` at the end."""

    def close(self) -> None:
        """Release what it holds."""
        ...

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
