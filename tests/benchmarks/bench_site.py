"""A day at a site in minutes: python tests/benchmarks/bench_site.py --video VIDEO.mp4 ...

Two RTSP cameras (GStreamer's server, H.264), a video and a folder of images are watched at once by
`reid watch --enrol`, with events by track to a file and to a real mosquitto, into a gallery that
already holds --rows entries of random vectors. At the same time `reid serve` answers --clients,
each of which sends a picture every --every seconds and filters by camera. In the second quarter the
broker is killed for --outage seconds, in the third one RTSP camera.

Prints frames/s and latency of the cameras, p50 and p99 of searches, what was refused or lost, how
the memory of both programs grew, and whether every track that entered left. With ``--record`` it
writes records/site.json. The outage of Milvus is in tests/deploy/gallery/test_milvus_server.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from reid.deploy.gallery import GalleryEntry
from reid.deploy.gallery.opening import open_gallery
from reid.files import write_text
from reid.matching import open_matcher

RECORD = Path(__file__).parent / "records" / "site.json"
SYSTEM_PYTHON = "/usr/bin/python3"
FPS = 10


@dataclass
class Measured:
    """What is collected while the programs run."""

    searches_s: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    memory_mb: dict[str, list[float]] = field(default_factory=dict)
    heard: Counter[str] = field(default_factory=Counter)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def written_frames(video: Path, folder: Path, most: int) -> list[bytes]:
    """The video's frames as 000001.jpg, ...; and a few of them as JPEG, to search with."""
    folder.mkdir()
    capture, kept = cv2.VideoCapture(str(video)), []
    for number in range(1, most + 1):
        read, frame = capture.read()
        if not read:
            break
        cv2.imwrite(str(folder / f"{number:06}.jpg"), frame)
        if number % 40 == 0:
            kept.append(cv2.imencode(".jpg", frame[:, : frame.shape[1] // 3])[1].tobytes())
    capture.release()
    return kept


def long_sources(frames: Path, folder: Path, seconds: int) -> tuple[Path, Path]:
    """A video and a folder of images that last ``seconds``: the frames, repeated."""
    files = sorted(frames.iterdir())
    images, video = folder / "images", folder / "video.mp4"
    images.mkdir()
    height, width = cv2.imread(str(files[0])).shape[:2]
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (width, height))
    for number in range(seconds * FPS):
        file = files[number % len(files)]
        os.link(file, images / f"{number:06}.jpg")
        writer.write(cv2.imread(str(file)))
    writer.release()
    return video, images


def filled_gallery(name: Path, model: Path, rows: int) -> None:
    """Entries of random unit vectors, as if other cameras had filled the gallery."""
    rng = np.random.default_rng(0)
    now_s = time.time()
    with (
        closing(open_matcher(model, "cpu", 1)) as matcher,
        closing(open_gallery(str(name), matcher, create=True)) as gallery,
    ):
        dim = matcher.manifest.output_dim
        for at in range(0, rows, 5000):
            count = min(5000, rows - at)
            vectors = rng.standard_normal((count, dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            entries = [
                GalleryEntry(
                    source=f"other-{(at + i) % 10}",
                    camera=f"other-{(at + i) % 10}",
                    time_s=now_s - i,
                    box=(0, 0, 32, 80),
                    frame=at + i,
                )
                for i in range(count)
            ]
            gallery.add(vectors, entries)


class Programs:
    """The child processes, each with its log in the folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        log, out = (
            self._stack.enter_context((self._folder / f"{name}.{kind}").open("ab"))
            for kind in ("log", "out")
        )
        child = subprocess.Popen(command, stdout=out, stderr=log)
        self._stack.callback(child.kill)
        self.running[name] = child
        return child

    def stop(self, name: str, number: int = signal.SIGKILL) -> int:
        child = self.running.pop(name)
        child.send_signal(number)
        return child.wait(timeout=120)


def until(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.1)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def client(
    number: int,
    url: str,
    pictures: list[bytes],
    every_s: float,
    stop: threading.Event,
    to: Measured,
) -> None:
    """Searches with a picture every ``every_s``, all clients spread over that time."""
    rng = np.random.default_rng(number)
    stop.wait(rng.random() * every_s)
    while not stop.is_set():
        picture = pictures[int(rng.integers(len(pictures)))]
        camera = f"other-{int(rng.integers(10))}"
        request = urllib.request.Request(
            f"{url}api/search?k=20&camera={camera}&camera=gate",
            picture,
            {"Content-Type": "application/octet-stream"},
        )
        start = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                json.load(answer)
            to.searches_s.append(time.perf_counter() - start)
        except urllib.error.HTTPError as error:
            to.refused[str(error.code)] += 1
        except OSError as error:
            to.refused[type(error).__name__] += 1
        stop.wait(max(0.0, every_s - (time.perf_counter() - start)))


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def listener(port: int, heard: Counter[str]) -> paho.Client:
    """Counts the track events that come over MQTT, over restarts of the broker."""
    one = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench", clean_session=False)
    one.reconnect_delay_set(1, 1)
    seen: set[bytes] = set()

    def on_message(client: Any, data: Any, message: Any) -> None:
        if message.payload not in seen:
            seen.add(message.payload)
            heard[json.loads(message.payload)["after"]["reid"]["state"]] += 1

    one.on_connect = lambda *arguments: arguments[0].subscribe("reid/events", qos=1)
    one.on_message = on_message
    one.connect("127.0.0.1", port)
    one.loop_start()
    return one


def run(options: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, Any]:
    seconds, measured = int(options.minutes * 60), Measured()
    pictures = written_frames(options.video, folder / "frames", 600)
    video, images = long_sources(folder / "frames", folder, seconds)
    gallery = folder / "site.gallery"
    filled_gallery(gallery, options.model, options.rows)
    programs = Programs(folder, stack)
    rtsp, broker, page = free_port(), free_port(), free_port()
    rtsp_other = free_port()
    cameras = [str(Path(__file__).with_name("rtsp_cameras.py"))]
    frames = str(folder / "frames")
    for name, port in (("gate", rtsp), ("yard", rtsp_other)):
        programs.start(name, SYSTEM_PYTHON, *cameras, str(port), frames)
    conf = folder / "mosquitto.conf"
    conf.write_text(
        f"listener {broker} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
        f"persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
    )
    mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    programs.start("broker", mosquitto, "-c", str(conf))
    until("the broker's start", lambda: listens(broker))
    until("the cameras' start", lambda: listens(rtsp) and listens(rtsp_other))
    hearing = listener(broker, measured.heard)
    reid = [sys.executable, "-m", "reid.cli"]
    tracks = folder / "tracks.jsonl"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    watch = ["watch", str(options.model), "--detector", str(options.detector), "--live"]
    watch += ["--source", f"gate=rtsp://127.0.0.1:{rtsp}/0"]
    watch += ["--source", f"yard=rtsp://127.0.0.1:{rtsp_other}/0"]
    watch += ["--source", f"hall={video}", "--source", f"shop={images}", "--start-time", now]
    watch += ["--gallery", str(gallery), "--enrol", "--keep-days", "7"]
    watch += ["--track-events", str(tracks), "--mqtt", f"mqtt://127.0.0.1:{broker}/reid"]
    watch += ["--device", "cpu", "--threads", "1", "--json"]
    serve = ["serve", str(options.model), "--gallery", str(gallery), "--port", str(page)]
    serve += ["--device", "cpu", "--threads", "1"]
    programs.start("serve", *reid, *serve)
    until("the page's start", lambda: listens(page), 300)
    watching = programs.start("watch", *reid, *watch)
    stop = threading.Event()
    clients = [
        threading.Thread(
            target=client,
            args=(i, f"http://127.0.0.1:{page}/", pictures, options.every, stop, measured),
        )
        for i in range(options.clients)
    ]
    for one in clients:
        one.start()
    begun = time.monotonic()
    outages = [
        (0.25 * seconds, "stop", "broker"),
        (0.25 * seconds + options.outage, "start", "broker"),
        (0.55 * seconds, "stop", "yard"),
        (0.55 * seconds + options.outage, "start", "yard"),
    ]
    commands = {
        "broker": (mosquitto, "-c", str(conf)),
        "yard": (SYSTEM_PYTHON, *cameras, str(rtsp_other), frames),
    }
    while (now_s := time.monotonic() - begun) < seconds:
        while outages and outages[0][0] <= now_s:
            _, what, name = outages.pop(0)
            if what == "stop":
                programs.stop(name)
            else:
                programs.start(name, *commands[name])
        for name in ("watch", "serve"):
            measured.memory_mb.setdefault(name, []).append(memory_mb(programs.running[name].pid))
        if watching.poll() is not None:
            raise SystemExit(f"reid watch ended: {(folder / 'watch.log').read_text()[-2000:]}")
        time.sleep(10)
    stop.set()
    for one in clients:
        one.join()
    code = programs.stop("watch", signal.SIGTERM)
    time.sleep(2)
    served = programs.stop("serve", signal.SIGTERM)
    hearing.disconnect()
    hearing.loop_stop()
    summary = json.loads((folder / "watch.out").read_text())
    said = (folder / "watch.log").read_text().splitlines()
    states = Counter(json.loads(line).get("state") for line in tracks.read_text().splitlines())
    searches = np.array(measured.searches_s)
    return {
        "minutes": options.minutes,
        "clients": options.clients,
        "every_s": options.every,
        "rows_before": options.rows,
        "exit_codes": {"watch": code, "serve": served},
        "frames": summary["frames"],
        "frames_per_s": round(summary["frames_per_s"], 2),
        "latency_p50_ms": round(summary["latency_p50_ms"], 1),
        "latency_p99_ms": round(summary["latency_p99_ms"], 1),
        "cameras": summary["cameras"],
        "enrolled": summary.get("enrolled"),
        "enrol_dropped": summary.get("enrol_dropped"),
        "track_events": {key: states[key] for key in ("entered", "seen", "left")},
        "over_mqtt": dict(measured.heard),
        "mqtt_lost": summary.get("mqtt_lost", summary.get("events_lost")),
        "searches": len(searches),
        "refused": dict(measured.refused),
        "search_p50_ms": round(1000 * float(np.percentile(searches, 50)), 1),
        "search_p99_ms": round(1000 * float(np.percentile(searches, 99)), 1),
        "memory_mb": {
            name: {"first_minute": round(max(values[:6])), "last_minute": round(max(values[-6:]))}
            for name, values in measured.memory_mb.items()
        },
        "outage_s": options.outage,
        "said": [
            line for line in said if "reconnecting" in line or "back" in line or "MQTT" in line
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between searches")
    parser.add_argument("--outage", type=float, default=60.0)
    parser.add_argument("--beside", default="nothing", help="what ran beside it")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = run(options, Path(folder), stack)
    found["beside"] = options.beside
    found["model"] = options.model.name
    print(json.dumps(found, indent=1))
    if options.record:
        write_text(RECORD, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
