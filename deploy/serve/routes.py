"""The routes of the HTTP API and the page's files, as a FastAPI application."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import resources
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query
from fastapi import Path as PathPart
from fastapi import Request as HttpRequest
from fastapi.responses import FileResponse, JSONResponse, Response

from reid import __version__
from reid.errors import ReidError

from . import messages
from .gate import Request, is_json
from .messages import MAX_MATCHES, MAX_NAMES
from .metrics import Metrics
from .openapi import NO_TOKEN, body_of, described, problems
from .problems import add_problems
from .refusals import Refusal
from .service import Asked, GalleryService, box_from_text, where_asked
from .users import CONFIRM, EXPORT, SEARCH
from .work import Work

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
_IMAGE_TYPES = ("application/octet-stream", "image/jpeg", "image/png", "image/bmp", "image/webp")

Box = Annotated[
    str, Query(description="left,top,width,height in pixels; the whole image without it")
]
Number = Annotated[
    str, PathPart(pattern=r"^-?[0-9]{1,19}$", description="an image's id in the gallery")
]


def page_files() -> dict[str, tuple[bytes, str]]:
    """Path -> content and media type of the page's files."""
    found = {}
    for file in resources.files(__package__).iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if file.name.startswith("page.") and suffix in _KINDS:
            path = "/" if file.name == "page.html" else f"/{file.name}"
            found[path] = (file.read_bytes(), _KINDS[suffix])
    return found


