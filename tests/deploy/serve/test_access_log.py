"""The access log and the metrics: who searched, and how much; no tokens, no images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reid.deploy.api.serving import ServeSettings, log_beside
from reid.deploy.gallery import GalleryStore
from reid.deploy.gallery.times import text_from_seconds
from reid.deploy.serve.access import Access
from reid.deploy.serve.access_log import AccessLog
from reid.errors import OutputError
from reid.files import PRIVATE
from reid.matching import VectorMatcher
from tests.deploy.serve.site import TOKEN, bearer, person, png, running

DAY_S = 86_400.0


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_request_is_a_line_with_who_what_and_which(
    filled: GalleryStore, matcher: VectorMatcher, tmp_path: Path
) -> None:
    file = tmp_path / "access.jsonl"
    access = Access("127.0.0.1", TOKEN, trusted_proxies=("127.0.0.1",))
    headers = {**bearer(TOKEN), "X_Forwarded_For": "10.1.2.3, 203.0.113.7"}
    with running(filled, matcher, access, log=AccessLog(file)) as site:
        site.ask("GET", "/")
        site.ask("GET", "/healthz")
        site.ask("GET", "/api/gallery")
        found = site.search(png(person(3)), **headers)
        number = found["matches"][0]["id"]
        said = {"query": found["query"], "id": number, "same": True}
        assert site.ask_json("/api/confirm", said, **headers)[0] == 200
        asked = {"queries": [found["query"]], "ids": [number]}
        assert site.ask_json("/api/search", asked, **headers)[0] == 200
        body = json.dumps(asked).encode()
        assert site.ask("POST", "/api/evidence", body, **headers)[0] == 200
        site.ask("GET", f"/api/picture/{number}", None, **headers)
        site.ask("GET", "/api/gallery", None, **bearer("wrong"))
    log = lines(file)
    assert [(one["what"], one["status"]) for one in log] == [
        ("search", 200),
        ("confirm", 200),
        ("search", 200),
        ("evidence", 200),
        ("picture", 200),
        ("gallery", 401),
    ]
    assert {one["user"] for one in log[:5]} == {"token"}
    assert {one["client"] for one in log[:5]} == {"203.0.113.7"}
    assert log[0]["queries"] == [found["query"]]
    assert (log[1]["ids"], log[1]["same"]) == ([number], True)
    assert log[3]["ids"] == [number]
    assert TOKEN not in file.read_text()
    assert file.stat().st_mode & 0o777 == PRIVATE


def test_lines_go_after_their_days_and_no_other_way(tmp_path: Path) -> None:
    file, now = tmp_path / "access.jsonl", [1_800_000_000.0]
    log = AccessLog(file, 30, lambda: now[0])
    for number in range(3):
        log.append({"time": text_from_seconds(now[0]), "what": str(number)})
        now[0] += 20 * DAY_S
    now[0] -= 15 * DAY_S  # day 45: the first is 45 days old, the others 25 and 5
    log.prune()
    assert [one["what"] for one in lines(file)] == ["1", "2"]
    now[0] += 40 * DAY_S
    log.append({"time": text_from_seconds(now[0]), "what": "3"})
    assert [one["what"] for one in lines(file)] == ["3"]


def test_a_damaged_line_goes_with_those_around_it(tmp_path: Path) -> None:
    file, now = tmp_path / "access.jsonl", [1_800_000_000.0]
    log = AccessLog(file, 30, lambda: now[0])
    old = json.dumps({"time": text_from_seconds(now[0] - 40 * DAY_S)}) + "\n"
    new = json.dumps({"time": text_from_seconds(now[0])}) + "\n"
    file.write_text("{\n" + old + "[]\n" + new + "{\n")
    log.prune()
    assert file.read_text() == "[]\n" + new + "{\n"


def test_two_servers_share_a_log(tmp_path: Path) -> None:
    file, now = tmp_path / "access.jsonl", [1_800_000_000.0]
    one, other = (AccessLog(file, 30, lambda: now[0]) for _ in range(2))
    one.append({"time": text_from_seconds(now[0]), "what": "1"})
    now[0] += 31 * DAY_S
    one.append({"time": text_from_seconds(now[0]), "what": "2"})  # replaces the file
    other.append({"time": text_from_seconds(now[0]), "what": "3"})
    assert [found["what"] for found in lines(file)] == ["2", "3"]


def test_no_answer_goes_out_that_the_log_cannot_keep(
    filled: GalleryStore, matcher: VectorMatcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AccessLog(tmp_path / "access.jsonl")

    def full(line: Any) -> None:
        raise OutputError("cannot write access.jsonl: the disk is full")

    with running(filled, matcher, Access("127.0.0.1"), log=log) as site:
        monkeypatch.setattr(log, "append", full)
        status, headers, body = site.ask("GET", "/api/gallery")
        assert (status, "Retry-After" in headers) == (503, True)
        assert json.loads(body) == {"error": "the access log cannot be written"}
        assert site.ask("GET", "/healthz")[0] == 200
        assert b"reid_serve_access_log_failures_total 1.0" in site.ask("GET", "/metrics")[2]
        assert site.errors == []


def test_a_log_is_kept_where_there_are_tokens(tmp_path: Path) -> None:
    gallery = str(tmp_path / "people.gallery")
    assert ServeSettings().log(Access("127.0.0.1"), gallery) is None
    log = ServeSettings().log(Access("127.0.0.1", TOKEN), gallery)
    assert log is not None
    assert log.file == tmp_path / "people.gallery.access.jsonl"
    assert log_beside("milvus://me:secret@host:19530/people?tls") == Path("people.access.jsonl")
    with pytest.raises(OutputError, match="access"):
        AccessLog(tmp_path / "people.gallery.access.jsonl" / "access.jsonl")


def test_metrics_count_by_route_and_name_no_person(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    with running(filled, matcher, Access("127.0.0.1", TOKEN)) as site:
        found = site.search(png(person(3)), "person=p3&camera=c1", **bearer(TOKEN))
        site.ask("GET", f"/api/picture/{found['matches'][0]['id']}", None, **bearer(TOKEN))
        site.ask("GET", "/api/picture/1")
        status, headers, body = site.ask("GET", "/metrics", None, **bearer(TOKEN))
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
        text = body.decode()
        values = {
            (one.name, *sorted(one.labels.items())): one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }
        counted = ("reid_serve_requests_total", ("method", "POST"), ("route", "/api/search"))
        assert values[(*counted, ("status", "200"))] == 1
        assert values["reid_serve_request_seconds_count", ("route", "/api/picture/{id}")] == 1
        assert values["reid_serve_held_queries",] == 1
        assert values["reid_serve_refused_total", ("status", "401")] == 1
        for secret in (TOKEN, found["query"], "p3", "c1"):
            assert secret not in text
