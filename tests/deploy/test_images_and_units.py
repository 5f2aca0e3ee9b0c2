"""Docker's and systemd's files: what they start exists, and nothing in them is a secret.

They are read here; the images are never built, and no unit is started.
"""

from __future__ import annotations

import configparser
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reid.cli import COMMANDS
from reid.cli import main as run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCKER, SYSTEMD = ROOT / "deploy" / "docker", ROOT / "deploy" / "systemd"
IMAGES = sorted(DOCKER.glob("Dockerfile.*"))
UNITS = sorted(SYSTEMD.glob("*.service"))
# A path, which begins with /, is none.
SECRET = re.compile(r"(?i)(token|password|secret|key)\s*[=:]\s*[\"']?[A-Za-z0-9+_-][\w/+-]{7,}")
INSTRUCTIONS = {
    *("FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD", "ARG", "EXPOSE", "LABEL", "SHELL"),
}


def check_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """``reid NAME OPTIONS``: the command and each option exist."""
    assert words[0] in COMMANDS, words
    assert run([words[0], "--help"]) == 0
    known = capsys.readouterr().out
    for word in words[1:]:
        if word.startswith("--"):
            assert f"{word} " in known or f"{word}\n" in known, word


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, its text) of a Dockerfile, with continued lines joined."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (words[0], words[1]) for line in joined.splitlines() if len(words := line.split(" ", 1)) > 1
    ]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_an_image_runs_reid_as_a_user_without_rights(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = instructions(file)
    assert {name for name, _ in steps} <= INSTRUCTIONS
    last = dict(steps)
    assert last["USER"] == "reid"
    assert [name for name, _ in steps].count("FROM") == 2  # nothing of the build is left
    assert "HEALTHCHECK" in last
    assert all(":" in text.split()[0] for name, text in steps if name == "FROM")
    assert yaml.safe_load(last["ENTRYPOINT"]) == ["reid"]
    check_command(yaml.safe_load(last["CMD"]), capsys)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (asked,) = re.findall(r'"\.\[([a-z,]+)\]"', file.read_text())
    assert set(asked.split(",")) <= set(extras)


def test_the_services_of_a_site_are_there_and_only_this_machine_reaches_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    services = compose()["services"]
    assert {"watch", "serve", "milvus", "prometheus"} <= set(services)
    for name in ("watch", "serve"):
        check_command(services[name]["command"], capsys)
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert (DOCKER / services[name]["build"]["context"]).resolve() == ROOT
        assert (ROOT / services[name]["build"]["dockerfile"]).is_file()
    ports = [port for one in services.values() for port in one.get("ports", ())]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)
    jobs = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [target for job in jobs for one in job["static_configs"] for target in one["targets"]]
    assert {target.split(":")[0] for target in targets} <= set(services)


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_starts_reid_and_starts_it_again(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(file)
    service = unit["Service"]
    for key in ("ExecStart", "ExecStartPre"):
        program, *words = shlex.split(service[key])
        assert program.endswith("/reid")
        check_command(words, capsys)
    assert service["Restart"] == "on-failure"
    assert service["User"] != "root"
    assert service["NoNewPrivileges"] == "yes"
    assert file.stem.removeprefix("reid-") in service["ExecStart"]


@pytest.mark.parametrize("file", [*DOCKER.iterdir(), *UNITS], ids=lambda file: file.name)
def test_no_file_holds_a_secret(file: Path) -> None:
    assert not SECRET.search(file.read_text())


def test_a_secret_would_be_found_and_so_would_a_wrong_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert SECRET.search("ENV REID_TOKEN=hunter2hunter2")
    with pytest.raises(AssertionError):
        check_command(["watch", "--confg", "site.toml"], capsys)
