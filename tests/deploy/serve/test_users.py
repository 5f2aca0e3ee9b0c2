"""Named tokens: their file, their rights, and wrong tokens slowed down."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reid.cli import main
from reid.deploy.gallery import GalleryStore
from reid.deploy.serve.access import Access
from reid.deploy.serve.failures import AT_ONCE, EACH_S, Failures
from reid.deploy.serve.refusals import Refusal
from reid.deploy.serve.users import RIGHTS, Users, new_user, users_from_file
from reid.errors import ConfigError
from reid.matching import VectorMatcher
from tests.deploy.serve.site import TOKEN, Site, bearer, person, png, running


class Team:
    """A file of users with their tokens."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tokens: dict[str, str] = {}
        self._lines: dict[str, str] = {}

    def add(self, name: str, *may: str) -> dict[str, str]:
        self.tokens[name], self._lines[name] = new_user(name, may or RIGHTS)
        self.write()
        return bearer(self.tokens[name])

    def remove(self, name: str) -> None:
        del self._lines[name]
        self.write()

    def write(self) -> None:
        before = self.file.stat().st_mtime_ns if self.file.exists() else 0
        self.file.write_text("\n".join(self._lines.values()))
        os.utime(self.file, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "users.toml")


@pytest.fixture
def site(filled: GalleryStore, matcher: VectorMatcher, team: Team) -> Iterator[Site]:
    team.add("anna")
    with running(filled, matcher, Access("127.0.0.1", users=team.file)) as running_site:
        yield running_site
        assert running_site.errors == []


def test_a_user_is_known_by_his_token_and_named_in_verdicts(site: Site, team: Team) -> None:
    anna = bearer(team.tokens["anna"])
    body = json.loads(site.ask("GET", "/api/gallery", None, **anna)[2])
    assert (body["user"], body["may"]) == ("anna", list(RIGHTS))
    found = site.search(png(person(2)), **anna)
    said = {"query": found["query"], "id": found["matches"][0]["id"], "same": True}
    assert site.ask_json("/api/confirm", said, **anna)[0] == 200
    assert site.search(png(person(2)), **anna)["matches"][0]["confirmed_by"] == "anna"
    _, headers, table = site.ask("GET", "/api/confirmed?format=csv", None, **anna)
    assert headers["Content-Type"].startswith("text/csv")
    assert table.decode().splitlines()[-1].startswith(f"{said['query']},{said['id']},True,")
    assert table.decode().splitlines()[-1].endswith(",anna")


def test_a_user_may_do_what_the_file_says(site: Site, team: Team) -> None:
    looker, none = team.add("looker", "search"), team.add("none", *[])
    team._lines["none"] += "\nmay = []"
    team.write()
    found = site.search(png(person(2)), **looker)
    said = {"query": found["query"], "id": found["matches"][0]["id"], "same": True}
    status, body = site.ask_json("/api/confirm", said, **looker)
    assert status == 403
    assert "looker" in body["error"]
    assert site.ask("GET", "/api/confirmed", None, **looker)[0] == 403
    assert site.ask_json("/api/evidence", {"ids": [said["id"]]}, **looker)[0] == 403
    for path in ("/api/gallery", "/api/picture/1"):
        assert site.ask("GET", path, None, **none)[0] == 403
    assert site.ask("GET", "/metrics", None, **none)[0] == 200
    assert site.ask("GET", "/metrics")[0] == 401


def test_the_file_counts_as_it_is_now(site: Site, team: Team, capsys: Any) -> None:
    anna, ben = bearer(team.tokens["anna"]), team.add("ben")
    assert site.ask("GET", "/api/gallery", None, **ben)[0] == 200
    team.remove("anna")
    assert site.ask("GET", "/api/gallery", None, **anna)[0] == 401
    team.file.write_text("users =")
    assert site.ask("GET", "/api/gallery", None, **ben)[0] == 200
    assert str(team.file) in capsys.readouterr().err


