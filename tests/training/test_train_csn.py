"""CSN through the loop that trains MSP-CNN: it resumes, logs, shares work and is evaluated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from reid.config.settings import TrainConfig
from reid.config.toml import resolve_config
from reid.data import load_split
from reid.errors import ConfigError
from reid.evaluation.evaluating import evaluate_models
from reid.models.csn.network import Csn, CsnDescription
from reid.training.checkpoint import load_checkpoint
from reid.training.loop import train
from tests.heard import Interruption
from tests.training.test_loop import equal, in_two_processes, rows_of, weights_of

STEPS = 4
TINY = (
    "data.name=synthetic",
    "data.num_test_identities=0",
    "data.num_workers=0",
    *(
        f"preprocess.{kind}_{edge}"
        for kind in ("resize", "crop")
        for edge in ("height=80", "width=40")
    ),
    "sampler.anchors_per_batch=3",
    "run.device=cpu",
    "run.precision=fp32",
    "run.channels_last=off",
    "run.log_every=1",
    "stages.0.epochs=0",
    f"stages.0.iterations={STEPS}",
)


def tiny(*more: str) -> TrainConfig:
    return resolve_config("csn_cuhk01", None, [*TINY, *more])


def test_a_stopped_run_resumes_to_the_same_weights_bit_for_bit(people: Path, tmp_path: Path):
    train(tiny(), people, tmp_path / "whole")
    stopped = train(tiny(), people, tmp_path / "parts", reporter=Interruption(2))
    assert (stopped.interrupted, stopped.step) == (True, 2)
    train(tiny(), people, tmp_path / "parts", resume=True)
    assert equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))
    rows = rows_of(tmp_path / "parts")
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    parts = [float(rows[3][name]) for name in ("classification", "contrastive", "transform_prior")]
    assert float(rows[3]["loss"]) == pytest.approx(sum(parts), rel=1e-4)


def test_a_trained_network_gets_another_weight_of_the_probability(people: Path, tmp_path: Path):
    train(tiny(), people, tmp_path)
    before, weights = load_checkpoint(tmp_path / "checkpoint.pt"), weights_of(tmp_path)
    assert before.manifest.usual_score == pytest.approx(0.7)
    train(tiny("network.probability_weight=0.1"), people, tmp_path, resume=True)
    after = load_checkpoint(tmp_path / "checkpoint.pt")
    assert equal(weights, weights_of(tmp_path))
    assert after.manifest.output_meaning == "0.1 * p_match + 0.2 / (d + 1e-4)"
    assert after.manifest.usual_score == pytest.approx(0.25)


def test_two_processes_end_with_one_network(people: Path, tmp_path: Path):
    first, second = in_two_processes(tiny(), people, tmp_path)
    assert equal(first, second)


def test_training_learns_to_tell_pairs_apart(people: Path, tmp_path: Path):
    train(tiny("stages.0.iterations=25"), people, tmp_path)
    losses = [float(row["classification"]) for row in rows_of(tmp_path)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_trained_run_ranks_by_its_scores_and_by_shortlists(people: Path, tmp_path: Path):
    train(tiny("stages.0.iterations=1"), people, tmp_path)
    split = load_split("synthetic", people)
    split = dataclasses.replace(split, query=split.query[:3], gallery=split.gallery[:10])
    whole, short, all_of_them = evaluate_models(
        [tmp_path], split, shortlists=(0, 2, 10), device="cpu", batch_size=4
    )
    assert (whole.report.num_compared, short.report.num_compared) == (30, 6)
    assert short.report.model.endswith("best 2")
    assert all_of_them.report.cmc == whole.report.cmc
    assert all_of_them.report.map_step == pytest.approx(whole.report.map_step)
    distances = whole.distances(slice(0, 3))
    assert distances.shape == (3, 10)
    assert (distances < 0).all()  # minus scores


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.levels=[3,2]", "some of 2, 3, 4 in this order"),
        ("network.attention=sTn", "one of stn, centre_crop"),
        ("network.attention_init_scale=1.5", r"in \(0, 1\)"),
        ("network.dropout_ratio=0.5", "unknown setting 'network.dropout_ratio'"),
        ("network.name=cns", "did you mean 'csn'"),
        ("preprocess.crop_height=40", "csn takes images of at least"),
        ("stages.0.loss_weights.euclidean=1.0", "csn has no loss 'euclidean'"),
        (
            "stages.0.loss_weights.softmax=1.0",
            "network.classify_identities=false .*softmax has nothing to compare",
        ),
        (
            "network.classification_only=true",
            "network.classification_only=true .*contrastive has nothing to compare",
        ),
    ],
)
def test_settings_that_cannot_be_are_one_line(
    people: Path, tmp_path: Path, override: str, words: str
):
    with pytest.raises(ConfigError, match=words) as caught:
        train(tiny(override), people, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ("network.classification_only=true", "stages.0.loss_weights.contrastive=0"),
        ("network.levels=[4]", "network.divide=false"),
        ("network.attention=centre_crop", "losses.prior_extent=0.5"),
        ("sampler.kind=identities", "sampler.copies=1", "sampler.identities_per_batch=4"),
    ],
)
def test_an_ablation_of_the_paper_is_trained_by_its_settings(
    people: Path, tmp_path: Path, settings: tuple[str, ...]
):
    train(tiny("stages.0.iterations=1", *settings), people, tmp_path)
    (row,) = rows_of(tmp_path)
    expected = {"classification", "contrastive", "transform_prior"}
    expected -= {"contrastive"} if "network.classification_only=true" in settings else set()
    assert {name for name in expected | {"contrastive"} if row.get(name)} == expected
    assert float(row["classification"]) > 0


def test_people_as_classes_are_learned_beside_pairs(people: Path, tmp_path: Path):
    softmax = ("network.classify_identities=true", "stages.0.loss_weights.softmax=1.0")
    harder = "losses.negative_candidates=3"
    train(tiny("stages.0.iterations=20", *softmax, harder), people, tmp_path)
    losses = [float(row["softmax"]) for row in rows_of(tmp_path)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    assert checkpoint.model["identities.linear.weight"].shape[0] == checkpoint.num_identities


def test_images_are_described_once_however_many_pairs_they_are_in(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    described: list[int] = []
    compared: list[int] = []
    describe, compare = Csn.describe, Csn.compare

    def counted_images(self: Csn, x: torch.Tensor):
        described.append(len(x))
        return describe(self, x)

    def counted_pairs(self: Csn, images: CsnDescription, first: torch.Tensor, second: torch.Tensor):
        compared.append(len(first))
        return compare(self, images, first, second)

    monkeypatch.setattr(Csn, "describe", counted_images)
    monkeypatch.setattr(Csn, "compare", counted_pairs)
    train(tiny("stages.0.iterations=1"), people, tmp_path)
    (images,), (pairs,) = described, compared
    assert pairs == 9
    assert images <= 3 * (1 + 1 + 2)
