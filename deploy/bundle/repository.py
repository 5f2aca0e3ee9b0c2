"""Triton's model repository: each model is put into it, or replaced in it, in one step.

Triton takes every folder of a repository for a model, hidden ones too, and does not start if one
of them is none (seen with version 2.51). So golden crops and unfinished models lie beside it. In
poll mode it reads the repository at any moment: a model's folder appears as a whole, and an
earlier one is exchanged for it by the kernel, because two renames would leave a moment in which
the server finds no model and unloads it. Python has no call for that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reid.errors import ConfigError, OutputError, output_errors
from reid.files import staging_folder, sync_folder
from reid.matching.golden import FILE as GOLDEN_FILE
from reid.matching.golden import FOLDER as GOLDEN_FOLDER
from reid.matching.golden import golden_beside

from .triton import CONFIG_FILE, PARAMETER, VERSION

_EXCHANGE = 2
_THIS_FOLDER = -100
"""``RENAME_EXCHANGE`` and ``AT_FDCWD`` of Linux's ``renameat2``."""


def check_repository(repository: Path, name: str) -> Path:
    """The repository's own path, behind links.

    Raises ConfigError for a name that is no folder's, for a folder that can have nothing beside
    it, and for a model of this name that ``reid bundle`` did not write.
    """
    if Path(name).name != name or name in (".", ".."):
        raise ConfigError(f"a model's name is the name of one folder, found {name!r}")
    repository = repository.resolve()
    if not repository.name:
        raise ConfigError(f"{repository} cannot be a model repository; name a folder in it")
    config = repository / name / CONFIG_FILE
    try:
        ours = PARAMETER.encode() in config.read_bytes()
    except OSError:
        return repository
    if not ours:
        raise ConfigError(
            f"{config.parent} is a model that `reid bundle triton` did not write; choose another "
            "name with --name, or move it away"
        )
    return repository


@contextmanager
def replaced_model(repository: Path, name: str) -> Iterator[Path]:
    """Yield a folder to write ``config.pbtxt`` and the version into; at the end it is the model.

    Other versions and files of an earlier folder are kept. On any failure the repository is as it
    was. Raises OutputError.
    """
    with output_errors(repository):
        repository.mkdir(parents=True, exist_ok=True)
        with staging_folder(repository) as staging:
            model, place = staging / name, repository / name
            model.mkdir()
            yield model
            _keep_others(place, model)
            try:
                _put(model, place)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                raise OutputError(
                    f"{repository} is the top of a file system, into which a model cannot be put "
                    f"in one step; name a folder in it: --out {repository / 'models'}"
                ) from None
            sync_folder(repository)


def move_earlier_golden(repository: Path) -> None:
    """Golden crops that an earlier version wrote into the repository are put beside it.

    ``find_golden`` finds them there, for models that have none of their own. Raises OutputError.
    """
    earlier = repository / GOLDEN_FOLDER
    if not (earlier / GOLDEN_FILE).is_file() or (earlier / CONFIG_FILE).exists():
        return
    beside = golden_beside(repository)
    with output_errors(beside):
        beside.mkdir(parents=True, exist_ok=True)
        for file in [*earlier.glob("crop_*.png"), earlier / GOLDEN_FILE]:
            shutil.move(file, beside / file.name)
        earlier.rmdir()


def _keep_others(place: Path, model: Path) -> None:
    """What else an earlier folder holds, into the new one: by hard links where there are any."""
    if place.is_dir():
        written = {path.name for path in model.iterdir()} | {VERSION}
        for other in place.iterdir():
            if other.name in written:
                continue
            if other.is_dir():
                shutil.copytree(other, model / other.name, copy_function=_linked, symlinks=True)
            else:
                _linked(str(other), str(model / other.name))


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _put(model: Path, place: Path) -> None:
    """``model`` under the name ``place``; what was there is left at ``model``'s."""
    try:
        os.rename(model, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _exchanged(model, place):
            before = model.with_name(f"{model.name}.before")
            os.rename(place, before)
            os.rename(model, place)


def _exchanged(first: Path, second: Path) -> bool:
    """Whether two folders have changed names; False where kernel or file system cannot do it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    names = os.fsencode(first), os.fsencode(second)
    if not call(_THIS_FOLDER, names[0], _THIS_FOLDER, names[1], _EXCHANGE):
        return True
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(error, os.strerror(error), str(second))
