"""An output that names an input is refused, whatever name it goes by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid.errors import OutputError
from reid.outputs import refuse_inputs


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "yard.mp4"
    path.write_bytes(b"people")
    return path


@pytest.mark.parametrize("kind", ["itself", "relative", "hard link", "symbolic link", "dots"])
def test_an_output_that_is_an_input_is_refused_under_any_name(
    recording: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = recording.with_name("other.mp4")
    if kind == "hard link":
        os.link(recording, other)
    if kind == "symbolic link":
        other.symlink_to(recording)
    monkeypatch.chdir(recording.parent)
    output = {
        "itself": recording,
        "relative": Path("yard.mp4"),
        "dots": recording.parent / ".." / recording.parent.name / "yard.mp4",
    }.get(kind, other)
    with pytest.raises(OutputError, match=r"--video .* is an input of this command"):
        refuse_inputs({"--events": None, "--video": output}, [None, recording])
    assert recording.read_bytes() == b"people"


def test_files_in_input_folders_and_manifests_beside_inputs_count(tmp_path: Path) -> None:
    inside = tmp_path / "run" / "deep" / "1.png"
    inside.parent.mkdir(parents=True)
    inside.touch()
    manifest = tmp_path / "m.onnx.json"
    manifest.touch()
    for output in (inside, manifest):
        with pytest.raises(OutputError, match="would be overwritten"):
            refuse_inputs({"--out": output}, [tmp_path / "run", tmp_path / "m.onnx"])


def test_two_outputs_in_one_file_are_refused_and_a_new_one_is_not(
    recording: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.mp4"
    with pytest.raises(OutputError, match="--events and --video name one file"):
        refuse_inputs({"--events": new, "--video": new}, [])
    earlier = tmp_path / "earlier.jsonl"
    earlier.touch()
    refuse_inputs({"--events": earlier, "--video": new}, [recording, tmp_path / "absent"])
