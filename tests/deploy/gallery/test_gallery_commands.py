"""``reid index`` and ``reid search`` from outside, with a network made of numpy."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.deploy.commands import gallery_options
from reid.deploy.gallery import search
from reid.matching import VectorMatcher
from reid.model_file.thresholds import PairRate, SearchRate, Thresholds
from tests.deploy.gallery.conftest import PixelRunner

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> PixelRunner:
    """What every command opens as its model."""
    runner = PixelRunner()
    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: VectorMatcher(runner))
    return runner


@pytest.fixture
def run(runner: PixelRunner, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """person/camera/image.jpg: three people, two cameras, three images each, in one colour."""
    root = tmp_path / "images"
    for number, person in enumerate(("alice", "bob", "007")):
        for camera in ("gate", "hall"):
            folder = root / person / camera
            folder.mkdir(parents=True)
            for shot in range(3):
                image = np.zeros((16, 8, 3), np.uint8)
                image[:8, :, number] = 200
                image[8:] = 20 * shot + (10 if camera == "hall" else 0)
                cv2.imwrite(str(folder / f"{shot}.png"), image)
    return root


def test_indexing_again_adds_what_is_new_alone(
    run: Run, runner: PixelRunner, images: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "g"
    code, out, _ = run("index", "m.onnx", images, "--gallery", gallery)
    assert code == 0
    assert out.startswith(f"{gallery}: 18 images, 18 added (")
    (images / "alice/gate/9.png").write_bytes((images / "bob/gate/1.png").read_bytes())
    code, out, _ = run("index", "m.onnx", images, "--gallery", gallery, "--json")
    found = json.loads(out)
    assert (found["images"], found["added"], found["total"]) == (19, 1, 19)
    assert runner.described == 19


def test_an_unreadable_file_is_named_after_all_others_are_added(
    run: Run, images: Path, tmp_path: Path
) -> None:
    (images / "alice/gate/9.png").write_bytes(b"no image")
    code, out, err = run("index", "m.onnx", images, "--gallery", tmp_path / "g", "--json")
    found = json.loads(out)
    assert (code, found["added"], len(found["unreadable"])) == (1, 18, 1)
    assert "9.png" in found["unreadable"][0]
    assert "1 file " in err.splitlines()[-1]
    assert "9.png" in err.splitlines()[-1]
    code, out, _ = run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    assert code == 1
    assert out.endswith("18 were there\n")


def test_names_that_are_added_to_images_are_counted(run: Run, images: Path, tmp_path: Path) -> None:
    single, gallery = images / "bob/hall/2.png", tmp_path / "g"
    run("index", "m.onnx", single, "--gallery", gallery)
    code, out, _ = run("index", "m.onnx", images, "--gallery", gallery)
    assert code == 0
    assert "1 that were there got" in out
    code, out, _ = run("index", "m.onnx", single, "--camera", "yard", "--gallery", gallery)
    assert "1 that were there were given another" in out


def test_search_prints_a_table_nearest_first(run: Run, images: Path, tmp_path: Path) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    query = images / "bob/hall/2.png"
    code, out, _ = run("search", "m.onnx", query, "--gallery", tmp_path / "g", "-k", 3)
    assert code == 0
    head, names, first, *rest = out.partition("\n\n")[0].splitlines()
    assert head == str(query)
    assert names.split() == ["rank", "distance", "limit", "person", "camera", "time", "source"]
    assert first.split() == ["1", "0.0000", "within", "bob", "hall", "-", str(query)]
    assert [line.split()[3] for line in rest] == ["bob", "bob"]


def test_matches_beyond_the_limit_are_marked_and_a_guessed_limit_says_so(
    run: Run, images: Path, tmp_path: Path
) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    search = ["search", "m.onnx", images / "bob/hall/2.png", "--gallery", tmp_path / "g", "-k", 18]
    found = json.loads(run(*search, "--json")[1])
    matches = found["queries"][0]["matches"]
    assert (found["limit"]["distance"], found["limit"]["measured"]) == (0.65, False)
    assert "reid threshold" in found["limit"]["words"]
    assert [one["within"] for one in matches] == [one["distance"] <= 0.65 for one in matches]
    middle = (matches[3]["distance"] + matches[4]["distance"]) / 2
    page = tmp_path / "found.html"
    _, out, _ = run(*search, "--max-distance", middle, "--html", page)
    table, _, words = out.partition("\n\n")
    marks = [line.split()[2] for line in table.splitlines()[2:]]
    assert marks == ["within"] * 4 + ["beyond"] * 14
    assert f"{middle:g}" in words
    shown = page.read_text()
    assert (shown.count("· within"), shown.count("· beyond")) == (4, 14)
    assert run(*search, "--max-distance", -0.5)[0] == 1


def test_the_limit_is_the_measured_one_of_the_gallery_s_size(
    run: Run, runner: PixelRunner, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    searches = (SearchRate(10, 0.05, 0.3), SearchRate(100, 0.05, 0.2), SearchRate(1000, 0.05, 0.1))
    measured = Thresholds("own people", "embed", 40, 9_000, 1e-3, (PairRate(1e-3, 0.4),), searches)
    manifest = dataclasses.replace(runner.manifest, thresholds=measured)
    monkeypatch.setattr(runner, "manifest", manifest)
    query = images / "bob/hall/2.png"
    _, out, _ = run("search", "m.onnx", query, "--gallery", tmp_path / "g", "--json")
    limit = json.loads(out)["limit"]
    assert (limit["distance"], limit["measured"]) == (0.2, True)  # of 18 images
    for part in ("own people", "100 images", "5.0%"):
        assert part in limit["words"]


def test_a_name_cannot_command_the_terminal(run: Run, images: Path, tmp_path: Path) -> None:
    (images / "eve\x1b[2J").mkdir()
    (images / "bob/gate/0.png").rename(images / "eve\x1b[2J/0.png")
    run("index", "m.onnx", images / "eve\x1b[2J", "--gallery", tmp_path / "g")
    _, out, _ = run("search", "m.onnx", images / "bob/gate/1.png", "--gallery", tmp_path / "g")
    assert "\x1b" not in out
    assert "eve\\x1b[2J" in out


def test_filters_and_json(run: Run, images: Path, tmp_path: Path) -> None:
    options = ["--gallery", tmp_path / "g"]
    run("index", "m.onnx", images, *options, "--time", "2026-05-01T12:00")
    query = images / "007/gate/0.png"
    _, out, _ = run("search", "m.onnx", query, *options, "--camera", "hall", "-k", 4, "--json")
    matches = json.loads(out)["queries"][0]["matches"]
    assert {match["camera"] for match in matches} == {"hall"}
    assert [match["person"] for match in matches[:3]] == ["7"] * 3
    assert matches[0]["time"] == "2026-05-01T12:00:00Z"
    _, out, _ = run("search", "m.onnx", query, *options, "--since", "2026-05-01T12:00:01Z")
    assert out.endswith("nothing found\n")


def test_a_page_has_the_pictures_inside(run: Run, images: Path, tmp_path: Path) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    page = tmp_path / "found.html"
    query = images / "alice/gate/0.png"
    (images / "alice/hall/0.png").unlink()
    code, _, _ = run("search", "m.onnx", query, "--gallery", tmp_path / "g", "--html", page)
    assert code == 0
    text = page.read_text()
    assert text.count('src="data:image/jpeg;base64,') == 10  # the query, and nine of ten
    assert text.count("no picture") == 1
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_that_would_replace_the_query_is_refused(
    run: Run, images: Path, tmp_path: Path
) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    query = images / "alice/gate/0.png"
    (tmp_path / "page.html").symlink_to(query)
    before = query.read_bytes()
    options = ["--gallery", tmp_path / "g", "--html", tmp_path / "page.html"]
    code, _, said = run("search", "m.onnx", query, *options)
    assert code == 1
    assert "is an input of this command" in said
    assert query.read_bytes() == before


def test_deleting_tells_how_many(run: Run, images: Path, tmp_path: Path) -> None:
    options = ["--gallery", tmp_path / "g"]
    run("index", "m.onnx", images, *options)
    code, out, _ = run(
        "index", "m.onnx", *options, "--delete", "person=bob", "--delete", "camera=hall"
    )
    assert (code, out) == (0, f"{tmp_path / 'g'}: 15 images, 3 deleted\n")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("persn=bob", "found 'persn=bob' (did you mean 'person'?)"),
        ("person=", "expected person=NAME"),
        ("since=soon", "a time is written 2026-05-01T12:30:00"),
    ],
)
def test_what_to_delete_is_said_clearly_or_not_done(
    run: Run, images: Path, tmp_path: Path, condition: str, said: str
) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    code, _, err = run("index", "m.onnx", "--gallery", tmp_path / "g", "--delete", condition)
    assert code == 1
    assert said in err


def test_neither_or_both_of_images_and_deletions_is_wrong_usage(
    run: Run, images: Path, tmp_path: Path
) -> None:
    assert run("index", "m.onnx", "--gallery", tmp_path / "g")[0] == 2
    both = [images, "--delete", "person=x"]
    assert run("index", "m.onnx", *both, "--gallery", tmp_path / "g")[0] == 2
    assert not (tmp_path / "g").exists()


def test_shards_share_the_work_and_leave_nothing_out(
    run: Run, runner: PixelRunner, images: Path, tmp_path: Path
) -> None:
    options = ["--gallery", tmp_path / "g", "--json"]
    added = []
    for shard in ("1/3", "2/3", "3/3"):
        _, out, _ = run("index", "m.onnx", images, *options, "--shard", shard)
        added.append(json.loads(out)["added"])
    assert sum(added) == runner.described == 18
    assert all(added)


def test_torchrun_s_processes_are_shards(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    added = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        _, out, _ = run("index", "m.onnx", images, "--gallery", tmp_path / "g", "--json")
        added.append(json.loads(out)["added"])
    assert sum(added) == 18
    assert all(added)


@pytest.mark.parametrize("shard", ["0/8", "9/8", "3", "a/b", "3/0"])
def test_an_impossible_shard_is_one_line(
    run: Run, images: Path, tmp_path: Path, shard: str
) -> None:
    code, _, err = run("index", "m.onnx", images, "--gallery", tmp_path / "g", "--shard", shard)
    assert code == 1
    assert err == f"reid: error: a shard is written 3/8, the third of eight; found {shard!r}\n"


def test_another_model_is_refused_in_one_line(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("index", "m.onnx", images, "--gallery", tmp_path / "g")
    other = VectorMatcher(PixelRunner(precision="fp16"))
    monkeypatch.setattr("reid.matching.open_matcher", lambda *_: other)
    query = images / "bob/hall/2.png"
    code, out, err = run("search", "m.onnx", query, "--gallery", tmp_path / "g")
    assert (code, out) == (1, "")
    assert "precision fp32 (this model: fp16)" in err
    assert err.count("\n") == 1


def test_the_indexes_named_without_loading_them_are_those_there_are() -> None:
    assert gallery_options.INDEXES == search.CHOICES


@pytest.mark.parametrize("option", ["--index", "--engine"])
def test_the_index_is_chosen_by_its_option_and_by_its_old_name(
    run: Run, images: Path, tmp_path: Path, option: str
) -> None:
    options = ["--gallery", tmp_path / "g", option, "binary"]
    assert run("index", "m.onnx", images, *options)[0] == 0
    assert tmp_path.joinpath("g", *search.FILE).exists()
    assert run("search", "m.onnx", images / "bob/hall/2.png", *options)[0] == 0
    refused, _, err = run("search", "m.onnx", images / "bob/hall/2.png", *options[:3], "ivf")
    assert refused == 2
    assert "'ivf' is not one of 'auto', 'exact', 'binary'" in err


@pytest.mark.parametrize("command", ["index", "search", "serve"])
def test_help_shows_the_new_name_of_the_index_option_only(run: Run, command: str) -> None:
    _, out, _ = run(command, "--help")
    assert "--index" in out
    assert "--engine" not in out


def test_a_name_that_is_no_utf_8_does_not_stop_the_page(
    run: Run, images: Path, tmp_path: Path
) -> None:
    query = tmp_path / os.fsdecode(b"b\xf6b.png")
    os.replace(images / "bob", images / os.fsdecode(b"b\xf6b"))
    query.write_bytes((images / "alice/gate/0.png").read_bytes())
    page, options = tmp_path / "page.html", ["--gallery", tmp_path / "g"]
    assert run("index", "m.onnx", images, *options)[0] == 0
    assert run("search", "m.onnx", query, *options, "-k", 18, "--html", page)[0] == 0
    assert page.read_text().count("b?b") >= 7


def test_indexing_says_what_it_understood_and_counts_what_it_leaves_out(
    run: Run, images: Path, tmp_path: Path
) -> None:
    (images / "alice/gate/0.heic").touch()
    (images / "alice/notes.txt").touch()
    code, out, said = run("index", "m.onnx", images, "--gallery", tmp_path / "g", "--json")
    assert code == 0
    assert "3 people (7, alice, bob), 2 cameras (gate, hall)" in said
    found = json.loads(out)
    assert found["images"] == 18
    assert sum(found["left_out"].values()) == 2


def test_indexing_asks_which_folders_are_people(run: Run, images: Path, tmp_path: Path) -> None:
    for number, folder in enumerate(sorted(images.glob("*/*"))):
        folder.rename(folder.with_name(f"zone-{number}x"))
    index = ("index", "m.onnx", images, "--gallery", tmp_path / "g")
    code, _, said = run(*index)
    (line,) = [one for one in said.splitlines() if "error:" in one]
    assert (code, "--layout camera/person" in line) == (1, True)
    code, out, _ = run(*index, "--layout", "person/camera")
    assert code == 0
    assert "18 images, 18 added" in out


def test_indexing_gives_junk_no_name(run: Run, images: Path, tmp_path: Path) -> None:
    (images / "alice").rename(images / "-1")
    index = ("index", "m.onnx", images, "--gallery", tmp_path / "g")
    code, _, said = run(*index, "--junk", "-1")
    assert (code, "2 people (7, bob)" in said) == (0, True)
    code, _, said = run(*index)
    assert "--junk -1" in said