def application(
    service: GalleryService, work: Work, metrics: Metrics, files: Mapping[str, tuple[bytes, str]]
) -> FastAPI:
    """All routes; the gate stands before them."""
    app = FastAPI(
        title="reid serve",
        version=__version__,
        description="Search a gallery of people by images.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    add_problems(app, service.name)
    add_searches(app, service, work)
    add_pictures(app, service, work)
    add_verdicts(app, service, work)
    add_evidence(app, service, work)
    add_operations(app, service, work, metrics)

    @app.get("/api/openapi.json", tags=["operations"], responses=problems(401))
    async def openapi() -> dict[str, Any]:
        """This document."""
        return app.openapi()

    for path, file in files.items():
        app.add_api_route(path, _file_of(*file), include_in_schema=False)
    app.openapi = described(app)  # type: ignore[method-assign]
    return app


def needs(right: str) -> Any:
    """The dependency of a route that only users with this right may call."""

    async def check(request: HttpRequest) -> None:
        user = request_of(request).user
        if right not in user.may:
            raise Refusal(403, f"{user.name} may not {right}; change the file of users")

    return Depends(check)


def request_of(request: HttpRequest) -> Request:
    """What the gate found out about a request."""
    found: Request = request.state.request
    return found


def add_searches(app: FastAPI, service: GalleryService, work: Work) -> None:
    """The gallery's summary, searches and queries."""

    @app.get("/api/gallery", tags=["search"], responses=problems(401, 403))
    async def gallery(request: HttpRequest) -> messages.Gallery:
        """What is in the gallery, to filter by, and what this user may do."""
        user = request_of(request).user
        if not user.may:
            raise Refusal(403, f"{user.name} may not search")
        return messages.Gallery(**await work.look.run(service.summary, user))

    @app.post(
        "/api/search",
        tags=["search"],
        dependencies=[needs(SEARCH)],
        openapi_extra=body_of(*_IMAGE_TYPES, message="Search"),
        responses=problems(400, 401, 403, 404, 408, 410, 411, 413, 503),
    )
    async def search(
        request: HttpRequest,
        k: Annotated[int, Query(ge=1, le=MAX_MATCHES)] = 20,
        box: Box = "",
        camera: Annotated[list[str], Query(max_length=MAX_NAMES)] = [],  # noqa: B006
        person: Annotated[list[str], Query(max_length=MAX_NAMES)] = [],  # noqa: B006
        since: str = "",
        until: str = "",
    ) -> messages.Found:
        """Search for the person of an image file, with the filters of the URL; or, with JSON, for
        several held queries and images of the gallery at once."""
        content, known = await request.body(), request_of(request)
        if is_json(request.headers.get("content-type", "")):
            said = messages.Search.model_validate_json(content)
            asked = Asked(
                said.k,
                where_asked(said.people, said.cameras, said.since, said.until),
                tuple(dict.fromkeys(said.queries)),
                tuple(dict.fromkeys(map(int, said.ids))),
                said.learn,
                said.show_different,
            )
            known.log |= {"queries": list(asked.queries), "ids": list(map(str, asked.ids))}
            return messages.Found(**await work.search.run(service.search_held, asked, known.user))
        asked = Asked(k, where_asked(person, camera, since, until))
        found = await work.search.run(
            service.search_image, content, box_from_text(box), asked, known.user
        )
        known.log |= {"queries": [found["query"]]}
        return messages.Found(**found)

    @app.post(
        "/api/queries",
        tags=["search"],
        dependencies=[needs(SEARCH)],
        openapi_extra=body_of(*_IMAGE_TYPES),
        responses=problems(400, 401, 403, 408, 411, 413, 503),
    )
    async def hold(request: HttpRequest, box: Box = "") -> messages.Held:
        """Describe an image, and hold it as a query for half an hour."""
        content, known = await request.body(), request_of(request)
        held = await work.search.run(service.hold, content, box_from_text(box), known.user)
        known.log |= {"queries": [held.name]}
        return messages.Held(query=held.name, width=held.width, height=held.height)

    @app.post(
        "/api/people",
        tags=["search"],
        dependencies=[needs(SEARCH)],
        openapi_extra=body_of(*_IMAGE_TYPES),
        responses=problems(400, 401, 403, 408, 411, 413, 501, 503),
    )
    async def people(request: HttpRequest) -> messages.FoundPeople:
        """The people in a frame, to choose a query from."""
        content = await request.body()
        return messages.FoundPeople(**await work.search.run(service.people, content))


def add_pictures(app: FastAPI, service: GalleryService, work: Work) -> None:
    """Pictures, frames and recordings of matches."""
    jpeg: dict[str, Any] = {
        "tags": ["pictures"],
        "dependencies": [needs(SEARCH)],
        "response_class": Response,
        "responses": problems(400, 401, 403, 404, 503, content="image/jpeg"),
    }

    @app.get("/api/picture/{id}", **jpeg)
    async def picture(request: HttpRequest, id: Number) -> Response:
        """The person, as JPEG."""
        request_of(request).log |= {"ids": [id]}
        return Response(await work.look.run(service.picture, int(id)), media_type="image/jpeg")

    @app.get("/api/frame/{id}", **jpeg)
    async def frame(request: HttpRequest, id: Number) -> Response:
        """The whole frame, as JPEG, if it is kept."""
        request_of(request).log |= {"ids": [id]}
        return Response(await work.look.run(service.frame, int(id)), media_type="image/jpeg")

    @app.post(
        "/api/video/{id}",
        tags=["pictures"],
        dependencies=[needs(SEARCH)],
        responses=problems(400, 401, 403, 404, 411, 503),
    )
    async def video(request: HttpRequest, id: Number) -> messages.Video:
        """A URL, valid for five minutes, under which the recording of that moment plays."""
        request_of(request).log |= {"ids": [id]}
        ticket, found = await work.look.run(lambda: service.media.ticket(service.entry(int(id))))
        return messages.Video(url=f"api/media/{ticket}", seconds=found.seconds, type=found.type)

    @app.get(
        "/api/media/{ticket}",
        tags=["pictures"],
        response_class=Response,
        responses=problems(404, 416, content="video/webm"),
        openapi_extra=NO_TOKEN,
    )
    async def media(ticket: str) -> Response:
        """A recording, whole or the part that the header Range names; the ticket is the key."""
        found = await work.look.run(service.media.opened, ticket)
        return FileResponse(found.file, media_type=found.type)


def add_verdicts(app: FastAPI, service: GalleryService, work: Work) -> None:
    """What users confirmed."""

    @app.post(
        "/api/confirm",
        tags=["verdicts"],
        dependencies=[needs(CONFIRM)],
        responses=problems(400, 401, 403, 404, 408, 411, 413, 503),
        openapi_extra=body_of(message="Verdict"),
    )
    async def confirm(request: HttpRequest) -> messages.Kept:
        """Keep whether an image shows the query's person; null takes it back."""
        said = messages.Verdict.model_validate_json(await request.body())
        known = request_of(request)
        known.log |= {"queries": [said.query], "ids": [said.id], "same": said.same}
        await work.write.run(service.confirm, said.query, int(said.id), said.same, known.user)
        return messages.Kept(confirmed=said.same)

    @app.get(
        "/api/confirmed",
        tags=["verdicts"],
        response_model=list[messages.KeptVerdict],
        dependencies=[needs(EXPORT)],
        responses=problems(400, 401, 403, 503, also="text/csv"),
    )
    async def confirmed(
        format: Annotated[str, Query(pattern="^(json|csv)$")] = "json",
    ) -> Response:
        """All verdicts in order, as JSON or CSV."""
        rows = await work.look.run(service.confirmed)
        if format == "csv":
            return Response(csv_of(rows), media_type="text/csv; charset=utf-8")
        return JSONResponse(rows)


def add_evidence(app: FastAPI, service: GalleryService, work: Work) -> None:
    """What users take away."""

    @app.post(
        "/api/evidence",
        tags=["evidence"],
        dependencies=[needs(EXPORT)],
        response_class=Response,
        openapi_extra=body_of(message="Export"),
        responses=problems(400, 401, 403, 404, 408, 410, 411, 413, 503, content="application/zip"),
    )
    async def evidence(request: HttpRequest) -> Response:
        """A ZIP file of these images, with a list of hashes, signed where the server has a key."""
        said = messages.Export.model_validate_json(await request.body())
        known = request_of(request)
        known.log |= {"queries": said.queries, "ids": said.ids}
        ids = tuple(dict.fromkeys(map(int, said.ids)))
        asked = Asked(queries=tuple(dict.fromkeys(said.queries)), ids=ids)
        content = await work.look.run(
            service.evidence, asked, said.note, said.query_pictures, known.user
        )
        name = f"evidence-{datetime.now(timezone.utc):%Y-%m-%dT%H-%M-%SZ}.zip"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type="application/zip", headers=headers)


