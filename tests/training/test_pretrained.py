"""Foreign weights: what fits goes in, what does not is named, and nothing runs code."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from reid.errors import CheckpointError
from reid.models.sisnet.network import how_to_obtain
from reid.models.sisnet.resnet import ResNet
from reid.training.pretrained import load_pretrained, read_state_dict

OLD = ("num_batches_tracked",)


class Backbone(nn.Module):
    """A ResNet's names in a few numbers."""

    def __init__(self, blocks: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(*(nn.Conv2d(4, 4, 1, bias=False) for _ in range(blocks)))


def weights(blocks: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(7)
    state = Backbone(blocks).state_dict()
    state["bn1.running_var"] += 1
    return {name: value.clone() for name, value in state.items()}


def saved(tmp_path: Path, body: object) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(body, path)
    return path


def assert_loaded(backbone: nn.Module, expected: dict[str, Tensor]) -> None:
    state = backbone.state_dict()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
def test_a_file_is_read_whatever_wrote_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights(), path)
    else:
        torch.save(weights(), path, _use_new_zipfile_serialization=suffix != ".bin")
    backbone = Backbone()
    report = load_pretrained(backbone, path)
    assert_loaded(backbone, weights())
    assert (report.loaded, report.missing, report.unexpected) == (7, (), ())


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "backbone.", "base.", "module.backbone.", "module.base."),
        *("model.", "model.backbone.", "model.model.", "encoder.", "_orig_mod."),
        *("module._orig_mod.", "encoder_q.trunk."),
    ],
)
def test_prefixes_are_taken_off(tmp_path: Path, prefix: str) -> None:
    backbone = Backbone()
    body = {prefix + name: value for name, value in weights().items()}
    report = load_pretrained(backbone, saved(tmp_path, body))
    assert_loaded(backbone, weights())
    assert report.unexpected == ()


@pytest.mark.parametrize("nest", ["state_dict", "model", "net", "model_state_dict", "model.net"])
def test_a_training_checkpoint_is_looked_into(tmp_path: Path, nest: str) -> None:
    body: Any = weights()
    for name in reversed(nest.split(".")):
        body = {"epoch": 3, "best": np.float64(0.5), "step": np.int64(7), name: body}
    backbone = Backbone()
    load_pretrained(backbone, saved(tmp_path, body))
    assert_loaded(backbone, weights())


def test_what_is_missing_and_what_is_not_used_is_listed(tmp_path: Path) -> None:
    body = {name: value for name, value in weights().items() if not name.endswith(OLD)}
    body |= {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}
    backbone = Backbone()
    report = load_pretrained(backbone, saved(tmp_path, body))
    assert_loaded(backbone, {name: body[name] for name in body if not name.startswith("fc")})
    assert report.missing == ("bn1.num_batches_tracked",)
    assert report.unexpected == ("fc.bias", "fc.weight")
    assert report.words() == (
        "6 arrays loaded; not in the file: bn1.num_batches_tracked; not used: fc.bias, fc.weight"
    )


def test_half_precision_weights_are_converted(tmp_path: Path) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    backbone = Backbone()
    load_pretrained(backbone, saved(tmp_path, halves))
    assert backbone.conv1.weight.dtype == torch.float32
    assert torch.equal(backbone.conv1.weight, halves["conv1.weight"].float())


