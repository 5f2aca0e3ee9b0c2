"""``reid data``: draw a synthetic dataset, or check a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reid.cli import options
from reid.printing import json_text, show
from reid.progress import progress_bar

if TYPE_CHECKING:
    from reid.data.readers.division import OwnImages


@click.group()
def data() -> None:
    """Draw a synthetic dataset, or check a real one."""


@data.command()
@click.argument("folder", type=options.FOLDER)
@click.option("--train-identities", default=60, show_default=True, help="People to train on.")
@click.option("--test-identities", default=24, show_default=True, help="Other people, to test on.")
@click.option(
    "--cameras", default=4, show_default=True, help="Cameras, each with its own colours and light."
)
@click.option("--images", default=4, show_default=True, help="Images per person and camera.")
@click.option(
    "--seed",
    type=options.COUNT,
    default=0,
    show_default=True,
    help="Seed of the drawing; the same seed gives identical files.",
)
@options.as_json
def synth(
    folder: Path,
    train_identities: int,
    test_identities: int,
    cameras: int,
    images: int,
    seed: int,
    as_json: bool,
) -> dict[str, Any]:
    """Draw pedestrians into FOLDER, in Market-1501's layout."""
    import dataclasses

    from reid.data.synthetic.writing import write_synthetic

    with progress_bar("drawing") as bar:
        counts = write_synthetic(
            folder,
            num_train_identities=train_identities,
            num_test_identities=test_identities,
            cameras=cameras,
            images_per_camera=images,
            seed=seed,
            reporter=bar,
        )
    found = dataclasses.asdict(counts)
    if as_json:
        show(json_text(found))
    else:
        show(
            f"{folder}: {counts.train_images} images of {counts.train_identities} people to "
            f"train on; {counts.query_images} queries and {counts.gallery_images} gallery images "
            f"of {counts.test_identities} others, {counts.cameras} cameras"
        )
    return found


@data.command()
@click.argument("name")
@options.data_root
@options.own_images
@options.all_test
@options.as_json
def check(
    name: str,
    data_root: Path,
    own: OwnImages,
    as_json: bool,
) -> dict[str, Any]:
    """Count the images of dataset NAME, compare with the published counts, read every file.

    NAME is market1501, market1501_multi_query, market1501_500k, dukemtmc, msmt17, msmt17_v2,
    cuhk01, cuhk03_detected, cuhk03_labeled, cuhk03_np_detected, cuhk03_np_labeled, viper or
    synthetic; or, for your own images, folder (person/camera/*.jpg, person/*.jpg or names as
    Market-1501's) or csv (one file of path,person_id,camera_id,split). For your own images the
    output says how they were read, how training would split them, and which files cannot be used
    and why.
    """
    from reid.data.inspection import inspect_dataset

    with progress_bar("reading") as bar:
        found = inspect_dataset(name, data_root, reporter=bar, own=own)
    show(json_text(found.to_json()) if as_json else "\n".join(found.lines()))
    return found.to_json()
