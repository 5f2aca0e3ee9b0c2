"""The requests and answers of the HTTP API, as types that the OpenAPI document is made of.

An image's id is a string: it has 64 bits, which a browser's numbers do not hold.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_MATCHES = 200
MAX_NAMES = 200
"""Most values of one filter."""

MAX_QUERIES = 50
"""Most queries of one search, and most images as queries (a choice)."""

MAX_EVIDENCE = 500
"""Most images of one file of evidence (a choice)."""

MAX_NOTE_CHARACTERS = 4000

Seconds = float


def _text_from_number(value: Any) -> Any:
    return str(value) if type(value) is int else value


ImageId = Annotated[
    str,
    BeforeValidator(_text_from_number, json_schema_input_type=str | int),
    Field(pattern=r"^-?[0-9]{1,19}$", description="an image of the gallery"),
]
QueryHash = Annotated[
    str, Field(pattern=r"^[0-9a-f]{32}$", description="the hash of a query's image and box")
]
BoxPixels = tuple[int, int, int, int]


class Message(BaseModel):
    """What a request may hold, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=False)


class Answer(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(extra="forbid")


class Problem(Answer):
    """Why a request was refused, in one line."""

    error: str
    gone: list[QueryHash] | None = Field(None, description="queries that are no longer held")


class Limit(Answer):
    """The greatest distance that means the same person."""

    distance: float
    measured: bool = Field(description="false for a guess")
    words: str


class Match(Answer):
    """One image of the gallery, and its distance from the query."""

    id: ImageId
    distance: float
    within: bool = Field(description="the distance is up to the limit")
    person: str | None
    camera: str | None
    time: str | None = Field(description="ISO 8601, UTC")
    source: str
    box: BoxPixels | None = Field(description="left, top, width, height in pixels")
    frame: int | None
    seconds: Seconds | None = Field(description="into the video `source`")
    track: int | None
    run: str | None
    has_frame: bool
    has_video: bool
    confirmed: bool | None
    confirmed_by: str | None


class Found(Answer):
    """The matches of a search, nearest first."""

    query: str = Field(description="the hash of the query; of the first one if there are several")
    queries: int = Field(description="images that were searched for, confirmed ones included")
    seconds: Seconds
    left_out: str | None
    limit: Limit
    matches: list[Match]


class Gallery(Answer):
    """What is in the gallery, and what this user may do."""

    gallery: str
    model: dict[str, str]
    images: int
    people: list[str]
    cameras: list[str]
    first: str | None
    last: str | None
    left_out: str | None
    user: str
    may: list[Literal["search", "confirm", "export"]]
    people_detector: bool


class Held(Answer):
    """A query whose features are held for half an hour."""

    query: QueryHash
    width: int
    height: int


class FoundPerson(Answer):
    """A person in an uploaded frame."""

    box: BoxPixels
    score: float


class FoundPeople(Answer):
    """The people in an uploaded frame, highest score first."""

    width: int
    height: int
    people: list[FoundPerson]


class Search(Message):
    """A search for several images at once: held queries, and images of the gallery."""

    queries: list[QueryHash] = Field([], max_length=MAX_QUERIES)
    ids: list[ImageId] = Field([], max_length=MAX_QUERIES)
    learn: bool = Field(False, description="images confirmed as the same person join the queries")
    show_different: bool = Field(
        False, description="with learn: images confirmed as another person follow at the end"
    )
    k: int = Field(20, ge=1, le=MAX_MATCHES)
    cameras: list[str] = Field([], max_length=MAX_NAMES)
    people: list[str] = Field([], max_length=MAX_NAMES)
    since: str | None = None
    until: str | None = None


class Verdict(Message):
    """Whether an image shows the query's person; null takes it back."""

    query: QueryHash
    id: ImageId
    same: Annotated[bool | None, Field(strict=True)]


class Kept(Answer):
    """The verdict that is kept now."""

    confirmed: bool | None


class KeptVerdict(Answer):
    """One line of the table of verdicts."""

    query: str
    id: ImageId
    same: bool | None
    time: str
    user: str


class Video(Answer):
    """Where the recording plays, for five minutes, and the seconds into it."""

    url: str
    seconds: Seconds
    type: str


class Export(Message):
    """What goes into a file of evidence."""

    queries: list[QueryHash] = Field([], max_length=MAX_QUERIES)
    ids: list[ImageId] = Field(min_length=1, max_length=MAX_EVIDENCE)
    note: str = Field("", max_length=MAX_NOTE_CHARACTERS)
    query_pictures: bool = Field(False, description="otherwise queries are named by their hash")


class Ready(Answer):
    """The server is there, or can be searched."""

    status: Literal["ok"]
