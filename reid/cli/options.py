"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from reid.data.readers.division import OwnImages

DEVICES, OPENVINO = ("auto", "cpu", "cuda"), "openvino"
"""As in ``reid.types``, which is not imported for ``--help`` because it imports NumPy."""


def _known_device(context: click.Context, option: click.Parameter, device: str) -> str:
    """One of DEVICES, or an OpenVINO device: the code that opens it knows which there are."""
    if device in DEVICES or device.partition(":")[0] == OPENVINO:
        return device
    from reid.errors import nearest

    names = (*DEVICES, OPENVINO)
    raise click.BadParameter(
        f"expected one of {', '.join(names)}, or {OPENVINO}:NAME with the name of an OpenVINO "
        f"device, such as {OPENVINO}:GPU; found {device!r}{nearest(device, names)}"
    )


FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
MODEL = click.Path(path_type=Path)
"""A run folder, a checkpoint or an exported file; the code that opens it checks which."""

COUNT = click.IntRange(min=0)
BATCH = click.IntRange(min=1)


class Renamed(click.Option):
    """An option with a former name, which still works; help shows only the first name."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The first name and its help."""
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


Names = tuple[str, ...]
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def shortlist(default: int | None, *, multiple: bool = False) -> Decorator:
    """``--shortlist K``, with one meaning in every command."""
    more = "; give it several times to compare the results" if multiple else ""
    return click.option(
        "--shortlist",
        "shortlists" if multiple else "shortlist",
        type=COUNT,
        multiple=multiple,
        default=None if multiple else default,
        show_default=not multiple,
        metavar="K",
        help="For a network that compares pairs: compare a query only with the K gallery images "
        f"nearest by ranking vector; 0 compares with all{more}.",
    )


device = click.option(
    "--device",
    callback=_known_device,
    default="auto",
    show_default=True,
    metavar=f"[{'|'.join((*DEVICES, OPENVINO))}[:NAME]]",
    help="Where the network runs. openvino takes .onnx and .xml files; openvino:GPU is an iGPU.",
)
_precision = click.option(
    "--precision",
    type=click.Choice(["bf16"]),
    help="Compute an .onnx or .xml with OpenVINO in bfloat16, if that gives the answers of FP32 on "
    "synthetic people; without it FP32 stays FP32.",
)


def device_and_precision(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--device`` and ``--precision``, which the command gets as one ``device``."""

    @functools.wraps(command)
    def with_device(*, device: str, precision: str | None, **others: Any) -> Any:
        if precision and device in ("cpu", "cuda"):
            raise click.UsageError(
                f"--precision {precision} is OpenVINO's: use --device {OPENVINO}, found {device}"
            )
        if precision and not device.endswith(f":{precision}"):
            device = f"{OPENVINO if device == 'auto' else device}:{precision}"
        return command(device=device, **others)

    return device(_precision(with_device))


threads = click.option(
    "--threads",
    type=COUNT,
    default=0,
    show_default=True,
    help="CPU threads of the network; 0: the backend decides.",
)
_test_identities = click.option(
    "--test-identities",
    type=COUNT,
    help="Number of test identities. CUHK01: 100 or 486; own images: any (default: as trained).",
)
_split_seed = click.option(
    "--split-seed", type=COUNT, help="Seed of a random split (default: as trained)."
)
data_root = click.option("--data-root", type=FOLDER, required=True, help="The dataset's folder.")


_junk = click.option(
    "--junk",
    multiple=True,
    metavar="NAME",
    help="Your own images: this person is junk, neither right nor wrong, as Market-1501's -1. "
    "Repeat for several names.",
)
_distractors = click.option(
    "--distractors",
    multiple=True,
    metavar="NAME",
    help="Your own images: this name has no identity and is a false match of every query, as "
    "Market-1501's 0000. Repeat for several names.",
)
_layout = click.option(
    "--layout",
    default="",
    metavar="PATH",
    help="Your own folders: what they mean, such as person, person/camera, camera/person or "
    "'*/person' (default: recognised by their names).",
)
all_test = click.option(
    "--all-test",
    is_flag=True,
    help="Your own images without a split: test with all of them, not with half of the people.",
)


def own_images(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--junk``, ``--distractors`` and ``--layout``, which the command gets as ``own``.

    With ``all_test`` below it, that is part of ``own`` too.
    """

    @functools.wraps(command)
    def with_own(
        *, junk: Names, distractors: Names, layout: str, all_test: bool = False, **others: Any
    ) -> Any:
        from reid.data.readers.division import OwnImages

        return command(own=OwnImages(junk, distractors, layout, all_test), **others)

    return _junk(_distractors(_layout(with_own)))


def asked_split(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of the split to test on, which the command gets as ``asked``."""

    @functools.wraps(command)
    def with_split(
        *, test_identities: int | None, split_seed: int | None, own: OwnImages, **others: Any
    ) -> Any:
        from reid.data.readers.division import AskedSplit

        return command(asked=AskedSplit(test_identities, split_seed, own), **others)

    return _test_identities(_split_seed(own_images(all_test(with_split))))


log_json = click.option(
    "--log-json", is_flag=True, help="Lines on stderr as JSON: time, level, message."
)


def use_log_style(log_json: bool, timed: bool) -> None:
    """Lines of JSON if asked for; with time and level if ``timed`` and stderr is no terminal."""
    import sys

    from reid.progress import JSON, TIMED, set_log_style

    if log_json:
        set_log_style(JSON)
    elif timed and not (sys.stderr and sys.stderr.isatty()):
        set_log_style(TIMED)


def refuse_beside_config(context: click.Context, allowed: tuple[str, ...]) -> None:
    """Raises UsageError for an option of the command line beside ``--config``."""
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name)
        if given is click.core.ParameterSource.COMMANDLINE and name not in ("config", *allowed):
            shown = parameter.opts[0] if parameter.param_type_name == "option" else name.upper()
            raise click.UsageError(f"{shown} stands beside --config: say it in that file")


group = click.option(
    "--group",
    default="",
    metavar="NAME",
    help="Let this group of users read the files that are written, which show people; otherwise "
    "they are only for you.",
)
