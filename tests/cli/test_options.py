from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from reid.cli import options
from reid.cli.describe import describe
from reid.cli.evaluate import evaluate
from reid.types import DEVICES, OPENVINO


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


@click.command()
@options.device_and_precision
def where(device: str) -> None:
    """Shows the device that a command gets."""
    click.echo(device)


@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        ([], "auto"),
        (["--device", "cuda"], "cuda"),
        (["--device", "openvino:GPU"], "openvino:GPU"),
        (["--precision", "bf16"], "openvino:bf16"),
        (["--precision", "bf16", "--device", "openvino:GPU.1"], "openvino:GPU.1:bf16"),
        (["--precision", "bf16", "--device", "openvino:CPU:bf16"], "openvino:CPU:bf16"),
    ],
)
def test_device_and_precision_become_one_text(arguments: list[str], device: str) -> None:
    assert CliRunner().invoke(where, arguments).output.strip() == device


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--device", "opnvino"], "openvino"),
        (["--device", "openvinos:GPU"], "openvino:NAME"),
        (["--device", "cuda", "--precision", "bf16"], "bf16"),
        (["--precision", "fp8"], "bf16"),
    ],
)
def test_another_device_or_precision_is_a_usage_error(arguments: list[str], named: str) -> None:
    found = CliRunner().invoke(where, arguments)
    assert found.exit_code == 2
    assert named in found.output


def test_the_names_of_devices_are_those_of_the_library() -> None:
    assert (options.DEVICES, options.OPENVINO) == (DEVICES, OPENVINO)
