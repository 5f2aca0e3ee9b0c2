"""A paper's table over several splits: its rows, its budget, and going on after a stop."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

import reid
from reid.api.reproducing import PLAN, RESULT
from reid.cli import main
from reid.config.settings import StageConfig
from reid.config.tables import shortened, table_named, tables
from reid.errors import ConfigError, DataError
from reid.evaluation.published import published_tests
from reid.spans import seconds_from_span
from tests.heard import Heard, Interruption

MARKET = "msp_cnn_market1501"


@pytest.fixture(scope="module")
def tiny(tiny_overrides: tuple[str, ...]) -> list[str]:
    return ["data.name=synthetic", *tiny_overrides]


@pytest.mark.parametrize("name", tables())
def test_the_rows_of_each_table_can_be_trained_and_are_the_papers(name: str) -> None:
    table = table_named(name)
    assert len({row.name for row in table.rows}) == len(table.rows)
    configs = [row.config() for row in table.rows]
    assert len({str(config) for config in configs}) == len(configs)
    methods = {row.method for test in published_tests() for row in test.rows}
    missing = [row.name for row in table.rows if row.name not in methods]
    # The figures of its ablation were not found.
    assert missing == [
        row.name for row in table.rows if name == "msp_cnn_losses" and row.name != "MSP-CNN"
    ]


def test_a_table_holds_means_and_deviations_between_its_runs(
    people: Path, tiny: list[str], tmp_path: Path
) -> None:
    done = reid.reproduce(MARKET, people, tmp_path, splits=2, overrides=tiny)
    assert (done.complete, done.share, done.unit) == (True, 1.0, "seed")
    (row,) = done.rows
    kept = [
        json.loads((tmp_path / "msp_cnn" / f"split-{split}" / RESULT).read_text())
        for split in range(2)
    ]
    firsts = [one["report"]["cmc"]["rank1"] for one in kept]
    maps = [one["report"]["map_step"] for one in kept]
    assert row.mean("rank1") == pytest.approx(statistics.fmean(firsts))
    assert row.std("rank1") == pytest.approx(abs(firsts[0] - firsts[1]) / 2**0.5)
    assert row.mean("map_step") == pytest.approx(statistics.fmean(maps))
    assert (row.steps, row.paper_steps) == (10, 10)
    seeds = [reid.load(tmp_path / "msp_cnn" / f"split-{split}", device="cpu") for split in range(2)]
    names = [one.embed(next((people / "query").glob("*.jpg"))).arrays for one in seeds]
    assert not all((names[0][key] == names[1][key]).all() for key in names[0])
    assert row.published == {}
    assert "synthetic" in row.refused


def test_a_stopped_table_goes_on_and_does_not_train_twice(
    people: Path, tiny: list[str], tmp_path: Path
) -> None:
    stopped = reid.reproduce(
        MARKET, people, tmp_path, splits=2, overrides=tiny, progress=Interruption(4)
    )
    assert (stopped.complete, stopped.rows[0].num_splits) == (False, 0)
    again = reid.reproduce(MARKET, people, tmp_path, splits=2, overrides=tiny)
    assert again.complete
    whole = reid.reproduce(MARKET, people, tmp_path / "whole", splits=2, overrides=tiny)
    assert [dict(one) for one in again.rows[0].figures] == [
        dict(one) for one in whole.rows[0].figures
    ]
    before = (tmp_path / "msp_cnn" / "split-0" / "checkpoint.pt").stat().st_mtime_ns
    reid.reproduce(MARKET, people, tmp_path, splits=2, overrides=tiny)
    assert (tmp_path / "msp_cnn" / "split-0" / "checkpoint.pt").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="data_root"):
        reid.reproduce(MARKET, people / "query", tmp_path, splits=2, overrides=tiny)


def test_a_budget_cuts_all_schedules_to_one_share_and_is_decided_once(
    people: Path, tiny: list[str], tmp_path: Path
) -> None:
    long = [one for one in tiny if not one.startswith("stages")]
    stage = "{name='one', iterations=200000, warmup_iterations=1000, base_lr=0.01"
    long += [f"stages=[{stage}, loss_weights={{softmax=1.0}}}}]"]
    heard = Heard()
    done = reid.reproduce(MARKET, people, tmp_path, budget="20s", overrides=long, progress=heard)
    (row,) = done.rows
    assert done.complete
    assert 0 < done.share < 0.05
    assert row.steps == round(200_000 * done.share)
    config = (tmp_path / "msp_cnn" / "split-0" / "config.toml").read_text()
    assert f"iterations = {row.steps}" in config
    assert f"warmup_iterations = {round(1000 * done.share)}" in config
    kept = json.loads((tmp_path / PLAN).read_text())
    assert kept["share"] == done.share
    more = reid.reproduce(MARKET, people, tmp_path, overrides=long)
    assert more.share == done.share
    with pytest.raises(ConfigError, match="budget"):
        reid.reproduce(MARKET, people, tmp_path, budget="40s", overrides=long)


def test_a_budget_that_is_too_short_for_an_evaluation_is_refused_before_anything_is_kept(
    people: Path, tiny: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="too short"):
        reid.reproduce(MARKET, people, tmp_path / "runs", budget="0.1s", overrides=tiny)
    assert not (tmp_path / "runs").exists()


def test_what_was_kept_is_not_believed_if_it_is_damaged(
    people: Path, tiny: list[str], tmp_path: Path
) -> None:
    reid.reproduce(MARKET, people, tmp_path, overrides=tiny)
    result = tmp_path / "msp_cnn" / "split-0" / RESULT
    result.write_text(result.read_text()[:-40])
    with pytest.raises(DataError, match=RESULT):
        reid.reproduce(MARKET, people, tmp_path, overrides=tiny)
    (tmp_path / PLAN).write_text('{"table": 3}')
    with pytest.raises(ConfigError, match=PLAN):
        reid.reproduce(MARKET, people, tmp_path, overrides=tiny)


def test_a_shortened_schedule_keeps_its_shape() -> None:
    stages = [
        StageConfig(iterations=1000, stepsize=200, warmup_iterations=50),
        StageConfig(epochs=2.0, lr_policy="multistep", stepvalues=(100, 300)),
    ]
    lines = shortened(stages, [1000, 400], 0.1)
    assert "stages.0.iterations=100" in lines
    assert "stages.0.stepsize=20" in lines
    assert "stages.0.warmup_iterations=5" in lines
    assert "stages.1.iterations=40" in lines
    assert "stages.1.stepvalues=[10, 30]" in lines
    assert "stages.1.epochs=0.0" in lines


@pytest.mark.parametrize(("text", "seconds"), [("8h", 28800), ("90m", 5400), ("1.5d", 129600)])
def test_a_span_of_time_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert seconds_from_span(text) == seconds


@pytest.mark.parametrize("text", ["8", "h", "0h", "-1h", "8 weeks", ""])
def test_anything_else_is_no_span_of_time(text: str) -> None:
    with pytest.raises(ConfigError, match="8h"):
        seconds_from_span(text)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["csn_cuhk0", "--data-root", "."], "csn_cuhk01"),
        (["csn_cuhk01", "--data-root", ".", "--splits", "0"], "--splits"),
        (["csn_cuhk01", "--data-root", ".", "--budget", "soon"], "soon"),
        (["csn_cuhk01"], "--data-root"),
    ],
)
def test_the_command_names_what_is_wrong(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *words]) != 0
    assert named in capsys.readouterr().err


def test_the_command_lists_tables_and_prints_one(
    people: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in tables())
    sets = [word for one in tiny for word in ("--set", one)]
    command = ["reproduce", MARKET, "--data-root", str(people), "--out", str(tmp_path), *sets]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rank1 = found["rows"][0]["mean"]["rank1"]
    assert f"{100 * rank1:.2f}" in text
    assert found["complete"]
