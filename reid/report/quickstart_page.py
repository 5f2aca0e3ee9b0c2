"""The quickstart's ``index.html``: one self-contained page with its results."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid.evaluation.tables import percent
from reid.files import write_text
from reid.report.html_page import embedded_picture, links, page, paragraph, table


def write_page(path: Path, report: Mapping[str, Any], pictures: Mapping[str, Path]) -> None:
    """Write the page for a quickstart's report; pictures are embedded as PNG."""
    models = report["eval"]["models"]
    chance = report["eval"]["chance_rank1"]
    data = report["data"]
    lead = (
        f"Trained for {report['train']['seconds']:.0f} s on {data['train_images']} synthetic "
        f"images of {data['train_identities']} people; tested on {data['test_identities']} others. "
        f"Rank-1 {percent(models[0]['cmc']['rank1'])} %; of a random ranking: {percent(chance)} %. "
        f"All steps together took {report['seconds']:.0f} s."
    )
    body = [
        paragraph(lead, "lead"),
        "<h2>Query images and their nearest gallery images</h2>",
        embedded_picture(
            pictures["ranked"], "ranked lists: query, then its nearest gallery images"
        ),
        "<h2>Retrieval: the checkpoint and its exported files</h2>",
        _retrieval(models, chance),
        "<h2>Parity: does an exported file give the same output as its checkpoint?</h2>",
        _parity(report["parity"]),
        _engine(report["engine"]),
        "<h2>Speed</h2>",
        _speed(report["bench"]),
        "<h2>Training</h2>",
        embedded_picture(pictures["curves"], "training curves"),
        "<h2>Commands</h2>",
        _steps(report["steps"]),
        "<h2>Files</h2>",
        _files(path.parent, report),
    ]
    write_text(path, page("reid quickstart", body))


def _retrieval(models: Sequence[Mapping[str, Any]], chance: float) -> str:
    """The random ranking has its own row, with rank-1 only."""
    rows = [
        (
            Path(model["model"]).name,
            *(f"{percent(model['cmc'][f'rank{k}'])} %" for k in (1, 5, 10)),
            *(f"{percent(model[name])} %" for name in ("map_step", "map_trapezoid", "minp")),
        )
        for model in models
    ]
    head = ("model", "rank-1", "rank-5", "rank-10", "mAP (step)", "mAP (trapezoid)", "mINP")
    return table(head, [*rows, ("chance", f"{percent(chance)} %", *5 * ("",))])


def _files(folder: Path, report: Mapping[str, Any]) -> str:
    """Links to files in the page's folder."""
    files = [
        report["checkpoint"],
        *report["export"]["files"],
        *report["engine"].get("engines", ()),
        str(folder / "report.json"),
    ]
    return links([Path(file).relative_to(folder).as_posix() for file in files])


def _parity(reports: Sequence[Mapping[str, Any]]) -> str:
    shown = ("lowest_row_cosine", "max_error", "p99_error", "top1_agreement", "batch_error")
    rows = [
        (
            Path(report["candidate"]).name,
            "passed" if report["passed"] else "FAILED",
            *(f"{report['checks'][name]['found']:.6g}" for name in shown),
        )
        for report in reports
    ]
    return table(("file", "parity", *(name.replace("_", " ") for name in shown)), rows)


def _engine(engine: Mapping[str, Any]) -> str:
    if engine["built"]:
        lines = [f'<p class="ok">TensorRT engine: {html.escape(", ".join(engine["engines"]))}</p>']
        lines += [
            f'<p class="no">{html.escape(f"{Path(file).name}: parity not checked: {why}")}</p>'
            for file, why in engine["not_run"].items()
        ]
        return "\n".join(lines)
    return f'<p class="no">{html.escape(engine["why"])}</p>'


def _speed(benches: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            bench["file"],
            str(timing["batch_size"]),
            f"{timing['network']['p50_ms']:.1f}",
            f"{timing['network']['p99_ms']:.1f}",
            f"{timing['network']['crops_per_s']:.0f}",
            f"{timing['together']['crops_per_s']:.0f}",
        )
        for bench in benches
        for timing in bench["timings"]
    ]
    head = ("file", "batch", "p50 ms", "p99 ms", "crops/s", "with preprocessing")
    first = benches[0]
    where = f"{first['cpu']}, {first['num_cpus']} CPUs, {first['backend']}; times of a batch"
    return f"<p>{html.escape(where)}</p>{table(head, rows)}"


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(step['command'])}</code></td><td>{step['seconds']:.1f} s</td>"
        "</tr>"
        for step in steps
    )
    return f"<table><tr><th>command</th><th>time</th></tr>{rows}</table>"
