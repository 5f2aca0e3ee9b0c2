"""Bundles in the real Triton server, which reads the folder as `reid bundle triton` leaves it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from reid.deploy.bundle.writing import bundle_triton
from reid.matching.golden import find_golden, load_golden
from reid.model_file.manifest import Manifest, read_manifest
from reid.types import FloatArray
from tests.deploy.conftest import Served
from tests.interpreters import interpreter

pytestmark = pytest.mark.services

CLIENT = Path(__file__).with_name("triton_client.py")
BACKEND = Path(__file__).with_name("triton_backend.py")
LIMIT_S = 120

FACTS = """
import json, pathlib, pytriton, sysconfig
package, library = pathlib.Path(pytriton.__file__).parent, sysconfig.get_config_var("LIBDIR")
print(json.dumps([str(package), library, sysconfig.get_python_version()]))
"""


@dataclass(frozen=True)
class Triton:
    """The installed server, and a folder of backends in which `onnxruntime` is the tests' own."""

    python: Path
    package: Path
    libraries: str
    backends: Path

    @contextmanager
    def serving(self, models: Path, *options: str) -> Iterator[tuple[str, str]]:
        """Its addresses for HTTP and gRPC, once all models of the repository are ready."""
        http, grpc = free_ports(2)
        command = [
            str(self.package / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={models}",
            f"--backend-directory={self.backends}",
            *("--http-address=127.0.0.1", f"--http-port={http}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}"),
            *("--allow-metrics=false", *options),
        ]
        # The stub of the Python backend links libpython, and takes the modules of the first
        # `python3` of PATH. With another environment's NumPy its answers are empty.
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": self.libraries,
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
        }
        log = models.with_name("triton.log")
        with ExitStack() as stack:
            file = stack.enter_context(log.open("wb"))
            server = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
            stack.callback(server.wait)
            stack.callback(server.terminate)
            deadline = time.monotonic() + LIMIT_S
            while not ready(http):
                assert server.poll() is None, log.read_text(errors="replace")[-4000:]
                assert time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
                time.sleep(0.1)
            yield f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"

    @contextmanager
    def client(self, verb: str, addresses: tuple[str, str], folder: Path) -> Iterator[Path]:
        """Runs the client beside the block, and ends with it; it must succeed."""
        command = [str(self.python), str(CLIENT), verb, *addresses, "people", str(folder)]
        errors = folder / "client.log"
        with errors.open("wb") as file, subprocess.Popen(command, stderr=file) as client:
            try:
                yield errors
                assert client.wait(LIMIT_S + 30) == 0, errors.read_text()[-4000:]
            finally:
                client.kill()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def ready(port: int) -> bool:
    address = f"http://127.0.0.1:{port}/v2/health/ready"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Triton:
    """The server of the wheel `nvidia-pytriton`, in an environment that has ONNX Runtime too."""
    python = interpreter("REID_TRITON_PYTHON", "nvidia-pytriton and onnxruntime")
    done = subprocess.run([python, "-c", FACTS], capture_output=True, text=True, check=True)
    package, library, version = json.loads(done.stdout)
    root = Path(package, "tritonserver")
    backends = tmp_path_factory.mktemp("backends")
    shutil.copytree(root / "backends" / "python", backends / "python")
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    (backends / "onnxruntime").mkdir()
    shutil.copy(BACKEND, backends / "onnxruntime" / "model.py")
    libraries = f"{Path(package).with_name('nvidia_pytriton.libs')}:{library}"
    return Triton(python, Path(package), libraries, backends)


def inputs_of(model: Path, folder: Path) -> FloatArray:
    """What a client sends for the golden crops, saved for it; the answers that it should get."""
    golden_file = find_golden(model)
    assert golden_file is not None
    golden = load_golden(golden_file)
    np.save(folder / "inputs.npy", read_manifest(model).preprocess.batch(list(golden.crops)))
    return golden.answers


def test_the_server_starts_on_the_bundle_and_gives_the_golden_answers(
    triton: Triton, served: Served, tmp_path: Path
) -> None:
    model, *_ = bundle_triton(
        [served.file("fp16", pixels=True)], tmp_path / "models", name="people"
    )
    golden = inputs_of(model, tmp_path)
    with (
        triton.serving(tmp_path / "models") as addresses,
        triton.client("ask", addresses, tmp_path),
    ):
        pass
    for name in ("http_batch", "http_singly", "grpc_batch", "grpc_singly"):
        answers = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(answers, golden, atol=2e-3, err_msg=name)
    batch, singly = (np.load(tmp_path / f"http_{kind}.npy") for kind in ("batch", "singly"))
    np.testing.assert_allclose(batch, singly, atol=1e-3)
    config = json.loads((tmp_path / "config.json").read_text())
    kept = config["parameters"]["reid.manifest"]["string_value"]
    assert Manifest.from_json(kept, "the server") == dataclasses.replace(
        read_manifest(model),
        file_sha256=read_manifest(served.file("fp16", pixels=True)).file_sha256,
    )


def test_a_running_server_takes_a_repeated_bundle_without_a_failed_request(
    triton: Triton, served: Served, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    model, *_ = bundle_triton([served.file("fp16", pixels=True)], models, name="people")
    golden = inputs_of(model, tmp_path)
    (tmp_path / "until.txt").write_text('\\"precision\\":\\"fp32\\"')
    polling = ("--model-control-mode=poll", "--repository-poll-secs=1")
    with (
        triton.serving(models, *polling) as addresses,
        triton.client("follow", addresses, tmp_path) as errors,
    ):
        deadline = time.monotonic() + LIMIT_S
        while not (tmp_path / "following").exists():
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.02)
        bundle_triton([served.file("fp32", pixels=True)], models, name="people")
        bundle_triton([served.file()], models, name="another")
    answers = np.load(tmp_path / "followed.npy")
    assert len(answers) > 1
    np.testing.assert_allclose(answers, np.broadcast_to(golden, answers.shape), atol=2e-3)
    np.testing.assert_allclose(answers[-1], golden, atol=1e-5)
