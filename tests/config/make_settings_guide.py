"""Writes ``reid/config/README.md`` from the dataclasses of the settings and their comments.

A field's comment, above it or behind it, is its meaning; from the first tag on, such as [paper], it
is the source of the default. To write the guide anew:

    python tests/config/make_settings_guide.py
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path

from reid.config.settings import (
    AugmentConfig,
    DataConfig,
    OptimizerConfig,
    RunConfig,
    SamplerConfig,
    StageConfig,
    TrainConfig,
)
from reid.losses.settings import LossConfig
from reid.model_file.preprocess import Preprocess
from reid.models import NETWORKS

GUIDE = Path(__file__).resolve().parents[2] / "reid" / "config" / "README.md"
COMMAND = "python tests/config/make_settings_guide.py"

TAG = re.compile(r"\[(paper|DGD|X-Corr|inferred)\]")

SECTIONS: tuple[tuple[str, type, str], ...] = (
    *((f"network: {name}", network.settings, "network") for name, network in NETWORKS.items()),
    ("preprocess", Preprocess, "preprocess"),
    ("augment", AugmentConfig, "augment"),
    ("data", DataConfig, "data"),
    ("sampler", SamplerConfig, "sampler"),
    ("losses", LossConfig, "losses"),
    ("optimizer", OptimizerConfig, "optimizer"),
    ("stages", StageConfig, "stages.N"),
    ("run", RunConfig, "run"),
)
"""Heading, settings class, start of the keys."""

BEFORE = """\
# Settings

This guide is for people who train: every setting, what it means, its default, and where the default
comes from. It is generated from the settings' classes; to change it, change their comments and run
`{command}`.

## How to set one

A run's configuration begins with a recipe. A TOML file (`--config`) overrides the recipe, and
`--set KEY=VALUE` overrides both. `reid recipes` lists the recipes, and `reid recipes NAME` shows
all settings of one, which are often not the defaults below.

```sh
reid recipes msp_cnn_market1501
```

<!-- not run: needs a dataset, takes hours -->
```sh
reid train msp_cnn_market1501 --data-root data/market1501 --out runs/tuned \\
    --config my.toml --set run.seed=1 --set stages.0.base_lr=0.05
```

The file names sections as tables. `[[stages]]` in a file replaces all stages of the recipe; to
change one stage, use `--set stages.0.KEY=VALUE`, where stages count from 0.

```toml
[sampler]
kind = "identities"
identities_per_batch = 16
images_per_identity = 4

[run]
seed = 1
```

In Python, `overrides` takes what `--set` takes:

```python
import reid

run = reid.train(
    "msp_cnn_synthetic",
    root="data/market1501",
    out="runs/short",
    overrides={{
        "run.device": "cpu",
        "sampler.identities_per_batch": 3,
        "sampler.images_per_identity": 2,
        "stages": [
            {{"name": "one", "iterations": 2, "base_lr": 0.01, "loss_weights": {{"softmax": 1.0}}}}
        ],
    }},
)
print(run.config.run.device)
```

<!-- output -->
```text
cpu
```

An unknown key or a value that is not allowed ends in one line that names the nearest key or the
allowed values. A finished run keeps its configuration in its folder and in its checkpoint.

## Sources

| tag | the default is |
|---|---|
| [paper] | stated by the network's paper |
| [DGD] | of the code that MSP-CNN builds on (Xiao et al., CVPR 2016) |
| [X-Corr] | of the code that the cross-correlation follows (Subramaniam et al., NIPS 2016) |
| [inferred] | stated nowhere; chosen here |
| none | of this project: how a run works, or what is off unless a recipe turns it on |
"""


def comments(kind: type) -> dict[str, str]:
    """Field -> its comment: the lines directly above it, then what stands behind it."""
    lines = inspect.getsource(kind).splitlines()
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above: list[str] = []
        number = node.lineno - 2
        while lines[number].strip().startswith("# "):
            above.insert(0, lines[number].strip().removeprefix("# "))
            number -= 1
        behind = lines[node.lineno - 1][node.end_col_offset :].strip()
        found[node.target.id] = " ".join([*above, behind.removeprefix("# ")]).strip()
    return found


def toml(value: object) -> str:
    """A default as a TOML file has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)


def default(field: dataclasses.Field[object]) -> str:
    """The default of a field as TOML."""
    if field.default_factory is not dataclasses.MISSING:
        return toml(field.default_factory())
    return toml(field.default)


def introduction(kind: type) -> str:
    """The class's docstring in Markdown, without what it raises."""
    text = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
    return re.sub(r"\s+Raises [^.]*\.", "", text)


def section(heading: str, kind: type, key: str) -> str:
    """A heading, the class's docstring and a row for each field."""
    said = comments(kind)
    rows = []
    for field in dataclasses.fields(kind):
        words = said[field.name]
        tag = TAG.search(words)
        meaning = (words[: tag.start()] if tag else words).rstrip("; ")
        source = words[tag.start() :] if tag else ""
        rows.append(f"| `{key}.{field.name}` | {meaning} | `{default(field)}` | {source} |")
    table = "\n".join(["| key | meaning | default | source |", "|---|---|---|---|", *rows])
    return f"\n## {heading}\n\n{introduction(kind)}\n\n{table}\n"


def guide() -> str:
    """The whole guide."""
    text = BEFORE.format(command=COMMAND)
    recipe = comments(TrainConfig)["recipe"]
    text += f"\n## recipe\n\n`recipe`: {recipe}; written by training, never set.\n"
    return text + "".join(section(*one) for one in SECTIONS)


if __name__ == "__main__":
    GUIDE.write_text(guide(), encoding="utf-8")
