"""Every code block of every guide runs here, or says why it does not and is parsed all the same.

A guide is a README.md of the tree, or a page in ``.github``. Its blocks run in order in one
temporary folder, in which lie a tiny drawn dataset, two tiny runs and a short video (see
``workplace``). The line before a block may hold a comment:

- ``<!-- not run: takes hours -->``, with reasons out of ``REASONS``: the block is only parsed. Each
  command line has to be one that ``reid`` takes, with settings, recipes and datasets that exist.
- ``<!-- exit code 3 -->``: the block's last command ends with this code.
- ``<!-- file: NAME.py -->``: the block is written to this file, which later blocks can import.
- ``<!-- output -->``: the lines of this ``text`` block are printed by the block before; a line
  ``...`` stands for lines left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import reid as reid_package
from reid.cli import main
from reid.data.readers.datasets import DATASETS, published_counts
from reid.export.parity.tolerances import PAIR_TOLERANCES, TOLERANCES
from reid.models import NETWORKS
from tests.guide_blocks import ROOT, Block, blocks_of, check_block, commands_in
from tests.test_house import STEPS

ROOMS = ("prototxt_ref", "reid", "export", "deploy", "tests")

REASONS = (
    *("needs a GPU", "needs a Jetson", "needs a camera", "needs a dataset", "needs a download"),
    *("needs Docker", "needs Triton", "needs DeepStream", "needs Caffe"),
    *("takes minutes", "takes hours", "runs until Ctrl-C"),
)
"""Why a block may not run here."""


def guides() -> list[str]:
    pages = [ROOT / "README.md", *(ROOT / ".github").rglob("*.md")]
    pages += [page for room in ROOMS for page in (ROOT / room).rglob("README.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in pages)


GUIDES = guides()


def read(guide: str) -> list[Block]:
    return blocks_of((ROOT / guide).read_text(encoding="utf-8"), guide)


def check_guide(guide: str) -> None:
    for block in read(guide):
        check_block(block)


@pytest.mark.parametrize("guide", GUIDES)
def test_each_block_of_a_guide_can_be_right(guide: str):
    check_guide(guide)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_block_that_does_not_run_says_why(guide: str):
    for block in read(guide):
        assert set(block.reasons) <= set(REASONS), block.where


WRONG = {
    "an option that is not there": "reid eval runs/a --data market1501 --data-rot d",
    "an option that is missing": "reid eval runs/a --data market1501",
    "a value that is not offered": "reid eval runs/a --data viper --data-root d --device gpu",
    "a command that is not there": "reid evaluate runs/a",
    "behind a pipe": "cat a | reid doctor",
    "after another": "cd a && reid bundle trition a.onnx --out b",
    "on a continued line": "reid train msp_cnn_market1501 \\\n    --data-root d",
    "a dataset that is not there": "reid data check market1502 --data-root d",
    "a recipe that is not there": "reid train msp_cnn --data-root d --out r",
    "a setting that is not there": "reid train csn_viper --data-root d --out r --set run.sed=1",
    "in two processes": "torchrun --nproc-per-node 2 -m reid.cli train csn_viper --out r",
    "an option of a benchmark": "python tests/benchmarks/bench_pairs.py --piars 9",
    "an extra that is not there": 'pip install ".[edges]"',
}


@pytest.mark.parametrize("script", WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_is_found(script: str):
    with pytest.raises(AssertionError):
        check_block(Block("guide:1", "sh", script + "\n"))


def test_comments_here_documents_and_redirections_are_no_commands():
    script = "# reid nothing\ncat > a.csv <<'END'\nreid nothing\nEND\nreid recipes > list  # all\n"
    assert [words for words in commands_in(script) if words] == [
        ["cat", ">", "a.csv"],
        ["reid", "recipes", ">", "list"],
    ]
    check_block(Block("guide:1", "sh", script))


# ---- running them

SMALL = (
    # A small crop, on which OpenCV can still pool as Caffe does.
    "preprocess.resize_height=48",
    "preprocess.resize_width=28",
    "preprocess.crop_height=40",
    "preprocess.crop_width=24",
    "sampler.identities_per_batch=3",
    "sampler.images_per_identity=2",
    "stages.0.iterations=5",
    "stages.0.warmup_iterations=0",
    "stages.1.iterations=1",
)
SMALL_PAIRS = (
    "network.levels=[3]",
    *(f"preprocess.{kind}_height=80" for kind in ("resize", "crop")),
    *(f"preprocess.{kind}_width=40" for kind in ("resize", "crop")),
    "sampler.anchors_per_batch=2",
    "stages.0.epochs=0",
    "stages.0.iterations=2",
    "data.num_test_identities=0",
)
PLAIN_RUN = (
    "data.name=market1501",
    "data.num_workers=0",
    "run.precision=fp32",
    "run.channels_last=off",
    "run.device=cpu",
)


def reid(*words: str, exit_code: int = 0) -> str:
    """Run ``reid`` in this process, which has torch already; what it printed."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(list(words))
    assert code == exit_code, f"{shlex.join(['reid', *words])}: {code}\n{stderr.getvalue()}"
    return stdout.getvalue()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What guides take for granted: ``data/market1501``, ``runs/market``, ``runs/csn`` and
    ``videos/yard.mp4``."""
    folder = tmp_path_factory.mktemp("workplace")
    data, runs = folder / "data" / "market1501", folder / "runs"
    people = ("--train-identities", "8", "--test-identities", "4", "--cameras", "2")
    reid("data", "synth", str(data), *people, "--images", "3", "--seed", "3")
    for recipe, name, settings in (
        ("msp_cnn_synthetic", "market", SMALL),
        ("csn_cuhk01", "csn", SMALL_PAIRS),
    ):
        overrides = [word for one in (*PLAIN_RUN, *settings) for word in ("--set", one)]
        reid("train", recipe, "--data-root", str(data), "--out", str(runs / name), *overrides)
    draw_video(folder / "videos" / "yard.mp4", sorted((data / "query").iterdir())[:2])
    return folder


def draw_video(path: Path, people: Sequence[Path]) -> None:
    """One person walks by and another stands, for three seconds."""
    import cv2
    import numpy as np

    path.parent.mkdir()
    walking, standing = (cv2.resize(cv2.imread(str(one)), (96, 192)) for one in people)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (480, 270))
    for number in range(15):
        frame = np.full((270, 480, 3), 140, np.uint8)
        frame[40:232, 350:446] = standing
        frame[40:232, 40 + 8 * number : 136 + 8 * number] = walking
        writer.write(frame)
    writer.release()


def plain_commands(script: str) -> list[list[str]] | None:
    """The commands of a block that are nothing but ``reid ...``; None where it takes a shell."""
    bare = re.sub(r"#.*", "", script)
    if re.search(r"[|&;<>$*?~`()]", bare):
        return None
    commands = [words for words in commands_in(script) if words]
    return commands if all(words[0] == "reid" for words in commands) else None


def run_sh(block: Block) -> str:
    commands = plain_commands(block.text)
    if commands is not None:
        codes = [0] * (len(commands) - 1) + [block.exit_code]
        pairs = zip(commands, codes, strict=True)
        return "".join(reid(*words[1:], exit_code=code) for words, code in pairs)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == block.exit_code, (
        f"{block.where}\n{block.text}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def run_python(block: Block, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.text, block.where, "exec"), names)
    return printed.getvalue()


def check_printed(block: Block, printed: str) -> None:
    """The lines of an output block are in ``printed``, one after the other."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    for line in block.text.splitlines():
        if line != "...":
            assert line.rstrip() in lines, f"{block.where}: {line!r} is not in\n{printed}"


