"""Training and evaluating the rows of a paper's table over several splits, within a budget."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.api.evaluation import Settings, compare_models
from reid.api.reproduced import ReproducedRow, ReproducedTable, figures_of
from reid.config.settings import TrainConfig
from reid.config.tables import Table, TableRow, shortened, table_named
from reid.data.readers.datasets import reader_of
from reid.data.readers.joint import load_training
from reid.data.sampling.samplers import sampler_from_config
from reid.errors import ConfigError, DataError, output_errors
from reid.files import write_text
from reid.packages import named_packages
from reid.progress import Reporter, reporting
from reid.spans import seconds_from_span
from reid.training.schedule import stage_iterations

if TYPE_CHECKING:
    import os

    from reid.training.loop import TrainResult

PLAN, RESULT = "plan.json", "report.json"

PROBE_STEPS = 8
"""Steps that are trained to measure how long one takes (a choice); the first half warms up."""

RESERVE = 0.1
"""Share of the budget that is kept back, as speed varies (a choice)."""

_LOOP = "reid.training.loop"
"""Loads torch, so it is imported only for training."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is trained, decided once: a resumed call goes on with the same."""

    table: str
    data_root: str
    splits: int
    overrides: tuple[str, ...]
    budget_s: float | None
    share: float
    steps: tuple[int, ...]
    """Steps of each row in the paper's schedule."""

    @property
    def asked(self) -> dict[str, Any]:
        """What the caller chose, as ``plan.json`` has it."""
        known = dataclasses.asdict(self)
        return {key: known[key] for key in ("table", "data_root", "splits", "overrides")}


@dataclass(frozen=True, slots=True)
class _Job:
    """One row on one split."""

    row: TableRow
    number: int
    split: int
    folder: Path

    def config(self, plan_overrides: Sequence[str], short: Sequence[str] = ()) -> TrainConfig:
        """Its settings: a random split is drawn by its number, of a fixed one the run's seed is."""
        config = self.row.config(plan_overrides)
        fixed = all(reader_of(name).is_fixed for name in config.data.datasets)
        seed = "run.seed" if fixed else "data.split_seed"
        first = config.run.seed if fixed else config.data.split_seed
        return self.row.config((*plan_overrides, f"{seed}={first + self.split}", *short))


def reproduce(
    table: str,
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    splits: int = 1,
    budget: str | None = None,
    overrides: Sequence[str] = (),
    progress: bool | Reporter = False,
) -> ReproducedTable:
    """Train and evaluate the rows of a paper's table over ``splits`` splits into ``out``.

    ``table`` is one of those that ``reid reproduce`` lists. Split N of a dataset that is split at
    random has seed N; a dataset with its own split is trained with as many seeds instead. With
    ``budget`` (``"8h"``) all schedules are cut to the same share of their steps, so that the whole
    table takes about that long on this machine; the share is measured at the start and kept.
    ``overrides`` hold for all rows, as ``--set`` takes them. All rows of a split are trained before
    the next split.

    The same call goes on where it was stopped, by Ctrl-C too: ``result.complete`` tells. Each run
    keeps its folder, ``out``/ROW/split-N. Raises ConfigError for an unknown table, fewer than one
    split, a budget too short for an evaluation, or a folder with another plan; what training and
    evaluation raise.

    >>> done = reid.reproduce("msp_cnn_market1501", people, folder / "table", overrides=[
    ...     "data.name=synthetic", *tiny])
    >>> done.complete, len(done.rows), done.rows[0].num_splits
    (True, 1, 1)
    """
    chosen = table_named(table)
    if splits < 1:
        raise ConfigError(f"a table needs at least 1 split, found {splits}")
    budget_s = None if budget is None else seconds_from_span(budget)
    data_root, folder = Path(root), Path(out)
    jobs = list(_jobs(chosen, folder, splits))
    with reporting(progress) as reporter, named_packages():
        plan = _kept_plan(folder, chosen, data_root, splits, tuple(overrides), budget_s)
        if plan is None:
            plan = _new_plan(chosen, data_root, jobs, tuple(overrides), budget_s, reporter)
            with output_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / PLAN, json.dumps(dataclasses.asdict(plan), indent=1) + "\n")
        if plan.share < 1:
            reporter.say(f"the budget allows {plan.share:.3g} of the schedules' steps")
        for job in jobs:
            if not (job.folder / RESULT).exists() and not _run(job, plan, data_root, reporter):
                break
    return _table_of(chosen, plan, jobs)


