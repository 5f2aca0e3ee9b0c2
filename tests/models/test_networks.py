"""What stands in the descriptions of the networks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reid.config.toml import config_from_tree
from reid.models import NETWORKS, network_named
from reid.models.description import Network, part

SMALLEST = {"msp_cnn": (16, 8), "csn": (73, 37), "sisnet": (32, 16)}


def test_reading_descriptions_and_configurations_loads_no_torch() -> None:
    code = (
        "import sys\nfrom reid.config.toml import load_recipe, recipe_names\n"
        "print(len([load_recipe(name) for name in recipe_names()]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, has_torch = done.stdout.split()
    assert int(count) > 10
    assert has_torch == "False"


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_every_import_string_of_a_description_names_something_to_call(network: Network) -> None:
    strings = [network.builder, network.objective, network.graphs, network.scale_agreement]
    strings += [network.pretrained, *(look.data for look in network.looks)]
    assert all(callable(part(string)) for string in strings if string)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_configuration_finds_the_settings_by_the_network_s_name(name: str) -> None:
    assert network_named(name).name == name
    config = config_from_tree({"network": {"name": name}})
    assert config.network == NETWORKS[name].settings()


@pytest.mark.parametrize("name", SMALLEST)
def test_an_image_may_be_as_small_as_the_description_says(name: str) -> None:
    height, width = SMALLEST[name]
    assert network_named(name).size_problem(height, width) == ""
    for smaller in ((height - 1, width), (height, width - 1)):
        found = "x".join(map(str, smaller))
        expected = f"{name} takes images of at least {height}x{width}, found {found}"
        assert network_named(name).size_problem(*smaller) == expected
