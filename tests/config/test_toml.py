"""Recipes, files and overrides become one checked configuration."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from reid.config.settings import TrainConfig
from reid.config.toml import (
    config_from_toml,
    config_to_toml,
    load_recipe,
    recipe_names,
    resolve_config,
)
from reid.errors import ConfigError
from reid.models.csn.settings import CsnSettings
from reid.models.msp_cnn.settings import MspCnnSettings
from reid.training.objectives import objective_of

PAPER = "msp_cnn_market1501"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_reads_and_survives_a_round_trip_through_toml(name: str) -> None:
    config = load_recipe(name)
    assert config.recipe == name
    assert config.stages
    assert config_from_toml(config_to_toml(config), "text") == config


def test_the_papers_recipe_has_the_papers_settings() -> None:
    config = load_recipe(PAPER)
    assert config.preprocess.input_shape == (3, 144, 56)
    assert config.preprocess.mean == (102.0, 102.0, 101.0)
    assert config.sampler.negatives_per_positive == 2
    assert [dict(stage.loss_weights) for stage in config.stages] == [
        {"softmax": 1.0, "euclidean": 1.0},
        {"softmax": 1.0, "euclidean": 1.0, "cross_correlation": 1.0},
    ]


@pytest.mark.parametrize(
    ("name", "levels", "copies", "pairs"),
    [
        ("csn_cuhk01", (2, 3), 7, 128),
        ("csn_cuhk01_l234", (2, 3, 4), 7, 128),
        ("csn_viper", (2, 3), 7, 128),
        ("csn_cuhk03_detected", (2, 3), 4, 256),
        ("csn_cuhk03_labeled", (2, 3), 4, 256),
        ("csn_market1501", (2, 3), 5, 128),
    ],
)
def test_csns_recipes_have_its_papers_settings(
    name: str, levels: tuple[int, ...], copies: int, pairs: int
) -> None:
    config = load_recipe(name)
    assert config.network == CsnSettings(levels=levels)
    assert config.preprocess.input_shape == (3, 160, 60)
    assert not config.augment.random_crop
    assert (config.augment.translation, config.augment.mirror_probability) == (0.05, 0.5)
    as_published = (config.augment.translation_side, config.augment.translation_fill)
    assert as_published == (("each", "edges") if "market" in name else ("height", "zeros"))
    assert config.sampler.copies == copies
    sampler = config.sampler
    enumerated = (sampler.kind, sampler.fixed_copies, sampler.copy_kinds)
    as_x_corr = ("all_pairs", True, "written")
    assert enumerated == (("pairs", False, "drawn") if "market" in name else as_x_corr)
    pairs_per_anchor = 1 + config.sampler.negatives_per_positive
    assert pairs_per_anchor == 3
    assert abs(config.sampler.anchors_per_batch * pairs_per_anchor - pairs) <= 1
    assert config.data.validation == ("apart" if "cuhk03" in name else "auto")
    optimizer = config.optimizer
    assert (optimizer.kind, optimizer.weight_decay, optimizer.bias_lr_mult) == ("adam", 5e-4, 1.0)
    (stage,) = config.stages
    assert (stage.epochs, stage.lr_policy, stage.base_lr) == (5.0, "fixed", 5e-4)
    objective_of(config.network, config.stages)


def test_csns_recipe_for_two_cores_differs_in_its_batches_stages_and_shifts_alone() -> None:
    paper, ours = load_recipe("csn_cuhk01"), load_recipe("csn_cuhk01_cpu")
    apart = {"recipe": ours.recipe, "sampler": ours.sampler, "stages": ours.stages}
    apart["augment"] = dataclasses.replace(
        paper.augment, translation_side="each", translation_fill="edges"
    )
    assert dataclasses.replace(paper, **apart) == ours
    sampler = ours.sampler
    assert (sampler.kind, sampler.images_per_identity) == ("identities", 2)
    pairs = sampler.identities_per_batch * (1 + sampler.negatives_per_positive)
    assert abs(pairs - 128) <= 2
    assert [stage.lr_policy for stage in ours.stages] == ["cosine", "cosine"]
    assert all(stage.loss_weights == paper.stages[0].loss_weights for stage in ours.stages)


def test_the_name_of_a_network_chooses_its_settings() -> None:
    csn = resolve_config("csn_cuhk01", None, ["network.divide=false"]).network
    assert csn == CsnSettings(divide=False)
    msp_cnn = config_from_toml("[network]\nname = 'msp_cnn'\nembed_at = 'relu'", "text").network
    assert msp_cnn == MspCnnSettings(embed_at="relu")
    assert config_from_toml("[network]\ndropout_ratio = 0.25", "text").network == MspCnnSettings(
        dropout_ratio=0.25
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.name=csm", "'csm' (did you mean 'csn'?)"),
        ("network.name=3", "'3'; networks: msp_cnn, csn"),
        ("network=csn", "network must be a table, found 'csn'"),
        ("network.dropout_ratio=0.5", "unknown setting 'network.dropout_ratio'"),
        ("network.name=msp_cnn", "unknown setting 'network.levels'"),
        (
            "network.even_padding=both",
            "after, before; found 'both'",
        ),
        (
            "network.correlation_form=spectre",
            "auto, conv, spectra; found 'spectre'",
        ),
        ("network.ranking_dim=0", "network.ranking_dim"),
    ],
)
def test_a_wrong_network_says_what_there_is(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        resolve_config("csn_cuhk01", None, [override])


def test_a_file_overrides_the_recipe_and_set_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[sampler]\nanchors_per_batch = 7\n[optimizer]\nmomentum = 0.5\n")
    config = resolve_config(
        PAPER, file, ["sampler.anchors_per_batch=9", "stages.1.epochs=2", "run.precision=bf16"]
    )
    assert config.sampler.anchors_per_batch == 9
    assert config.optimizer.momentum == 0.5
    assert config.stages[1].epochs == 2.0
    assert config.stages[0] == load_recipe(PAPER).stages[0]
    assert config.run.precision == "bf16"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sampler.anchor_per_batch=9", "did you mean 'anchors_per_batch'"),
        ("optimiser.momentum=1", "did you mean 'optimizer'"),
        ("stages.7.epochs=1", "must be a position from 0 to 1"),
        ("stages.0=1", "stages.0: "),
        ("recipe.x=1", "recipe.x: recipe"),
        ("run.seed=many", "run.seed must be int, found 'many'"),
        ("preprocess.mean=[1, 2]", "must have 3 values, found 2"),
        ("sampler.kind=triples", "pairs or identities"),
        ("sampler.copies=0", "sampler.copies must be at least 1"),
        ("augment.translation=0.5", "[0, 0.5), found 0.5"),
        ("augment.translation_side=width", "height or each, found 'width'"),
        ("augment.translation_fill=mean", "zeros or edges, found 'mean'"),
        ("optimizer.kind=adamw", "sgd, adam, caffe_adam; found 'adamw'"),
        ("run.seed", "needs key=value"),
        ("data.junk=[a, b]", "data.junk=[a, b] is not valid TOML: Invalid value"),
        ('stages=[{name="a",\nepochs=1.0}]', "a table stands on one line"),
        ("stages.0.iterations=0", "either iterations or epochs"),
        ("stages.0.image_height=80", "both image_height and image_width"),
        ("preprocess.crop_height=200", "must fit into 160x64"),
    ],
)
def test_a_wrong_override_says_what_was_expected(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        resolve_config(PAPER, None, [override])


def test_a_misspelt_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'msp_cnn_market1501'"):
        load_recipe("msp_cnn_market")


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        resolve_config(PAPER, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        resolve_config(PAPER, tmp_path / "bad.toml")


def test_a_setting_that_an_earlier_run_did_not_have_has_its_default_not_the_recipes(
    tmp_path: Path,
) -> None:
    text = config_to_toml(load_recipe("csn_cuhk01"))
    lines = [line for line in text.splitlines() if not line.startswith("translation_")]
    assert len(lines) == len(text.splitlines()) - 2
    file = tmp_path / "config.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    config = resolve_config("csn_cuhk01", file)
    assert (config.augment.translation_side, config.augment.translation_fill) == ("each", "edges")
    assert load_recipe("csn_cuhk01").augment.translation_fill == "zeros"


def test_an_empty_configuration_is_all_defaults() -> None:
    assert config_from_toml("", "nothing") == TrainConfig()


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if name.startswith("sisnet")])
def test_sisnet_is_fed_as_its_pretrained_weights_were(recipe: str) -> None:
    preprocess = load_recipe(recipe).preprocess
    assert preprocess.channel_order == "RGB"
    assert preprocess.mean == (123.675, 116.28, 103.53)  # 255 times 0.485, 0.456, 0.406
    assert preprocess.std == (58.395, 57.12, 57.375)  # 255 times 0.229, 0.224, 0.225


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 50_000 + " = 1",
        "[a" + ".a" * 50_000 + "]",
        "x = " + "[" * 50_000 + "]" * 50_000,
        "x = " + "9" * 5_000,
        "x = 1\n" * 300_000,
        "x = " + "{a = " * 3_000 + "1" + "}" * 3_000,
    ],
    ids=[
        "dotted key",
        "dotted table",
        "nested arrays",
        "long integer",
        "long text",
        "nested tables",
    ],
)
def test_a_hostile_configuration_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.toml") as caught:
        config_from_toml(text, "recipe.toml")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["a" + ".a" * 50_000 + "=1", "run.seed=" + "[" * 50_000])
def test_a_hostile_override_is_refused_in_one_short_line(override: str) -> None:
    with pytest.raises(ConfigError, match="--set") as caught:
        resolve_config("msp_cnn_synthetic", None, [override])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["a\\nb", "a\\u0000", "\\u001b[2J"])
def test_a_stage_s_name_has_no_control_character(name: str) -> None:
    with pytest.raises(ConfigError, match="control characters"):
        resolve_config(PAPER, None, [f'stages.0.name="{name}"'])