def refusal(backbone: nn.Module, path: Path) -> str:
    """The one line, after which the backbone is as it was."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(backbone, path)
    words = str(caught.value)
    assert "\n" not in words
    assert str(path) in words
    assert_loaded(backbone, before)
    return words


def test_a_deeper_or_a_shallower_network_is_another_architecture(tmp_path: Path) -> None:
    words = refusal(Backbone(1), saved(tmp_path, weights(2)))
    assert "another architecture: unexpected layer1.1.weight;" in words
    words = refusal(Backbone(2), saved(tmp_path, weights(1)))
    assert "another architecture: missing layer1.1.weight;" in words


@pytest.mark.parametrize(
    ("own", "found", "named"),
    [
        (18, 34, "unexpected layer1.2.bn1.bias"),
        (34, 18, "missing layer1.2.conv1.weight"),
        (18, 50, "unexpected layer1.0.bn3.bias"),
        (50, 34, "missing layer1.0.conv3.weight"),
    ],
)
def test_a_resnet_of_another_depth_is_refused(
    tmp_path: Path, own: int, found: int, named: str
) -> None:
    with torch.device("meta"):
        networks = ResNet(own, 2), ResNet(found, 2)
    # One number each, seen in its full shape.
    body = {
        k: torch.zeros((), dtype=v.dtype).expand(v.shape)
        for k, v in networks[1].state_dict().items()
    }
    with pytest.raises(CheckpointError, match="another architecture") as caught:
        load_pretrained(networks[0], saved(tmp_path, body))
    assert named in str(caught.value)
    assert "change network.depth" in str(caught.value)


def test_arrays_of_another_shape_or_kind_are_refused(tmp_path: Path) -> None:
    wrong = {
        "(4, 3, 1, 1), found (4, 3, 3, 3)": torch.zeros(4, 3, 3, 3),
        "torch.float32, found torch.int8": torch.zeros(4, 3, 1, 1, dtype=torch.int8),
        "torch.float32, found torch.complex64": torch.zeros(4, 3, 1, 1, dtype=torch.complex64),
        "torch.sparse_coo": torch.zeros(4, 3, 1, 1).to_sparse(),
        "meta": torch.zeros(4, 3, 1, 1, device="meta"),
    }
    for words, value in wrong.items():
        path = saved(tmp_path, {**weights(), "conv1.weight": value})
        assert words in refusal(Backbone(), path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    body = weights()
    body["conv1.weight"][0] = torch.nan
    assert "conv1.weight contains NaN" in refusal(Backbone(), saved(tmp_path, body))


def test_a_file_of_two_networks_is_refused(tmp_path: Path) -> None:
    body = {
        f"{network}.{name}": value
        for network in ("student", "teacher")
        for name, value in weights().items()
    }
    words = refusal(Backbone(), saved(tmp_path, body))
    assert "'student.'" in words
    assert "'teacher.'" in words


def test_a_file_without_the_backbone_is_not_called_another_depth(tmp_path: Path) -> None:
    words = refusal(Backbone(), saved(tmp_path, {"blocks.0.attn.qkv.weight": torch.zeros(3)}))
    assert "conv1.weight" in words
    assert "blocks.0.attn.qkv.weight" in words
    assert "depth" not in words


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    for body in ([1, 2], {"a": 1}, {}, torch.zeros(3), {3: torch.zeros(3)}):
        assert "not a state dict" in refusal(Backbone(), saved(tmp_path, body))
    assert "nothing is downloaded" in refusal(Backbone(), tmp_path / "none.pth")
    assert "nothing is downloaded" in refusal(Backbone(), tmp_path / "none.safetensors")
    assert str(tmp_path) in refusal(Backbone(), tmp_path)


def test_a_name_with_line_breaks_stays_on_one_line(tmp_path: Path) -> None:
    body = {**weights(), "layer1.\n9": torch.zeros(1)}
    assert r"unexpected layer1.\n9" in refusal(Backbone(), saved(tmp_path, body))


class _RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["REID_TEST_TRAP"],)


def test_a_pickle_that_would_run_code_does_not_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    monkeypatch.setenv("REID_TEST_TRAP", str(trap))
    body = {**weights(), "fc.weight": _RunsCode()}
    for write in (lambda: torch.save(body, path), lambda: path.write_bytes(pickle.dumps(body))):
        write()
        assert "more than tensors" in refusal(Backbone(), path)
    assert not trap.exists()


def test_a_file_that_would_unpack_to_more_is_refused(tmp_path: Path) -> None:
    path, packed = saved(tmp_path, weights()), tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
    assert "weights file" in refusal(Backbone(), packed)


def test_changed_or_cut_files_never_escape_as_another_error(tmp_path: Path) -> None:
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(3)}, modern)
    torch.save({"a": torch.zeros(3)}, legacy, _use_new_zipfile_serialization=False)
    originals = {
        ".pth": (modern.getvalue(), legacy.getvalue(), pickle.dumps({"a": [1, 2, "b"]}), b"text"),
        ".safetensors": (save({"a": torch.zeros(3)}),),
    }
    rng = random.Random(0)
    refused = 0
    for suffix in [".pth", ".safetensors"] * 200:
        content = bytearray(rng.choice(originals[suffix]))
        for _ in range(1 + rng.randrange(6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
        try:
            read_state_dict(path)
        except CheckpointError:
            refused += 1
    assert 300 < refused < 400  # a changed number is still a number


def test_a_run_without_weights_says_how_to_get_some() -> None:
    words = how_to_obtain(50)
    assert "torchvision.models.resnet50(weights=" in words
    assert "--set network.pretrained=resnet50.pth" in words
    assert "\n" not in words
