"""The OpenAPI document: what is served, errors included, so that others can program against it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .messages import Export, Problem, Search, Verdict

NO_TOKEN: dict[str, Any] = {"security": []}
"""Of a route that needs no token."""

_TEMPLATE = "#/components/schemas/{model}"
_BODIES = (Search, Verdict, Export)
"""Messages that routes read themselves, after the kind of a body is known."""

_WORDS = {
    400: "The request is malformed.",
    401: "A valid token is needed.",
    403: "This user may not do this, or the request comes from another site's page.",
    404: "There is no such thing, or it is not kept.",
    408: "The body did not arrive in time.",
    410: "A query is no longer held; send its image again.",
    411: "The header Content-Length is needed.",
    413: "The body is too large.",
    416: "The recording has no such part.",
    501: "The server was started without what this needs.",
    503: "The server is busy, or the gallery cannot be searched; see Retry-After.",
}


def problems(*statuses: int, content: str = "", also: str = "") -> dict[int | str, dict[str, Any]]:
    """The answers of a route beside its success: these errors, and 429 where a token is needed.

    ``content`` is the media type of a success that is no JSON, ``also`` that of another form of it.
    """
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": _WORDS[status]} for status in statuses
    }
    if 401 in statuses:
        words = "Too many wrong tokens from this address; see Retry-After."
        found[429] = {"model": Problem, "description": words}
    schema = {"schema": {"type": "string", "format": "binary"}}
    if content:
        found[200] = {"content": {content: schema}, "description": "As described."}
    if also:
        found[200] = {"content": {also: {"schema": {"type": "string"}}}}
    return found


def body_of(*kinds: str, message: str = "") -> dict[str, Any]:
    """The body of a request: a file of one of these media types, or the message of this name."""
    content: dict[str, Any] = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds
    }
    if message:
        content["application/json"] = {"schema": {"$ref": _TEMPLATE.format(model=message)}}
    return {"requestBody": {"required": True, "content": content}}


def described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What makes the document of an application once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            app.openapi_schema = _completed(made)
        return app.openapi_schema

    return document


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """With bodies' types and the token; without the framework's own shape of errors."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop(str(HTTPStatus.UNPROCESSABLE_ENTITY.value), None)
    for message in _BODIES:
        made = message.model_json_schema(ref_template=_TEMPLATE)
        schemas |= made.pop("$defs", {})
        schemas[message.__name__] = made
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}, {}]
    # Relative to where this document is, so that it holds behind a proxy and under a sub-path.
    document["servers"] = [{"url": "../"}]
    return document