WRONG = {
    "no table": "",
    "another table": "[user.a]\n",
    "no hash": "[users.a]\n",
    "a token in its place": f'[users.a]\ntoken_sha256 = "{TOKEN}"\n',
    "an unknown key": f'[users.a]\ntoken_sha256 = "{"a" * 64}"\npassword = "x"\n',
    "an unknown right": f'[users.a]\ntoken_sha256 = "{"a" * 64}"\nmay = ["serch"]\n',
    "rights that are no list": f'[users.a]\ntoken_sha256 = "{"a" * 64}"\nmay = "search"\n',
    "one token for two": f'[users.a]\ntoken_sha256 = "{"a" * 64}"\n'
    f'[users.b]\ntoken_sha256 = "{"a" * 64}"\n',
    "a name with a space": f'[users."a b"]\ntoken_sha256 = "{"a" * 64}"\n',
    "the name of the other token": f'[users.token]\ntoken_sha256 = "{"a" * 64}"\n',
    "no TOML": "{",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_malformed_file_of_users_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "users.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        users_from_file(file)
    assert str(file) in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_users_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        Users(file=tmp_path / "missing.toml")


def test_the_command_makes_a_token_whose_line_lets_the_user_in(tmp_path: Path, capsys: Any) -> None:
    assert main(["serve-token", "anna", "--may", "search"]) == 0
    said = capsys.readouterr()
    file = tmp_path / "users.toml"
    file.write_text(said.out)
    token = said.err.split()[-1]
    user = Users(file=file).user_of(token)
    assert user is not None
    assert (user.name, user.may) == ("anna", ("search",))
    assert token not in said.out
    assert Users(file=file).user_of(token[:-1]) is None


def test_wrong_tokens_are_slowed_down_and_others_are_not(
    filled: GalleryStore, matcher: VectorMatcher
) -> None:
    access = Access("127.0.0.1", TOKEN, trusted_proxies=("127.0.0.1",))
    with running(filled, matcher, access) as site:
        attacker = {"X_Forwarded_For": "203.0.113.9"}
        known, other = {"X_Forwarded_For": "203.0.113.7"}, {"X_Forwarded_For": "203.0.113.8"}
        right, wrong = bearer(TOKEN), bearer("wrong" * 5)
        assert site.ask("GET", "/api/gallery", None, **right, **known)[0] == 200
        for _ in range(AT_ONCE):
            assert site.ask("GET", "/api/gallery", None, **wrong, **attacker)[0] == 401
        status, headers, body = site.ask("GET", "/api/gallery", None, **wrong, **attacker)
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= EACH_S
        assert TOKEN not in body.decode()
        # A guess that is right is not let in either, and so says nothing.
        assert site.ask("GET", "/api/gallery", None, **right, **attacker)[0] == 429
        for one in (known, other):
            assert site.ask("GET", "/api/gallery", None, **right, **one)[0] == 200
        assert site.ask("GET", "/")[0] == 200


def test_a_user_who_is_in_stays_in_while_his_address_fails() -> None:
    access = Access("127.0.0.1", TOKEN)
    right, wrong = {"authorization": f"Bearer {TOKEN}"}, {"authorization": "Bearer wrong"}
    access.user_of(right, "10.0.0.1")
    for _ in range(3 * AT_ONCE):
        with pytest.raises(Refusal):
            access.user_of(wrong, "10.0.0.1")
    assert access.user_of(right, "10.0.0.1").name == "token"


def test_failures_are_forgiven_with_time_and_an_ipv6_network_counts_as_one() -> None:
    now = [0.0]
    failures = Failures(lambda: now[0])
    for number in range(AT_ONCE):
        failures.add(f"2001:db8::{number:x}")
    assert failures.wait_s("2001:db8::ffff", "t") == EACH_S
    assert failures.wait_s("2001:db8:0:1::1", "t") == 0
    now[0] += EACH_S + 1
    assert failures.wait_s("2001:db8::ffff", "t") == 0
