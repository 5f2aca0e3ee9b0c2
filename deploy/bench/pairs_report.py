"""The result of ``bench_pairs``: three ways to compare 1250 pairs."""

from __future__ import annotations

from dataclasses import dataclass

from .setting import Setting


@dataclass(frozen=True, slots=True)
class WayTiming:
    """One way to compare 1250 pairs (or to compute 1250 images): ``seconds`` for all of them.

    ``timed`` is how many were timed; if fewer than requested, ``seconds`` is extrapolated.
    ``per_s`` is the rate. The percentiles are over ``num_runs`` batches of ``batch_size``, or over
    whole queries in pieces of it. ``peak_mb`` is the process's peak memory so far (resident,
    libraries included), ``gpu_mb`` the GPU memory of all processes afterwards, by nvidia-smi; None
    without a GPU.
    """

    seconds: float
    timed: int
    batch_size: int
    num_runs: int
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    peak_mb: float
    gpu_mb: float | None


@dataclass(frozen=True, slots=True)
class PairsReport(Setting):
    """The three ways. ``naive`` is None if the two-image graph was not exported.

    ``widening_s`` is the part of ``compare`` that converts stored float16 to float32; the rest is
    the time with a gallery stored in float32. None if the network reads float16 itself.
    """

    pairs: int
    naive: WayTiming | None
    compare: WayTiming
    widening_s: float | None
    describe: WayTiming
    naive_over_compare: float | None
    float16_kb_per_image: float
    float32_kb_per_image: float

    def to_text(self) -> str:
        """The lines for the terminal."""
        lines = [
            *self.heading(),
            ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            "",
            "(a) two-image graph, both images computed for each pair; preprocessing not included",
            "    not exported"
            if self.naive is None
            else f"    {self.pairs} pairs in {_timing(self.naive, self.pairs, 'batches of')}",
            f"(b) one stored query against {self.pairs} stored images",
            f"    {self.pairs} pairs in {_timing(self.compare, self.pairs, 'queries by')}",
            *self._widening(),
            "(c) feature maps of the gallery; preprocessing and storing included",
            f"    {self.pairs} images in {_timing(self.describe, self.pairs, 'batches of')}",
            "",
        ]
        if self.naive_over_compare is not None:
            lines.append(f"(b) is {self.naive_over_compare:.1f} times as fast as (a)")
        for kind, each in (("16", self.float16_kb_per_image), ("32", self.float32_kb_per_image)):
            whole = each * self.pairs / 1000
            lines.append(f"stored as float{kind}: {each:.1f} kB per image, gallery {whole:.1f} MB")
        lines.append(f"peak memory of the process, libraries included: {self._peaks('peak_mb')}")
        if self.compare.gpu_mb is not None:
            lines.append(f"GPU memory in use, by all processes: {self._peaks('gpu_mb')}")
        return "\n".join(lines)

    def _widening(self) -> list[str]:
        if self.widening_s is None:
            return []
        held_s = self.compare.seconds - self.widening_s
        return [
            f"    of which {self.widening_s:.2f} s convert stored float16 to float32: stored in "
            f"float32, with twice the memory, {self.pairs} pairs in {held_s:.2f} s"
        ]

    def _peaks(self, field: str) -> str:
        """In the order of the timings."""
        ways = {"feature maps": self.describe, "comparing": self.compare, "two-image": self.naive}
        return ", ".join(
            f"{name} {getattr(way, field):.0f} MB"
            for name, way in ways.items()
            if way is not None and getattr(way, field) is not None
        )


def _timing(way: WayTiming, asked: int, runs: str) -> str:
    """``1.55 s, 806.5 per second; 5 queries by 128: p50 1550.0 ms, p90 ... ms, p99 1600.0 ms``."""
    extrapolated = "" if way.timed == asked else f" (extrapolated from {way.timed})"
    return (
        f"{way.seconds:.2f} s{extrapolated}, {way.per_s:.1f} per second; {way.num_runs} {runs} "
        f"{way.batch_size}: p50 {way.p50_ms:.1f} ms, p90 {way.p90_ms:.1f} ms, "
        f"p99 {way.p99_ms:.1f} ms"
    )
