"""A request that is refused, with its status and one line."""

from __future__ import annotations

from http import HTTPStatus


class Refusal(Exception):
    """A request is refused with this status and one line.

    ``retry_after_s`` says when it may be sent again (0: not said); ``gone`` lists the hashes of
    queries that are no longer held.
    """

    def __init__(
        self,
        status: int,
        line: str,
        *,
        retry_after_s: int = 0,
        gone: tuple[str, ...] = (),
    ) -> None:
        super().__init__(line)
        self.status = HTTPStatus(status)
        self.retry_after_s = retry_after_s
        self.gone = gone
