"""Fixtures that several rooms share: a handful of synthetic people and a tiny configuration."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
"""Programs that the tests can drive as a browser; `.ci/services` looks for the same."""

# Tiny networks gain nothing from a second thread, and lose much where another program has the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Real images beside the project are found without a setting; an empty REID_DATA leaves them out.
if (ROOT.parent / "shared" / "data").is_dir():
    os.environ.setdefault("REID_DATA", str(ROOT.parent / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--no-skips`, for a run that has installed all that its tests need."""
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped fails")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With `--no-skips` a skip is a failure that shows the reason."""
    report = yield
    expected = hasattr(report, "wasxfail")
    if report.skipped and not expected and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but --no-skips was given: {_skip_reason(report)}"
        report.sections = []  # output of a setup that did not matter would hide the reason
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failed test at once, too: a run that is stopped has no summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = getattr(crash, "message", str(report.longrepr)).partition("\n")[0]
        print(f"\nfailed: {report.nodeid}: {reason}", file=sys.stderr, flush=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Before pytest's closing line: how many tests were skipped, by reason."""
    yield
    lines = skips_by_reason(terminalreporter.stats.get("skipped", []))
    if lines:
        terminalreporter.write_sep("=", "skipped tests by reason")
    for line in lines:
        terminalreporter.write_line(line)


def skips_by_reason(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """``3 skipped: why`` for each reason, the most frequent first."""
    reasons = Counter(_skip_reason(report) for report in reports)
    return [f"{count} skipped: {reason}" for reason, count in reasons.most_common()]


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The first line of the reason that the test gave."""
    said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return said.removeprefix("Skipped: ").partition("\n")[0]


TINY = (
    # 16x8 is the smallest image the graph takes; a step takes milliseconds.
    "preprocess.resize_height=20",
    "preprocess.resize_width=10",
    "preprocess.crop_height=16",
    "preprocess.crop_width=8",
    "sampler.identities_per_batch=3",
    "sampler.images_per_identity=2",
    "stages=[{name='one', iterations=6, base_lr=0.01, loss_weights={softmax=1.0, euclidean=1.0}},"
    " {name='two', iterations=4, base_lr=0.001, lr_policy='fixed',"
    " loss_weights={softmax=1.0, euclidean=1.0, cross_correlation=1.0}}]",
    "run.precision=fp32",
    "run.channels_last=off",
    "run.log_every=1",
    "data.num_workers=0",
)
"""Overrides of the synthetic recipe for a run of ten steps that takes a second or two."""


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of synthetic people in Market-1501's layout: 8 to train on, 4 to test on."""
    from reid.data.synthetic.writing import write_synthetic

    root = tmp_path_factory.mktemp("people")
    write_synthetic(
        root,
        num_train_identities=8,
        num_test_identities=4,
        cameras=2,
        images_per_camera=3,
        num_distractors=2,
        num_junk=2,
        seed=3,
    )
    return root


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic people like ``people``, enough of them to measure thresholds: 14 to test on."""
    from reid.data.synthetic.writing import write_synthetic
    from tests.made_once import made_once

    def make(root: Path) -> Path:
        write_synthetic(
            root,
            num_train_identities=2,
            num_test_identities=14,
            cameras=2,
            images_per_camera=3,
            num_distractors=0,
            num_junk=0,
            seed=5,
        )
        return root

    return made_once(tmp_path_factory, "crowd", make)


@pytest.fixture(scope="session")
def tiny_overrides() -> tuple[str, ...]:
    """See ``TINY``."""
    return TINY


@pytest.fixture(scope="session")
def real_data() -> Callable[..., Path]:
    """The folder of real data, asked for with the folders in it that the test reads.

    It is REID_DATA, or ``../shared/data`` beside the project. The test is skipped where there is
    none, or where one of the folders is missing.
    """

    def folder_with(*names: str) -> Path:
        given = os.environ.get("REID_DATA")
        if not given:
            pytest.skip("needs real images: set REID_DATA to the folder that holds them")
        assert Path(given).is_dir(), f"REID_DATA is not a folder: {given}"
        missing = [name for name in names if not Path(given, name).exists()]
        if missing:
            pytest.skip(f"needs {', '.join(missing)} in the folder that REID_DATA names")
        return Path(given)

    return folder_with


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> str:
    """The program of a Chromium; the test is skipped where there is none."""
    marked = request.node.get_closest_marker("services")
    assert marked, "a test with a browser is marked `services`, or .ci/services does not run it"
    for name in BROWSERS:
        if program := shutil.which(name):
            return program
    pytest.skip(f"needs a browser, one of {', '.join(BROWSERS)}: apt-get install chromium")


@dataclass(frozen=True)
class Road:
    """What one `reid quickstart` on tiny images left and said; read it, do not change it."""

    folder: Path
    stdout: str
    stderr: str

    @property
    def people(self) -> Path:
        return self.folder / "people"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def onnx(self, precision: str) -> Path:
        return self.folder / "exported" / f"msp_cnn.{precision}.onnx"

    def copy_of(self, precision: str, folder: Path) -> Path:
        """An exported file and its manifest in another folder, to be spoilt."""
        file = self.onnx(precision)
        shutil.copy(f"{file}.json", folder)
        return Path(shutil.copy(file, folder))


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """The whole road once: people, a trained run, both exports, their proofs and times."""
    from tests.made_once import made_once

    return made_once(tmp_path_factory, "road", lambda folder: _road(folder / "out"))


def _road(folder: Path) -> Road:
    from reid.api import quickstart
    from reid.cli import main

    options = [word for override in TINY for word in ("--set", override)]
    sizes = ["--people", "4", "--train-identities", "6"]
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        patched.setattr(quickstart, "BENCH_S", 0.02)
        patched.setattr(quickstart, "BUILDERS", ("no_such_builder",))
        code = main(["quickstart", "--out", str(folder), *sizes, *options])
    assert code == 0, stderr.getvalue()
    return Road(folder, stdout.getvalue(), stderr.getvalue())


Interrupt = Callable[[list[str], Callable[[str], bool]], tuple[int, str, str]]


@pytest.fixture
def interrupt() -> Interrupt:
    """Runs ``reid`` and presses Ctrl-C; gives its exit code, stdout and stderr.

    Called with the arguments and with what says, from stderr so far, that it has begun.
    """

    def run(arguments: list[str], begun: Callable[[str], bool]) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "reid.cli", *arguments]
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as child,
        ):
            deadline = time.monotonic() + 120
            while not begun(_written(said.fileno())) and child.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            child.send_signal(signal.SIGINT)
            stdout, _ = child.communicate()
            stderr = _written(said.fileno())
        assert "Traceback" not in stderr
        return child.returncode, stdout, stderr

    return run


def _written(file: int) -> str:
    """What a file holds; the place where a child writes into it stays as it is."""
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


@pytest.fixture
def road_data(road: Road) -> list[str]:
    """The options that name the road's people."""
    return ["--data", "synthetic", "--data-root", str(road.people)]
