"""Errors as answers: one line of JSON that names no file of the server."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from reid.errors import ConfigError, DataError, InputError, ReidError, UnavailableError
from reid.progress import say

from .gate import problem, problem_headers
from .refusals import Refusal

_OF_THE_REQUEST = (ConfigError, DataError, InputError)


def add_problems(app: FastAPI, gallery: str) -> None:
    """Answer every error; a line that names the ``gallery`` itself goes to stderr instead."""

    async def refused(request: HttpRequest, error: Exception) -> Response:
        return _answer(refusal_of(error, gallery))

    async def failed(request: HttpRequest, error: Exception) -> Response:
        return _answer(Refusal(500, "the server made a mistake; its log says which"))

    for kind in (Refusal, ReidError, HTTPException, RequestValidationError, ValidationError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(Exception, failed)  # which goes on to stderr, with its traceback


def refusal_of(error: Exception, gallery: str) -> Refusal:
    """The answer to an error."""
    line = " ".join(str(error).split())
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, "no such page" if error.status_code == 404 else line)
    if isinstance(error, (RequestValidationError, ValidationError)):
        return Refusal(400, _line_of(error))
    if isinstance(error, UnavailableError):
        return Refusal(503, "the gallery's server does not answer now", retry_after_s=5)
    if isinstance(error, _OF_THE_REQUEST) and gallery not in line:
        return Refusal(400, line)
    say(f"reid: {line}")
    words = "the gallery cannot be used now; the server's log says why"
    return Refusal(503, words, retry_after_s=60)


def _answer(refusal: Refusal) -> Response:
    return Response(problem(refusal), refusal.status, problem_headers(refusal))


def _line_of(error: RequestValidationError | ValidationError) -> str:
    """The first fault of a request: where it is, and what was expected."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("query", "body", "path"))
    return " ".join(f"{place or 'the request'}: {first['msg']}".split())[:300]
