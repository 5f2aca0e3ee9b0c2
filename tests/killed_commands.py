"""Commands killed at random moments: python -m tests.killed_commands KIND FOLDER [KILLS]

A process of its own: it imports everything once and forks a child for each command, so that a kill
hits the command's work and not its imports. After every kill all that the command left must be
whole, and in the end the same command, run without a kill, gives what it would have given anyway.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid.cli import main as reid
from reid.data.synthetic.writing import write_synthetic
from tests.conftest import TINY
from tests.training.test_train_csn import TINY as TINY_CSN

KILLS = 40
RECIPE = "msp_cnn_synthetic"
IMAGES = 1500
FRAMES = 400
HEIGHT, WIDTH = 80, 160


def in_child(work: Callable[[], int | None], log: Path) -> int:
    """Start ``work`` in a fork whose words go to ``log``; gives the process."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(words, 1)
        os.dup2(words, 2)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def done(work: Callable[[], int | None], log: Path) -> float:
    """Run ``work`` to its end in a child; gives the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(in_child(work, log), 0)
    assert status == 0, f"status {status}\n{log.read_text()[-3000:]}"
    return time.monotonic() - began


def killed(work: Callable[[], int | None], log: Path, after_s: float) -> bool:
    """Kill ``work`` after so many seconds; False if it ended well before that."""
    child = in_child(work, log)
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the exported files."""
    files = sorted(folder.glob("*.onnx"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if ".part" in path.name]


@dataclass
class Kind:
    """A command, and what must hold after a kill and at its end."""

    folder: Path
    out: Path
    run: Callable[[], int | None]
    after_kill: Callable[[], int | None]
    at_end: Callable[[], int | None]
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log.txt"

    def main(self, kills: int) -> None:
        """Kill, check, and begin again where the command came to its end."""
        longest_s = done(self.run, self.log)
        done(self.at_end, self.log)
        self.clear()
        hit = ends = 0
        while hit < kills:
            # A kill in the first hundredths would hit nothing but the start of a process.
            if killed(self.run, self.log, random.uniform(0.01, longest_s)):
                hit += 1
                done(self.after_kill, self.log)
            else:
                ends += 1
                done(self.at_end, self.log)
                self.clear()
            assert ends < 4 * kills
        done(self.run, self.log)
        done(self.at_end, self.log)
        print(f"{hit} killed, {ends + 2} ended, {longest_s:.1f} s each at most")

    def clear(self) -> None:
        if self.out.is_dir():
            shutil.rmtree(self.out)
        for file in self.folder.glob(f"{self.out.name}*"):
            file.unlink()


def train(folder: Path) -> Kind:
    """Steps only ever grow; the weights at the end are those of a run without a kill."""
    people, out, state = folder / "people", folder / "run", folder / "state"
    write_synthetic(people, num_train_identities=8, num_test_identities=4, seed=3)
    # CSN, whose checkpoints are a tenth of MSP-CNN's: one is written at each step.
    sets = [*TINY_CSN, "stages.0.iterations=8", "run.checkpoint_every_s=0"]
    words = [word for one in sets for word in ("--set", one)]

    def run() -> int:
        resume = ["--resume"] if (out / "checkpoint.pt").exists() else []
        command = ["train", "csn_cuhk01", "--data-root", str(people), "--out", str(out)]
        return reid([*command, *words, *resume])

    def after_kill() -> None:
        from reid.training.checkpoint import load_checkpoint

        file, before = out / "checkpoint.pt", int(state.read_text()) if state.exists() else 0
        if file.exists():
            step = load_checkpoint(file).step
            assert step >= before, f"step {step} after {before}"
            state.write_text(str(step))
        else:
            assert before == 0, f"the checkpoint of step {before} is gone"

    def at_end() -> None:
        from reid.training.checkpoint import load_checkpoint

        state.unlink(missing_ok=True)
        assert leftovers(out) == []
        checkpoint = load_checkpoint(out / "checkpoint.pt")
        found = digest(checkpoint.model)
        whole = folder / "whole"
        if not whole.exists():
            whole.write_text(found)
        assert whole.read_text() == found, "other weights than without a kill"
        rows = (out / "log.csv").read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == list(range(1, checkpoint.step + 1))

    return Kind(folder, out, run, after_kill, at_end)


def digest(tensors: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def index(folder: Path) -> Kind:
    """The gallery is never damaged, never loses an image, and holds each once at the end."""
    from tests.deploy.watch.conftest import write_model

    model, people, out = write_model(folder), folder / "people", folder / "gallery"
    people.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        name = f"{number % 20 + 1:04}_c{number % 3 + 1}_{number:06}.png"
        cv2.imwrite(str(people / name), rng.integers(0, 256, (48, 24, 3), np.uint8))
    state = folder / "state"
    options = ["--device", "cpu", "--threads", "1", "--batch", "4"]

    def run() -> int:
        return reid(["index", str(model), str(people), "--gallery", str(out), *options])

    def num_images() -> int:
        from reid.deploy.gallery.checking import check_gallery

        checked = check_gallery(out)
        assert not checked.damaged, checked.text()
        return checked.images

    def after_kill() -> None:
        before = int(state.read_text()) if state.exists() else 0
        if (out / "gallery.json").exists():
            found = num_images()
            assert found >= before, f"{found} images after {before}"
            state.write_text(str(found))
        else:
            assert before == 0

    def at_end() -> None:
        state.unlink(missing_ok=True)
        assert leftovers(out) == []
        assert num_images() == IMAGES

    return Kind(folder, out, run, after_kill, at_end)


def export(folder: Path) -> Kind:
    """An exported file under its name is whole, and is the file that a quiet export writes."""
    people, trained, out = folder / "people", folder / "run", folder / "exported"
    write_synthetic(people, num_train_identities=8, num_test_identities=4, seed=3)
    words = [word for one in TINY for word in ("--set", one)]
    command = ["train", RECIPE, "--data-root", str(people), "--out", str(trained), *words]
    done(lambda: reid(command), folder / "log.txt")
    whole = folder / "whole.json"

    def run() -> int:
        return reid(["export", str(trained), "--out", str(out)])

    def after_kill() -> None:
        from reid.runtime.onnx_runner import OnnxRunner

        for file in out.glob("*.onnx") if out.is_dir() else ():
            with closing(OnnxRunner(file, "cpu", 1)):
                pass
        found = hashes(out) if out.is_dir() else {}
        expected = json.loads(whole.read_text())
        assert found.items() <= expected.items(), f"{found} of {expected}"

    def at_end() -> None:
        assert leftovers(out) == []
        found = hashes(out)
        if not whole.exists():
            whole.write_text(json.dumps(found))
        assert found == json.loads(whole.read_text())

    return Kind(folder, out, run, after_kill, at_end)


def watch(folder: Path) -> Kind:
    """Each line of events is whole but a killed process's last; the video plays up to there."""
    from tests.deploy.people.conftest import write_person_detector
    from tests.deploy.watch.conftest import RED, frame_of, write_model

    model, out = write_model(folder), folder / "out"
    detector = write_person_detector(folder / "people.onnx", HEIGHT, WIDTH)
    source = folder / "door.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 8, (WIDTH, HEIGHT))
    for _ in range(FRAMES):
        writer.write(frame_of({RED: 60}))
    writer.release()
    events, video = out / "events.jsonl", out / "door.mp4"

    def run() -> int:
        out.mkdir(exist_ok=True)
        outputs = ["--events", str(events), "--video", str(video)]
        options = ["--detector", str(detector), "--device", "cpu", "--threads", "1"]
        return reid(["watch", str(model), "--source", str(source), *outputs, *options])

    def lines() -> Iterator[Any]:
        content = events.read_bytes() if events.exists() else b""
        whole, _, cut = content.rpartition(b"\n")
        assert b"\n" not in cut
        for line in whole.splitlines():
            yield json.loads(line)

    def frames() -> int:
        capture = cv2.VideoCapture(str(video))
        number = 0
        while capture.read()[0]:
            number += 1
        return number

    def after_kill() -> None:
        num_events = sum(1 for event in lines() if event["event"] == "person")
        if video.exists() and video.stat().st_size > 4096:
            assert frames() > 0, f"{video.stat().st_size} bytes, {num_events} events"

    def at_end() -> None:
        assert leftovers(out) == []
        assert events.read_bytes().endswith(b"\n")
        people = [event for event in lines() if event["event"] == "person"]
        assert len(people) >= FRAMES - 2  # a track is one after three frames
        assert frames() == FRAMES

    return Kind(folder, out, run, after_kill, at_end)


KINDS = {kind.__name__: kind for kind in (train, index, export, watch)}


def load_everything() -> None:
    """Import once what the commands import, without starting a thread."""
    import reid.deploy.api.indexing
    import reid.deploy.gallery.checking
    import reid.deploy.watch.watching
    import reid.export.api
    import reid.training.loop
    import reid.training.run  # noqa: F401

    cv2.setNumThreads(0)


if __name__ == "__main__":
    random.seed(0)
    load_everything()
    KINDS[sys.argv[1]](Path(sys.argv[2])).main(int((sys.argv[3:] or [KILLS])[0]))
