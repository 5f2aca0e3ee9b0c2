"""Evidence: what is in the file, and that every change of it is refused."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reid.cli import main
from reid.deploy.api.evidence import verify_evidence
from reid.deploy.evidence import checking
from reid.deploy.evidence.signing import fingerprint, pem, signing_key
from reid.deploy.evidence.writing import Evidence, Picture, evidence_zip, sums_of
from reid.deploy.serve.access import Access
from reid.deploy.serve.service import GalleryService
from reid.errors import ConfigError, DataError
from reid.matching import VectorMatcher
from tests.deploy.gallery.conftest import PixelRunner
from tests.deploy.serve.site import TOKEN, Site, bearer, filled_gallery, person, png, running

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def private_pem(key: Any, password: bytes = b"") -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    done: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> Iterator[Site]:
    matcher = VectorMatcher(PixelRunner())
    gallery = filled_gallery(tmp_path_factory.mktemp("evidence"), matcher)
    service = GalleryService(gallery, matcher, signing_key=key)
    with running(gallery, matcher, Access("127.0.0.1", TOKEN), service=service) as running_site:
        yield running_site
        assert running_site.errors == []


def exported(site: Site, **asked: Any) -> bytes:
    body = json.dumps(asked).encode()
    status, headers, content = site.ask("POST", "/api/evidence", body, **bearer(TOKEN))
    assert (status, headers["Content-Type"]) == (200, "application/zip"), content
    assert "attachment" in headers["Content-Disposition"]
    return content


@pytest.fixture(scope="module")
def export(site: Site) -> bytes:
    """Two people and one without a picture, one of them confirmed."""
    found = site.search(png(person(4)), "k=14", **bearer(TOKEN))
    said = {"query": found["query"], "id": "4", "same": True}
    assert site.ask_json("/api/confirm", said, **bearer(TOKEN))[0] == 200
    ids, note = ["4", "3", "13"], "the man at the gate"
    return exported(site, queries=[found["query"]], ids=ids, note=note)


@pytest.fixture
def public(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    file = tmp_path / "public.pem"
    file.write_bytes(pem(key.public_key()))
    return file


def unzipped(content: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def zipped(files: Files) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, one in files.items():
            made.writestr(name, one)
    return content.getvalue()


def checked(content: bytes, folder: Path, public_key: Path | None = None) -> checking.Verified:
    file = folder / "evidence.zip"
    file.write_bytes(content)
    return verify_evidence(file, public_key)


def test_evidence_says_who_took_what_from_where_and_when(export: bytes, site: Site) -> None:
    files = unzipped(export)
    body = json.loads(files["evidence.json"])
    assert (body["made_by"], body["note"]) == ("token", "the man at the gate")
    assert body["made"].endswith("Z")
    assert body["model"]["network"] == "msp_cnn"
    assert body["limit"]["distance"] == 0.65
    assert body["limit"]["words"]
    first, second, third = body["images"]
    assert (first["id"], first["person"], first["camera"]) == ("4", "p4", "c0")
    assert (first["time"], first["confirmed"]) == ("1970-01-01T00:04:00Z", True)
    assert (first["distance"], first["within"]) == (pytest.approx(0, abs=1e-3), True)
    assert first["confirmed_by"] == "token"
    found = site.search(png(person(4)), "k=14", **bearer(TOKEN))["matches"]
    distances = {one["id"]: one["distance"] for one in found}
    assert second["distance"] == pytest.approx(distances["3"])
    assert files[first["picture"]].startswith(b"\xff\xd8")
    assert third["picture"] is None  # its file is no image
    assert [one["picture"] for one in body["queries"]] == [None]
    assert not any(name.startswith("queries/") for name in files)


def test_query_pictures_are_in_it_only_if_asked_for(site: Site) -> None:
    query = site.search(png(person(4)), **bearer(TOKEN))["query"]
    files = unzipped(exported(site, queries=[query], ids=["4"], query_pictures=True))
    assert files[f"queries/{query}.jpg"].startswith(b"\xff\xd8")


def test_evidence_without_queries_has_no_distances(site: Site) -> None:
    body = json.loads(unzipped(exported(site, ids=["4"]))["evidence.json"])
    assert (body["images"][0]["distance"], body["images"][0]["within"]) == (None, None)


def test_signed_evidence_is_verified_by_its_key(
    export: bytes, key: Ed25519PrivateKey, tmp_path: Path, public: Path
) -> None:
    found = checked(export, tmp_path, public)
    assert (found.images, found.made_by, found.trusted) == (3, "token", True)
    assert found.key == fingerprint(key.public_key())
    without = checked(export, tmp_path)
    assert (without.key, without.trusted) == (found.key, False)


def test_sha256sum_and_openssl_check_it_too(export: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(export)) as packed:
        packed.extractall(tmp_path)
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    if not shutil.which("openssl"):
        pytest.skip("needs openssl: apt-get install openssl")
    words = "-verify -pubin -inkey public_key.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig"
    subprocess.run(
        ["openssl", "pkeyutl", *words.split()], cwd=tmp_path, check=True, capture_output=True
    )


def test_unsigned_evidence_says_so(tmp_path: Path, public: Path, capsys: Any) -> None:
    content = evidence_zip(Evidence({"made": "now"}, [Picture({"id": "1"}, b"jpeg")]))
    assert b"NOT signed" in unzipped(content)["UNSIGNED.txt"]
    assert checked(content, tmp_path).key == ""
    with pytest.raises(DataError, match="not signed"):
        checked(content, tmp_path, public)
    assert main(["verify", str(tmp_path / "evidence.zip")]) == 0
    assert "UNSIGNED" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "evidence.zip"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed"] is False


def listed_anew(files: Files) -> Files:
    """With a list that fits, as a forger would write it."""
    rest = {n: c for n, c in files.items() if n not in ("SHA256SUMS", "SHA256SUMS.sig")}
    return {**files, "SHA256SUMS": sums_of(rest)}


def changed_picture(files: Files) -> Files:
    return {**files, "pictures/0001.jpg": files["pictures/0002.jpg"]}


def stripped(files: Files) -> Files:
    """Without its signature, and marked as unsigned, with a list that fits."""
    rest = {n: c for n, c in files.items() if n not in ("SHA256SUMS.sig", "public_key.pem")}
    return listed_anew({**rest, "UNSIGNED.txt": b"NOT signed"})


def signed_by_another(files: Files) -> Files:
    other = Ed25519PrivateKey.generate()
    again = listed_anew({**files, "public_key.pem": pem(other.public_key())})
    return {**again, "SHA256SUMS.sig": other.sign(again["SHA256SUMS"])}


def without(name: str) -> Any:
    return lambda files: {n: c for n, c in files.items() if n != name}


CHANGES: dict[str, tuple[Any, str]] = {
    "a changed picture": (changed_picture, "pictures/0001.jpg"),
    "a changed picture with a new list": (lambda f: listed_anew(changed_picture(f)), "signature"),
    "a changed fact": (
        lambda f: {**f, "evidence.json": f["evidence.json"].replace(b"gate", b"hall")},
        "evidence.json",
    ),
    "a missing picture": (without("pictures/0002.jpg"), "pictures/0002.jpg"),
    "an added picture": (lambda f: {**f, "pictures/0009.jpg": b"x"}, "pictures/0009.jpg"),
    "no list": (without("SHA256SUMS"), "SHA256SUMS"),
    "no signature": (without("SHA256SUMS.sig"), "signature"),
    "no key": (lambda f: listed_anew(without("public_key.pem")(f)), "signature"),
    "a signature that is too short": (
        lambda f: {**f, "SHA256SUMS.sig": f["SHA256SUMS.sig"][:20]},
        "signature",
    ),
    "another key": (signed_by_another, "another key"),
    "no signature, as if there never was one": (stripped, "not signed"),
    "a malformed list": (lambda f: {**f, "SHA256SUMS": b"x\n"}, "SHA256SUMS"),
    "a file listed twice": (
        lambda f: {**f, "SHA256SUMS": f["SHA256SUMS"] * 2},
        "SHA256SUMS",
    ),
    "a way out of the folder": (lambda f: {**f, "../evil": b"x"}, "../evil"),
    "an absolute path": (lambda f: {**f, "/etc/passwd": b"x"}, "/etc/passwd"),
    "a backslash": (lambda f: {**f, "..\\evil": b"x"}, "evil"),
    "a hidden file": (lambda f: {**f, ".bashrc": b"x"}, ".bashrc"),
    "a folder": (lambda f: {**f, "pictures/": b""}, "pictures/"),
    "a name that differs in case": (lambda f: {**f, "EVIDENCE.json": b"x"}, "twice"),
    "a bomb": (lambda f: {**f, "pictures/0009.jpg": bytes(60 << 20)}, "0009.jpg"),
    "nothing": (lambda f: {}, "SHA256SUMS"),
    "too many files": (lambda f: {**f, **{f"a{n}": b"" for n in range(2001)}}, "2,000"),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_refused_in_one_line(
    export: bytes, tmp_path: Path, public: Path, capsys: Any, change: Any, named: str
) -> None:
    content = zipped(change(unzipped(export)))
    with pytest.raises(DataError) as caught:
        checked(content, tmp_path, public)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    file = str(tmp_path / "evidence.zip")
    assert main(["verify", file, "--public-key", str(public)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_what_was_unpacked_and_packed_again_is_still_verified(
    export: bytes, tmp_path: Path, public: Path
) -> None:
    assert checked(zipped(unzipped(export)), tmp_path, public).trusted


def test_a_name_twice_a_link_and_a_damaged_zip_are_refused(export: bytes, tmp_path: Path) -> None:
    twice = io.BytesIO(export)
    with zipfile.ZipFile(twice, "a") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("evidence.json", b"{}")
    link = io.BytesIO(export)
    with zipfile.ZipFile(link, "a") as made:
        info = zipfile.ZipInfo("pictures/0009.jpg")
        info.external_attr = 0o120777 << 16
        made.writestr(info, "/etc/passwd")
    for content in (twice.getvalue(), link.getvalue(), export[:-30], export[30:], b"", b"PK\x03"):
        with pytest.raises(DataError, match=r"evidence\.zip"):
            checked(content, tmp_path)


def test_every_flipped_byte_is_refused_or_changes_nothing(
    export: bytes, tmp_path: Path, public: Path
) -> None:
    """ZIP has times and attributes that nothing depends on; all contents are the signed ones."""
    whole = unzipped(export)
    for at in range(0, len(export), 97):
        content = bytearray(export)
        content[at] ^= 0x55
        try:
            checked(bytes(content), tmp_path, public)
        except DataError:
            continue
        assert unzipped(bytes(content)) == whole


def test_other_keys_cannot_sign(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    file = tmp_path / "key.pem"
    for content in (
        b"",
        private_pem(generate_private_key(SECP256R1())),
        private_pem(key, b"secret"),
        pem(key.public_key()),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=r"key\.pem"):
            signing_key(file)
    file.write_bytes(private_pem(key))
    assert fingerprint(signing_key(file).public_key()) == fingerprint(key.public_key())
    with pytest.raises(ConfigError, match="missing"):
        signing_key(tmp_path / "missing.pem")


def test_a_key_of_openssl_signs(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl: apt-get install openssl")
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    for words in (
        f"genpkey -algorithm ed25519 -out {key}",
        f"pkey -in {key} -pubout -out {public}",
    ):
        subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    content = evidence_zip(Evidence({}, []), signing_key(key))
    assert checked(content, tmp_path, public).trusted


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path, public: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.zip"):
        verify_evidence(tmp_path / "none.zip")
    with pytest.raises(ConfigError, match=r"none\.pem"):
        verify_evidence(tmp_path / "none.zip", tmp_path / "none.pem")
