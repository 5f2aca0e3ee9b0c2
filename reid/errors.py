"""The exceptions, as one tree. Each message says what was expected, what was found, what to do.

ReidError                    exit code 1
|-- InputError               an argument of the Python API that cannot be used (a ValueError too)
|-- ClosedError              a model or gallery that was closed
|-- ConfigError              an unknown recipe or key, a value out of range
|-- DataError                a missing or empty folder, an unreadable image, an impossible split
|-- CheckpointError          no checkpoint, truncated, or of another network
|-- ManifestError            a manifest missing, unreadable, or of another file
|-- ModelFileError           an exported file that cannot be opened or run
|   `-- EngineMismatchError  an engine built for another GPU or TensorRT version
|-- CaffeError               a prototxt, caffemodel or solver that cannot be read or used
|-- BuildError               an export or engine build that failed or gave another precision
|-- TrainingError            a loss that is not finite
|-- UnavailableError         a server (Milvus, MQTT) does not answer now; a later call may succeed
|-- OutputError              a full disk, a read-only or occupied output folder
|-- MissingPackageError      a package of an extra is not installed
`-- ParityError              exit code 3: a candidate is outside its tolerances
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reid.printing import printable


class ReidError(Exception):
    """The root of the tree; ``reid.cli`` shows it as one line."""

    exit_code = 1


class InputError(ReidError, ValueError):
    """An image, array or other argument of the Python API that cannot be used."""


class ClosedError(ReidError):
    """A model, gallery or tracker is used after it was closed."""


class ConfigError(ReidError):
    """A recipe, configuration file or override that cannot be used."""


class DataError(ReidError):
    """A dataset that is not what its reader expects."""


class CheckpointError(ReidError):
    """A checkpoint that cannot be read or is of another network."""


class ManifestError(ReidError):
    """A manifest that is missing, malformed, or of another file."""


class ModelFileError(ReidError):
    """An exported model file that cannot be opened or run."""


class EngineMismatchError(ModelFileError):
    """An engine built for another GPU architecture or TensorRT version."""


class CaffeError(ReidError):
    """A prototxt, caffemodel or solver that cannot be read or used."""


class BuildError(ReidError):
    """An export or engine build that failed, or whose result differs from what was requested."""


class TrainingError(ReidError):
    """Training cannot go on; the message names the step and the images."""


class UnavailableError(ReidError):
    """A server that is needed does not answer now; the same call may succeed later."""


class OutputError(ReidError):
    """Results cannot be written to the chosen place."""


class MissingPackageError(ReidError):
    """An optional package is needed; the message has the install line."""


class ParityError(ReidError):
    """A candidate's outputs differ from its reference's by more than the tolerances."""

    exit_code = 3


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest known word, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def few_of(names: Sequence[str], shown: int = 3, between: str = ", ") -> str:
    """The first ``shown`` names for a message, and the number of the rest.

    >>> reid.errors.few_of(["a", "b", "c", "d"], 3)
    'a, b, c and 1 more'
    """
    listed = between.join(map(printable, names[:shown]))
    left_out = len(names) - shown
    joint = " " if between == ", " else between
    return f"{listed}{joint}and {left_out:,} more" if left_out > 0 else listed


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn OSErrors from writing ``path`` into OutputError, as for a path that cannot be one."""
    if "\0" in str(path):
        raise OutputError(f"cannot write {path}: a path has no NUL character; choose another")
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.EACCES: "permission denied; choose another folder",
            errno.ENOTDIR: "a part of the path is a file; choose another folder",
            errno.EEXIST: "a file has the name of the folder needed; choose another folder",
            errno.EISDIR: "it is a folder; choose another file name",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"cannot write {path}: {reason}") from error
