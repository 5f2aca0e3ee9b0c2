"""What CI and contributors are given: the workflow, the pinned versions, skips that are counted."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import BROWSERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
SCRIPT = ROOT / ".ci" / "constraints.py"
CLASSIFIER = "Programming Language :: Python :: 3."


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        project: dict[str, Any] = tomllib.load(file)["project"]
    return project


@pytest.fixture(scope="module")
def pythons(project: dict[str, Any]) -> list[str]:
    """``3.10`` and so on: what the classifiers promise."""
    return [f"3.{name[len(CLASSIFIER) :]}" for name in project["classifiers"] if CLASSIFIER in name]


def direct_dependencies(project: dict[str, Any], *extras: str) -> list[Requirement]:
    """What the package and its extras ask for by name; extras that they include are followed."""
    groups = project["optional-dependencies"]
    found = [*project["dependencies"], *(line for extra in extras for line in groups[extra])]
    asked = [Requirement(line) for line in found]
    included = sorted(
        {extra for one in asked if one.name == project["name"] for extra in one.extras}
    )
    asked += direct_dependencies(project, *included) if included else []
    return [one for one in asked if one.name != project["name"]]


def pins() -> dict[str, Requirement]:
    """The lines of the constraints file by normalised name."""
    lines = CONSTRAINTS.read_text().splitlines()
    read = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len({canonicalize_name(pin.name) for pin in read}) == len(read)
    return {canonicalize_name(pin.name): pin for pin in read}


def constraints(command: str, file: Path) -> str:
    """What ``.ci/constraints.py`` prints of this environment."""
    words = [sys.executable, str(SCRIPT), command, str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_workflow_runs_ci_on_every_python_of_the_classifiers(pythons: list[str]) -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    (listed,) = re.findall(r"^ +python: (\[.*\])$", text, re.MULTILINE)
    assert ast.literal_eval(listed) == pythons
    assert re.findall(r"^ +- run: (.*)$", text, re.MULTILINE) == [".ci/run"]
    assert "upload" not in text


def test_the_hooks_run_programs_of_the_development_environment(project: dict[str, Any]) -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"^ +entry: (.*)$", text, re.MULTILINE)
    assert entries == ["ruff check", "ruff format", "mypy"]
    assert text.count("language: system") == len(entries)
    names = {one.name for one in direct_dependencies(project, "dev")}
    assert {entry.split()[0] for entry in entries} <= names


def test_every_direct_dependency_is_pinned_to_a_version_that_it_allows(
    project: dict[str, Any],
) -> None:
    asked = [
        one
        for one in direct_dependencies(project, "cpu", "dev")
        # setuptools is left out: [milvus] needs an older one. The file is for Python 3.11.
        if one.name != "setuptools"
        and (not one.marker or one.marker.evaluate({"python_version": "3.11"}))
    ]
    assert {"torch", "pytest", "numpy"} <= {one.name for one in asked}
    found = pins()
    for one in asked:
        (version,) = found[canonicalize_name(one.name)].specifier
        assert version.operator == "=="
        assert one.specifier.contains(version.version), one.name


def test_no_pin_is_of_one_build_or_leaves_out_a_newer_python(pythons: list[str]) -> None:
    for pin in pins().values():
        assert "+" not in str(pin.specifier)
        assert all(
            not pin.marker or pin.marker.evaluate({"python_version": python})
            for python in pythons[1:]
        )


def test_markers_are_chosen_among_the_pythons_of_the_classifiers(pythons: list[str]) -> None:
    tree = ast.parse(SCRIPT.read_text())
    (known,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PYTHONS"
    )
    assert list(ast.literal_eval(known)) == pythons


def test_other_versions_and_unknown_packages_are_named_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    constraints("write", file)
    assert constraints("compare", file) == f"the versions are those of {file}\n"
    lines = file.read_text().splitlines()
    changed = ["numpy==1.0.0" if line.startswith("numpy==") else line for line in lines]
    file.write_text("\n".join(line for line in changed if not line.startswith("pytest==")))
    assert constraints("compare", file).splitlines() == [
        f"other versions than in {file}: numpy",
        f"not in {file}: pytest",
    ]


def test_services_look_for_the_browsers_that_the_tests_can_drive() -> None:
    text = (ROOT / ".ci/services").read_text()
    assert re.findall(r"for name in (.*); do", text) == [" ".join(BROWSERS)]


@pytest.fixture
def small_suite(tmp_path: Path) -> Path:
    """Tests of which three are skipped for two reasons, beside this suite's conftest."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_small.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_one(): pytest.skip('needs a program\\nand more')\n"
        "@pytest.mark.skipif(True, reason='needs a GPU')\n"
        "def test_other(): pass\n"
        "@pytest.mark.xfail\n"
        "def test_wrong(): assert False\n"
    )
    (tmp_path / "test_second.py").write_text(
        "import pytest\ndef test_two(): pytest.skip('needs a program')\n"
    )
    return tmp_path


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_closing_lines_count_skips_by_reason(small_suite: Path, processes: str) -> None:
    done = run_pytest(small_suite, "-ra", "-n", processes)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, first, second, closing = done.stdout.splitlines()
    assert (first, second) == ("2 skipped: needs a program", "1 skipped: needs a GPU")
    assert "1 passed, 3 skipped, 1 xfailed" in closing


def test_without_skips_allowed_each_skip_fails_with_its_reason(small_suite: Path) -> None:
    done = run_pytest(small_suite, "-n", "2", "--no-skips")
    assert done.returncode == 1, done.stdout + done.stderr
    for reason in ("needs a program", "needs a GPU"):
        assert f"skipped, but --no-skips was given: {reason}" in done.stdout
    # A mark skips a test before it is set up, which pytest calls an error.
    assert "2 failed, 1 passed, 1 xfailed, 1 error" in done.stdout.splitlines()[-1]
