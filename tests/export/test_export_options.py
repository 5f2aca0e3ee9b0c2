"""How the options of `reid export` reach the builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reid.cli import main
from reid.export import api
from reid.export.tensorrt.options import EngineOptions
from reid.model_file.manifest import BatchProfile

EXPORT = ["export", "run", "--out", "out", "--trt", "--no-parity", "--json"]


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[EngineOptions]:
    """The options of each build; nothing is exported or built."""
    asked: list[EngineOptions] = []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").touch()
    monkeypatch.chdir(tmp_path)

    def build(files: Any, out: Any, options: EngineOptions, reporter: Any) -> list[Any]:
        asked.append(options)
        return []

    monkeypatch.setattr(api, "export_checkpoint", lambda *_: [])
    monkeypatch.setattr(api, "build_engines", build)
    return asked


@pytest.mark.parametrize(
    ("options", "profiles"),
    [
        ([], [(1, 8, 32), (33, 128, 256)]),
        (["--maxBatch", "32"], [(1, 8, 32)]),
        (["--profile", "1-8-32"], [(1, 8, 32)]),
        (["--optBatch", "4", "--maxBatch", "4"], [(1, 4, 4)]),
        (["--profile", "2-4-8"], [(2, 4, 8)]),
        (["--profile", "1-1-1", "--profile", "2-8-32"], [(1, 1, 1), (2, 8, 32)]),
    ],
)
def test_profiles_reach_the_builder_in_their_order(
    built: list[EngineOptions], options: list[str], profiles: list[tuple[int, int, int]]
) -> None:
    assert main([*EXPORT, *options]) == 0
    assert built[0].profiles == tuple(BatchProfile(*sizes) for sizes in profiles)


def test_every_option_of_the_builder_reaches_it(built: list[EngineOptions]) -> None:
    given = {
        "--timingCacheFile": "timing.cache",
        "--builderOptimizationLevel": "2",
        "--memPoolSize": "512",
        "--hardwareCompatibilityLevel": "ampere+",
        "--flavour": "tensorrt",
    }
    options = [word for pair in given.items() for word in pair]
    assert main([*EXPORT, *options, "--versionCompatible", "--stripWeights", "--TF32"]) == 0
    assert main([*EXPORT, "--noTF32"]) == 0
    assert built == [
        EngineOptions(
            timing_cache_file=Path("timing.cache"),
            builder_optimization_level=2,
            mem_pool_size_mib=512,
            hardware_compatibility_level="ampere+",
            version_compatible=True,
            strip_weights=True,
            no_tf32=False,
            flavour="tensorrt",
        ),
        EngineOptions(),
    ]


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (["--profile", "1-8"], 1, "--profile must be MIN-OPT-MAX, such as 1-8-32; found '1-8'"),
        (["--profile", "8-4-32"], 1, "1 <= min <= opt <= max"),
        (["--profile", "1-1-1", "--maxBatch", "32"], 2, "--minBatch"),
    ],
)
def test_a_wrong_profile_is_refused_before_anything_is_exported(
    built: list[EngineOptions],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    exit_code: int,
    words: str,
) -> None:
    assert main([*EXPORT, *options]) == exit_code
    assert words in capsys.readouterr().err
    assert built == []
