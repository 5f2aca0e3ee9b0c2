"""A real Milvus server, for the tests: started, frozen, killed and started again.

Its package (`pip install milvus "setuptools<82"`) has needs of its own, so it lives in an
environment of its own, whose interpreter REID_MILVUS_SERVER_PYTHON names. That interpreter runs
this file: python milvus_server.py FOLDER PORT, until its standard input ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

VARIABLE = "REID_MILVUS_SERVER_PYTHON"
START_S = 120
"""A server that has not answered by then has died, or never will."""

NEEDED = f"needs a Milvus server: {VARIABLE} names an interpreter that has the package milvus"


class MilvusServer:
    """A server with its data in ``folder``; ``start`` returns when it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._script: subprocess.Popen[str] | None = None
        self._pid = 0

    @property
    def url(self) -> str:
        return f"milvus://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [os.environ[VARIABLE], __file__, str(self.folder), str(self.port)]
        inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self._script = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=inherited
        )
        assert self._script.stdout is not None
        answers, _, _ = select.select([self._script.stdout], [], [], START_S)
        line = self._script.stdout.readline() if answers else ""
        if not line.startswith("ready "):
            self._script.kill()  # it waits for ever for a server that died as it started
            self._script = None
            raise RuntimeError(f"the Milvus server did not start; see {self.folder}/logs")
        self._pid = int(line.split()[1])

    def freeze(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self._script is not None:
            with contextlib.suppress(BrokenPipeError):
                self._script.communicate(timeout=60)
            self._script = None


def free_socket(config: object, port: int) -> socket.socket | None:
    """The package takes another port while connections to a killed server end on this one."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError:
        found.close()
        return None
    return found


def serve(folder: str, port: int) -> None:
    import milvus  # type: ignore[import-not-found]

    milvus.MilvusServerConfig.try_bind_port = free_socket
    server = milvus.MilvusServer()
    server.set_base_dir(folder)
    server.config.set("proxy_port", port)
    server.start()
    print("ready", server.server_proc.pid, flush=True)
    sys.stdin.read()
    with contextlib.suppress(ProcessLookupError):
        os.kill(server.server_proc.pid, signal.SIGKILL)  # it writes its data at once, by its log
    server.server_proc.wait()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
