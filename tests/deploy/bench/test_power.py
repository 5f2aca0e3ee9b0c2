"""Power from a Jetson's rails, NVML's counter and nvidia-smi, all of them stood in for."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reid.deploy.bench import latency as bench_module
from reid.deploy.bench.latency import bench
from reid.deploy.bench.nvml import NvmlGpu
from reid.deploy.bench.power import EnergyMeter, RailMeter, Sample, SmiMeter, measured
from reid.deploy.bench.power import open_meter as open_any_meter
from reid.runtime.tensorrt_runner import TensorRtRunner
from tests.deploy.bench.test_latency import CountingRunner


def no_counter(gpu: str) -> NvmlGpu:
    raise OSError("libnvidia-ml.so.1: no such file")


open_meter = partial(open_any_meter, open_gpu=no_counter)
"""On a machine with a GPU too, these tests see none."""


class FakeNvml:
    """As much of libnvidia-ml as is used: functions that return a code and write at a pointer."""

    def __init__(self, lacks: str = "", **codes: int) -> None:
        self.codes, self.lacks = codes, lacks
        self.asked: list[Any] = []
        self.millijoules = 5_000_000

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_" or name == self.lacks:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            code = self.codes.get(name, 0)
            if code == 0:
                getattr(self, f"_{name}")(*arguments)
            return code

        return function

    def _nvmlInit_v2(self) -> None: ...

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> None:
        self.asked.append(index.value)
        device._obj.value = 0xABCD

    def _nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> None:
        self.asked.append(uuid)
        device._obj.value = 0xABCD

    def _nvmlDeviceGetTotalEnergyConsumption(self, device: Any, counter: Any) -> None:
        assert device.value == 0xABCD
        counter._obj.value = self.millijoules

    def _nvmlDeviceGetClockInfo(self, device: Any, kind: Any, mhz: Any) -> None:
        assert device.value == 0xABCD
        mhz._obj.value = {1: 1980, 2: 2619}[kind.value]


def rails_in(folder: Path, **rails: tuple[int, int]) -> Path:
    """hwmon files of one INA3221: name -> (millivolts, milliamperes)."""
    chip = folder / "hwmon3"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina3221\n")
    for number, (name, (volts, amperes)) in enumerate(rails.items(), start=1):
        (chip / f"in{number}_label").write_text(f"{name}\n")
        (chip / f"in{number}_input").write_text(f"{volts}\n")
        (chip / f"curr{number}_input").write_text(f"{amperes}\n")
    other = folder / "hwmon0"
    other.mkdir()
    (other / "name").write_text("thermal\n")
    return folder


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_jetsons_whole_input_counts_where_it_has_a_rail(tmp_path: Path) -> None:
    rails = {"VDD_IN": (5000, 1200), "VDD_CPU_GPU_CV": (5000, 400), "VDD_SOC": (5000, 300)}
    meter = open_meter(False, rails_in(tmp_path, **rails))
    assert isinstance(meter, RailMeter)
    assert meter.name == "rails VDD_IN"
    with measured(meter) as power:
        time.sleep(0.01)
    assert power.watts == pytest.approx(6.0)
    assert power.gpu_mhz is None
    with measured(meter) as again:
        pass
    assert again.samples[0] == Sample(6.0)


def test_without_it_the_rails_are_added(tmp_path: Path) -> None:
    rails = {"VDD_GPU_SOC": (19000, 100), "VDD_CPU_CV": (19000, 200), "VIN_SYS_5V0": (5000, 800)}
    meter = open_meter(True, rails_in(tmp_path, **rails, VDDQ_VDD2_1V8AO=(5000, 300)))
    assert isinstance(meter, RailMeter)
    assert meter.name == "rails VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"  # which feeds the memory
    with measured(meter) as power:
        pass
    assert power.watts == pytest.approx(9.7)


def test_rails_that_are_off_or_not_connected_do_not_silence_the_others(tmp_path: Path) -> None:
    rails = {"VDD_GPU_SOC": (19000, 100), "NC": (40, 3), "VDD_CPU_CV": (19000, 200)}
    hwmon = rails_in(tmp_path, **rails)
    chip = hwmon / "hwmon3"
    (chip / "in3_enable").write_text("0\n")
    (chip / "curr3_input").write_text("")  # as a read that the kernel refuses
    meter = open_meter(True, hwmon)
    assert meter is not None
    assert meter.name == "rails VDD_GPU_SOC"
    with measured(meter) as power:
        pass
    assert power.watts == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("visible", "gpu"), [(None, "0"), ("", "0"), ("3,1", "3"), ("GPU-5fb8, 2", "GPU-5fb8")]
)
def test_the_gpu_that_cuda_sees_first_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, gpu: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    smi = script(tmp_path / "smi", f'[ "$1" = "--id={gpu}" ] && echo "70.5, 210, 405"')
    assert isinstance(open_meter(True, tmp_path / "none", smi), SmiMeter)


@pytest.mark.parametrize(("gpu", "asked"), [("1", 1), ("GPU-5fb8", b"GPU-5fb8")])
def test_the_energy_counter_gives_the_mean_power_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str, asked: int | bytes
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpu)
    nvml = FakeNvml()
    meter = open_meter(
        True, tmp_path, str(tmp_path / "none"), open_gpu=lambda name: NvmlGpu(name, nvml)
    )
    assert isinstance(meter, EnergyMeter)
    assert nvml.asked == [asked]
    began = time.perf_counter()
    with measured(meter) as power:
        time.sleep(0.05)
        nvml.millijoules += 4000
    seconds = time.perf_counter() - began
    assert power.watts is not None
    assert 4 / seconds <= power.watts <= 4 / 0.05
    assert (power.gpu_mhz, power.memory_mhz) == (1980, 2619)
    with measured(meter) as still:  # the counter has not moved
        pass
    assert still.watts is None


@pytest.mark.parametrize(
    "nvml",
    [
        FakeNvml(nvmlInit_v2=9),
        FakeNvml(nvmlDeviceGetTotalEnergyConsumption=3),  # not supported before Volta
        FakeNvml(lacks="nvmlDeviceGetTotalEnergyConsumption"),
    ],
)
def test_without_an_energy_counter_nvidia_smi_is_asked_for_the_power_now(
    tmp_path: Path, nvml: FakeNvml
) -> None:
    smi = script(
        tmp_path / "smi", 'case "$2" in *=power.draw.instant,*) echo "70, 210, 405";; esac'
    )
    meter = open_meter(True, tmp_path / "none", smi, open_gpu=lambda name: NvmlGpu(name, nvml))
    assert isinstance(meter, SmiMeter)


def test_a_driver_that_does_not_know_the_power_now_gives_its_mean(tmp_path: Path) -> None:
    smi = script(
        tmp_path / "smi",
        'case "$2" in *instant*) echo "Field is not a valid field"; exit 2;; '
        '*) echo "70, 210, 405";; esac',
    )
    assert isinstance(open_meter(True, tmp_path / "none", smi), SmiMeter)


def test_no_line_of_nvidia_smi_is_lost_when_it_is_ended(tmp_path: Path) -> None:
    """Into a file or a pipe, a program writes in blocks of some kilobytes."""
    smi = tmp_path / "smi"
    smi.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        "output = open(1, 'w')  # by lines into a terminal, by blocks elsewhere\n"
        "print('80.0, 1980, 2619', file=output)\n"
        f"open({str(tmp_path / 'written')!r}, 'w').close()\n"
        "time.sleep(60 * ('--loop-ms=100' in sys.argv))\n"
    )
    smi.chmod(0o755)
    meter = SmiMeter(str(smi))
    with measured(meter) as power:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not (tmp_path / "written").exists():
            time.sleep(0.01)
    assert power.watts == pytest.approx(80.0)


def test_nvidia_smi_is_asked_again_and_again(tmp_path: Path) -> None:
    smi = script(
        tmp_path / "smi",
        'case "$*" in\n'
        "*--loop-ms=100*) echo '80.0, 1980, 2619'; echo '[N/A], 1980, 2619'; "
        "echo '100.0, 1000, 2619'; exec sleep 60;;\n"
        "*) echo '70.5, 210, 405';;\nesac",
    )
    meter = open_meter(True, tmp_path / "none", smi)
    assert isinstance(meter, SmiMeter)
    assert open_meter(False, tmp_path / "none", smi) is None  # the card idles: no figure of the CPU
    with measured(meter) as power:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not _has_written(meter):
            time.sleep(0.01)
    assert power.watts == pytest.approx(90.0)
    assert (power.gpu_mhz, power.memory_mhz) == pytest.approx((1490, 2619))


def _has_written(meter: SmiMeter) -> bool:
    """Whether the script has come to its sleep: its lines are in the pipe by then."""
    process = meter._process
    assert process is not None
    return "sleep" in Path(f"/proc/{process.pid}/cmdline").read_text()


def test_a_machine_that_tells_nothing_has_no_meter(tmp_path: Path) -> None:
    assert open_meter(True, tmp_path / "none", str(tmp_path / "none")) is None
    silent = script(tmp_path / "smi", "echo '[N/A], [N/A], [N/A]'")
    assert open_meter(True, tmp_path / "none", silent) is None
    failing = script(tmp_path / "failing", "exit 9")
    assert open_meter(True, tmp_path / "none", failing) is None
    with measured(None) as power:
        pass
    assert power.watts is None


def test_the_benchmark_tells_watts_and_crops_per_joule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hwmon = rails_in(tmp_path, VDD_IN=(5000, 2000))
    monkeypatch.setattr(bench_module, "open_meter", lambda on_gpu: open_meter(on_gpu, hwmon))
    report = bench(CountingRunner(), batch_sizes=(4,), seconds=0.01, warmup_s=0.0)
    (timing,) = report.timings
    assert timing.watts == pytest.approx(10.0)
    assert timing.crops_per_joule == pytest.approx(timing.together.crops_per_s / 10)
    assert report.to_text().splitlines()[-1].startswith("batch 4: 10.0 W (rails VDD_IN), ")
    monkeypatch.setattr(bench_module, "open_meter", lambda _: None)
    plain = bench(CountingRunner(), batch_sizes=(4,), seconds=0.01, warmup_s=0.0)
    assert plain.timings[0].crops_per_joule is None
    assert "joule" not in plain.to_text()


def test_the_benchmark_says_whether_the_card_does_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(bench_module, "open_meter", asked.append)
    runner = CountingRunner()
    for on_gpu in (False, True):
        runner.on_gpu = on_gpu
        bench(runner, batch_sizes=(1,), seconds=1e-9, warmup_s=0.0)
    assert asked == [False, True]
    assert TensorRtRunner.on_gpu
