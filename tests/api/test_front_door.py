"""``import reid``: what it offers, what it loads, and what an exported file loads."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reid
from reid import errors

HEAVY = ("torch", "onnx", "onnxruntime", "tensorrt", "cv2", "matplotlib", "faiss", "tqdm", "numpy")


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_reid_loads_nothing_heavy() -> None:
    code = f"import reid, sys; print(*(sys.modules.keys() & {HEAVY!r}))"
    assert run(code) == ""


def test_listing_the_names_loads_nothing_heavy() -> None:
    code = f"import reid, sys; dir(reid); print(*(sys.modules.keys() & {HEAVY!r}))"
    assert run(code) == ""


def test_every_public_name_is_there_and_is_listed() -> None:
    for name in reid.__all__:
        assert getattr(reid, name) is not None
    assert set(reid.__all__) <= set(dir(reid))
    assert sorted(reid.__all__) == sorted(set(reid.__all__))


def test_every_error_of_the_tree_is_public() -> None:
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ReidError)
    }
    assert tree <= set(reid.__all__)


def public_callables() -> Iterator[tuple[str, object]]:
    """Public functions, and the public methods and properties of public classes."""
    for name in reid.__all__:
        value = getattr(reid, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and not issubclass(value, Exception):
            for attribute, member in vars(value).items():
                found = member.fget if isinstance(member, property) else member
                found = getattr(found, "__func__", found)
                if attribute[0] != "_" and inspect.isfunction(found):
                    yield f"{name}.{attribute}", found


def test_no_public_signature_says_any() -> None:
    found = dict(public_callables())
    assert {"load", "Model.embed", "Model.manifest", "Gallery.open", "Tracker.update"} <= set(found)
    vague = [
        name
        for name, call in found.items()
        if re.search(r"\bAny\b", str(inspect.signature(call)))  # type: ignore[arg-type]
        and not name.endswith(".to_json")
    ]
    assert vague == []
    untyped = [
        name
        for name, call in found.items()
        if inspect.signature(call).return_annotation is inspect.Signature.empty  # type: ignore[arg-type]
    ]
    assert untyped == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="lod"):
        reid.lod  # type: ignore[attr-defined]  # noqa: B018


def test_no_module_of_reid_overwrites_a_public_function() -> None:
    root = Path(reid.__file__).parent
    modules = {path.stem for path in root.glob("*.py")} | {path.name for path in root.iterdir()}
    functions = [name for name in reid.__all__ if name not in ("errors", "__version__")]
    assert modules.isdisjoint(functions)


def test_an_onnx_file_is_loaded_used_and_evaluated_without_torch(
    api_onnx: Path, people: Path
) -> None:
    code = (
        "import reid, sys\n"
        f"with reid.load({str(api_onnx)!r}, device='cpu') as model:\n"
        f"    model.embed({str(people / 'query')!r})\n"
        f"    model.rank({str(people / 'query')!r}, {str(people / 'query')!r})._repr_html_()\n"
        f"    model.evaluate('synthetic', {str(people)!r})._repr_html_()\n"
        "    reid.Tracker(model)\n"
        "print('torch' in sys.modules)\n"
    )
    assert run(code) == "False"


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    api_onnx: Path, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError('no', name='onnxruntime')\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import reid\n"
        f"try: reid.load({str(api_onnx)!r})\n"
        "except reid.MissingPackageError as error: print(error)\n"
    )
    assert "reid-toolkit[" in run(code)
