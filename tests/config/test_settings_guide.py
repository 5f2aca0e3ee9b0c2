"""The guide to the settings says what their classes say."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from reid.config.settings import TrainConfig
from reid.models.description import NetworkSettings

SCRIPT = Path(__file__).with_name("make_settings_guide.py")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_settings_guide", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_guide_to_the_settings_is_in_step_with_their_classes(maker: ModuleType) -> None:
    written = maker.GUIDE.read_text(encoding="utf-8")
    assert written == maker.guide(), f"the guide is out of date; run: {maker.COMMAND}"


def test_the_guide_has_every_setting_of_every_section(maker: ModuleType) -> None:
    keys = set(re.findall(r"^\| `([\w.]+)` \|", maker.guide(), re.MULTILINE))
    sections = {key.partition(".")[0] for key in keys} | {"recipe"}
    assert sections == {field.name for field in dataclasses.fields(TrainConfig)}
    for _, kind, start in maker.SECTIONS:
        assert {f"{start}.{field.name}" for field in dataclasses.fields(kind)} <= keys


def test_every_setting_has_a_meaning(maker: ModuleType) -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| `", maker.guide(), re.MULTILINE)
    assert len(rows) > 80
    assert [key for key, meaning in rows if not meaning.strip()] == []


@dataclasses.dataclass(frozen=True, slots=True)
class Planted(NetworkSettings):
    """Settings. Raises nothing of note."""

    name: str = "planted"  # the network
    # A meaning that stands
    # above [paper] section 2
    sizes: tuple[int, ...] = (1, 2)
    quiet: bool = True


def test_a_comment_above_or_behind_is_read_and_a_missing_one_is_seen(maker: ModuleType) -> None:
    text = maker.section("planted", Planted, "network")
    assert "Settings.\n" in text
    assert "Raises" not in text
    assert '| `network.name` | the network | `"planted"` |  |' in text
    row = "| `network.sizes` | A meaning that stands above | `[1, 2]` | [paper] section 2 |"
    assert row in text
    assert "| `network.quiet` |  | `true` |  |" in text
