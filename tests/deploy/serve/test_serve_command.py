"""`reid serve` as a process: a real model, users, an access log, and a clean end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reid.cli import main
from tests.deploy.conftest import Served
from tests.deploy.serve.site import ask, bearer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_server_answers_keeps_a_log_and_ends_with_0(
    served: Served, people: Path, tmp_path: Path, number: int
) -> None:
    model, gallery = str(served.file()), str(tmp_path / "people.gallery")
    assert main(["index", model, str(people / "query"), "--gallery", gallery]) == 0
    token = subprocess.run(
        [sys.executable, "-m", "reid.cli", "serve-token", "anna"],
        capture_output=True,
        text=True,
        check=True,
    )
    users = tmp_path / "users.toml"
    users.write_text(token.stdout)
    secret = token.stderr.split()[-1]
    command = ["serve", model, "--gallery", gallery, "--port", "0", "--users", str(users)]
    with subprocess.Popen(
        [sys.executable, "-m", "reid.cli", *command, "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        found = re.fullmatch(r"http://0\.0\.0\.0:(\d+)/\n", child.stdout.readline())
        assert found, child.communicate()
        address = ("127.0.0.1", int(found[1]))
        image = next((people / "query").glob("*.jpg"))
        assert ask(address, "POST", "/api/search", image.read_bytes())[0] == 401
        status, _, body = ask(address, "POST", "/api/search", image.read_bytes(), **bearer(secret))
        answer = json.loads(body)
        assert status == 200
        assert answer["matches"][0]["source"] == str(image)
        assert answer["matches"][0]["distance"] == pytest.approx(0, abs=1e-3)
        child.send_signal(number)
        stdout, stderr = child.communicate()
    assert (child.returncode, stdout) == (0, "")
    assert "Traceback" not in stderr
    log = (tmp_path / "people.gallery.access.jsonl").read_text().splitlines()
    assert [json.loads(line)["user"] for line in log] == ["anna"]
    assert json.loads(log[0])["queries"] == [answer["query"]]
    assert secret not in stderr + log[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tls-cert", "c.pem"], "--tls-key"),
        (["--users", "missing.toml"], "missing.toml"),
        (["--public-url", "nvr"], "--public-url"),
        (["--trusted-proxy", "nvr"], "--trusted-proxy"),
        (["--signing-key", "missing.pem"], "missing.pem"),
    ],
)
def test_a_wrong_option_is_one_line_before_the_model_is_opened(
    options: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["serve", "no_model.onnx", "--gallery", str(tmp_path / "g"), *options]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert named in said
    assert "no_model" not in said
