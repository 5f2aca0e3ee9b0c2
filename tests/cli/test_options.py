from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from reid.cli.describe import describe
from reid.cli.evaluate import evaluate


@pytest.mark.parametrize("command", [evaluate, describe], ids=["eval", "describe"])
def test_a_graph_is_named_by_graph_and_still_by_stage(command: click.Command) -> None:
    (option,) = (one for one in command.params if "--stage" in one.opts)
    assert option.opts == ["--graph", "--stage"]
    help_text = CliRunner().invoke(command, ["--help"]).output
    assert "--graph TEXT" in help_text
    assert "--stage" not in help_text
    assert option.opts == ["--graph", "--stage"]
    for name in option.opts:
        parsed = command.make_context("x", ["model", name, "second"], resilient_parsing=True)
        assert "second" in parsed.params[option.name or ""]