def _jobs(table: Table, out: Path, splits: int) -> Iterator[_Job]:
    for split in range(splits):
        for number, row in enumerate(table.rows):
            name = re.sub(r"[^a-z0-9]+", "_", row.name.lower()).strip("_")
            yield _Job(row, number, split, out / name / f"split-{split}")


def _kept_plan(
    folder: Path,
    table: Table,
    root: Path,
    splits: int,
    overrides: tuple[str, ...],
    budget_s: float | None,
) -> _Plan | None:
    """The plan of an earlier call. Raises ConfigError if another table or data were asked for."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text("utf-8"))
        lists = {key: tuple(kept[key]) for key in ("overrides", "steps")}
        plan = _Plan(**{**kept, **lists})
        if not 0 < float(plan.share) <= 1 or len(plan.steps) != len(table.rows):
            raise ValueError("its numbers do not fit the table")
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} is damaged ({error}); name another folder, or remove this one"
        ) from None
    new = _Plan(table.name, str(root.resolve()), splits, overrides, budget_s, 0, ())
    for key, value in new.asked.items():
        # More splits of the same plan go on; their share of the steps stays.
        if plan.asked[key] != value and not (key == "splits" and splits > plan.splits):
            raise ConfigError(
                f"{folder} was begun with {key} {plan.asked[key]!r}, found {value!r}; go on with "
                "the same, or name another folder"
            )
    if budget_s not in (None, plan.budget_s):
        raise ConfigError(
            f"{folder} was begun with a budget of {plan.budget_s or 0:.0f} s, found "
            f"{budget_s:.0f}; the share of the steps is decided once: leave the budget out, or "
            "name another folder"
        )
    return dataclasses.replace(plan, splits=splits)


def _new_plan(
    table: Table,
    root: Path,
    jobs: Sequence[_Job],
    overrides: tuple[str, ...],
    budget_s: float | None,
    reporter: Reporter,
) -> _Plan:
    first = jobs[: len(table.rows)]
    totals = [sum(_stage_steps(job.config(overrides), root)) for job in first]
    share, splits = 1.0, len(jobs) // len(first)
    if budget_s is not None:
        costs = [_measured(job, overrides, root, reporter) for job in first]
        fixed_s = splits * sum(cost.fixed_s for cost in costs)
        steps_s = splits * sum(
            cost.step_s * total for cost, total in zip(costs, totals, strict=True)
        )
        left_s = (1 - RESERVE) * budget_s - fixed_s
        if left_s < steps_s / max(totals):
            raise ConfigError(
                f"a budget of {budget_s:.0f} s is too short: starting and evaluating "
                f"{len(jobs)} runs takes about {fixed_s:.0f} s here; give more, or fewer splits"
            )
        share = min(1.0, left_s / steps_s)
    return _Plan(table.name, str(root.resolve()), splits, overrides, budget_s, share, tuple(totals))


@dataclass(frozen=True, slots=True)
class _Cost:
    """Seconds of a step, and of starting and evaluating a run."""

    step_s: float
    fixed_s: float


def _measured(job: _Job, overrides: Sequence[str], root: Path, reporter: Reporter) -> _Cost:
    """Train a few steps and evaluate what came out, in a temporary folder."""
    reporter.say(f"measuring how long {job.row.name} takes")
    start = time.perf_counter()
    config = job.config(overrides)
    short = [
        f"stages.{number}.{key}"
        for number in range(len(config.stages))
        for key in (f"iterations={PROBE_STEPS // 2}", "epochs=0.0", "warmup_iterations=0")
    ]
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("cold", "warm")]
        trained = [_train(job.config(overrides, short), root, run, reporter) for run in runs]
        if any(one.interrupted for one in trained):
            raise KeyboardInterrupt
        _evaluate(runs[-1], config, root, reporter)
    whole_s = time.perf_counter() - start
    step_s = trained[-1].seconds / trained[-1].step
    return _Cost(step_s, max(0.0, whole_s - sum(one.seconds for one in trained)))


def _stage_steps(config: TrainConfig, root: Path) -> list[int]:
    records = load_training(config.data, root).records
    per_epoch = sampler_from_config(records, config.sampler, config.run.seed).num_batches
    iter_size = config.optimizer.iter_size
    return [stage_iterations(stage, per_epoch, iter_size) for stage in config.stages]


def _run(job: _Job, plan: _Plan, root: Path, reporter: Reporter) -> bool:
    """Train and evaluate one row on one split; false if it was stopped."""
    reporter.say(f"{job.row.name}, split {job.split}: {job.folder}")
    config = job.config(plan.overrides)
    if plan.share < 1:
        steps = _stage_steps(config, root)
        config = job.config(plan.overrides, shortened(config.stages, steps, plan.share))
    trained = _train(config, root, job.folder, reporter, resume=True)
    if trained.interrupted:
        return False
    report = _evaluate(job.folder, config, root, reporter)
    found = {"steps": trained.num_steps, "seconds": _seconds_of(job.folder, trained), **report}
    write_text(job.folder / RESULT, json.dumps(found, indent=1) + "\n")
    return True


def _train(
    config: TrainConfig, root: Path, out: Path, reporter: Reporter, *, resume: bool = False
) -> TrainResult:
    loop = importlib.import_module(_LOOP)
    result: TrainResult = loop.train(config, root, out, resume=resume, reporter=reporter)
    return result


def _seconds_of(folder: Path, trained: TrainResult) -> float:
    """Seconds of training over all calls: those of this one, scaled to all steps if it resumed."""
    own = trained.num_steps - trained.steps_before
    return trained.seconds * trained.num_steps / own if own else trained.seconds


def _evaluate(run: Path, config: TrainConfig, root: Path, reporter: Reporter) -> dict[str, Any]:
    """The report of the run on the first dataset that it was trained on."""
    name = config.data.datasets[0]
    place = root / name if config.data.names else root
    compared = compare_models([run], Settings(name, place), reporter=reporter)
    (report,) = compared.reports
    found, _ = compared.summary(published=True)
    return {"report": report.to_json(), "published": found["published"]}


def _table_of(table: Table, plan: _Plan, jobs: Sequence[_Job]) -> ReproducedTable:
    rows = []
    for number, row in enumerate(table.rows):
        mine = [job for job in jobs if job.number == number]
        found = [one for job in mine if (one := _result_in(job.folder)) is not None]
        rows.append(
            ReproducedRow(
                name=row.name,
                steps=max(1, round(plan.steps[number] * plan.share)),
                paper_steps=plan.steps[number],
                hours=sum(one["seconds"] for one in found) / 3600,
                figures=tuple(figures_of(one["report"]) for one in found),
                draws_std=tuple(one["report"]["std"].get("rank1", 0.0) for one in found),
                published=_published(found, row.name),
                refused=found[0]["published"]["refused"] if found else "",
            )
        )
    complete = all(row.num_splits == plan.splits for row in rows)
    dataset = table.rows[0].config(plan.overrides).data
    fixed = all(reader_of(name).is_fixed for name in dataset.datasets)
    return ReproducedTable(
        table.title, plan.share, tuple(rows), complete, "seed" if fixed else "split"
    )


def _result_in(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        _ = found["report"]["cmc"], found["seconds"], found["published"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); remove it to evaluate the run again"
        ) from None
    return found


def _published(found: Sequence[dict[str, Any]], name: str) -> dict[str, str]:
    """The paper's figures of the row, if the protocol is the same."""
    rows = found[0]["published"]["rows"] if found else []
    return next((dict(one["percent"]) for one in rows if one["method"] == name), {})