def runs(block: Block) -> bool:
    return block.language in ("sh", "python") and not block.reasons and not block.file


FAILING = {
    "a shell's command": "true | false",
    "reid in this process": "reid recipes\nreid recipes nothing",
    "reid in a shell": "reid recipes nothing > list",
}


@pytest.mark.parametrize("script", FAILING.values(), ids=FAILING)
def test_a_block_that_fails_is_found(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):
        run_sh(Block("guide:1", "sh", script + "\n"))


@pytest.fixture
def _as_before() -> Iterator[None]:
    """What a guide adds to this process, networks and modules, is gone afterwards."""
    networks, modules = dict(NETWORKS), set(sys.modules)
    yield
    NETWORKS.clear()
    NETWORKS.update(networks)
    written = [block.file.removesuffix(".py") for guide in GUIDES for block in read(guide)]
    for name in {*written} & (sys.modules.keys() - modules):
        del sys.modules[name]


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize("guide", [guide for guide in GUIDES if any(map(runs, read(guide)))])
def test_the_blocks_of_a_guide_run_in_their_order(
    guide: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {"__name__": "guide"}
    run: Mapping[str, Callable[[Block], str]] = {
        "sh": run_sh,
        "python": lambda block: run_python(block, names),
    }
    printed = ""
    for block in read(guide):
        if block.comment == "output":
            check_printed(block, printed)
        elif block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif runs(block):
            printed = run[block.language](block)


def test_what_a_guide_says_is_printed_has_to_be_printed():
    printed = "one\ntwo\nthree\n"
    check_printed(Block("guide:1", "text", "one\n...\nthree\n"), printed)
    with pytest.raises(AssertionError):
        check_printed(Block("guide:1", "text", "three\none\n"), printed)


# ---- what they say


def anchors_of(page: Path) -> set[str]:
    """The headings as GitHub names them in links."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", GUIDES)
def test_the_links_of_a_guide_lead_somewhere(guide: str):
    page = ROOT / guide
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page if not file else page.parent / file
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_guide_to_data_names_every_dataset_and_its_published_counts():
    text = (ROOT / "reid" / "data" / "README.md").read_text(encoding="utf-8")
    for name in DATASETS:
        assert f"`{name}`" in text, name
        counts = published_counts(name)
        for subset, (images, people) in counts.items():
            assert f"| {subset} | {images:,} | {people:,} |" in text, (name, subset)


def test_the_map_has_every_room_on_its_step():
    text = (ROOT / "reid" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`.*`) \|", text, re.MULTILINE)
    mapped = {
        room.removesuffix("/").removesuffix(".py"): int(step)
        for step, rooms in rows
        for room in re.findall(r"`([^`]+)`", rooms)
    }
    assert mapped == {room: step for room, step in STEPS.items() if room}


def test_the_guide_to_the_api_names_all_that_is_public():
    text = (ROOT / "reid" / "README.md").read_text(encoding="utf-8")
    public = set(reid_package.__all__) - {"errors"}
    assert {name for name in public if not re.search(rf"\b{name}\b", text)} == set()


def test_the_guide_to_export_has_the_limits_of_parity():
    text = (ROOT / "export" / "README.md").read_text(encoding="utf-8")
    limits = [table[name] for table in (TOLERANCES, PAIR_TOLERANCES) for name in ("fp32", "fp16")]
    for measure in dataclasses.fields(limits[0]):
        values = " | ".join(f"{getattr(one, measure.name):g}" for one in limits)
        row = rf"^\| `{measure.name}` \| [^|]+ \| {re.escape(values)} \|$"
        assert re.search(row, text, re.MULTILINE), (measure.name, values)


def test_every_record_of_a_benchmark_stands_in_their_guide():
    folder = ROOT / "tests" / "benchmarks"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for record in (folder / "records").iterdir():
        assert f"(records/{record.name})" in text, record.name
    for script in folder.glob("bench_*.py"):
        assert f"tests/benchmarks/{script.name}" in text, script.name