def add_operations(app: FastAPI, service: GalleryService, work: Work, metrics: Metrics) -> None:
    """What a supervisor and Prometheus ask."""
    metrics.watch("reid_serve_held_queries", "Queries held in memory.", lambda: len(service.held))

    @app.get("/healthz", tags=["operations"], openapi_extra=NO_TOKEN)
    async def healthz() -> messages.Ready:
        """The server is there."""
        return messages.Ready(status="ok")

    @app.get("/readyz", tags=["operations"], responses=problems(503), openapi_extra=NO_TOKEN)
    async def readyz() -> messages.Ready:
        """The gallery can be searched."""
        try:
            await work.look.run(service.ready)
        except ReidError:
            raise Refusal(503, "the gallery cannot be searched", retry_after_s=5) from None
        return messages.Ready(status="ok")

    @app.get(
        "/metrics",
        tags=["operations"],
        response_class=Response,
        responses=problems(401, content="text/plain"),
    )
    async def shown_metrics() -> Response:
        """Counts and times in Prometheus' text format; any valid token may read them."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def csv_of(rows: list[dict[str, Any]]) -> str:
    """A table of verdicts."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["query", "id", "same", "time", "user"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _file_of(content: bytes, kind: str) -> Callable[[], Any]:
    async def file() -> Response:
        return Response(content, media_type=kind)

    return file
