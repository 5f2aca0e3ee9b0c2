"""Whether an encrypted camera is the one it claims to be, asked before its stream is opened.

FFmpeg checks no certificate by default. It has an option for https and none for rtsps, so a
TLS handshake goes first, with Python's ``ssl`` module, and refuses a camera whose
certificate is not trusted.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reid.errors import ConfigError, DataError

PORTS = {"https": 443, "rtsps": 322}
"""Encrypted schemes and their usual ports."""

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)
_LARGEST_FILE = 1 << 22


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """Which certificates are trusted: those in ``file`` only, or else the system's authorities.

    A file of PEM certificates has authorities, or cameras' own certificates, which are then
    trusted whatever name they bear. ``insecure`` trusts any certificate.
    """

    file: Path | None = None
    insecure: bool = False

    def check(self) -> None:
        """Raises ConfigError for a file without certificates, or one that FFmpeg cannot name."""
        if self.file is None:
            return
        try:
            if self.file.stat().st_size > _LARGEST_FILE or not self.file.is_file():
                raise ValueError("it is no file of certificates")
            found = self.pinned()
            ssl.create_default_context(cadata="\n".join(map(ssl.DER_cert_to_PEM_cert, found)))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"--tls-ca {self.file}: expected certificates (-----BEGIN CERTIFICATE-----): "
                f"{reason}"
            ) from None
        if re.search(r"[;|]", str(self.file)):
            raise ConfigError(f"--tls-ca {self.file}: its name must not have ; or | in it")

    def pinned(self) -> list[bytes]:
        """The file's certificates, DER."""
        if self.file is None:
            return []
        found = _CERTIFICATE.findall(self.file.read_text(encoding="ascii", errors="replace"))
        if not found:
            raise ValueError("no certificate is in it")
        return [ssl.PEM_cert_to_DER_cert(one) for one in found]


SYSTEMS_OWN = TlsTrust()
"""Trusts the system's authorities."""


def verified_options(url: str, shown: str, trust: TlsTrust, timeout_s: float) -> str:
    """FFmpeg's options for a stream that was verified; empty for one that is not encrypted.

    Raises DataError if the camera cannot be reached, or is not trusted.
    """
    scheme = url.partition("://")[0]
    if scheme not in PORTS or trust.insecure:
        return ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS[scheme]
    except ValueError:
        raise DataError(f"{shown}: its host and port are not clear") from None
    try:
        pinned = trust.pinned()
        if pinned and _handshake(host, port, _any_certificate(), timeout_s) in pinned:
            return ""
        file = os.fspath(trust.file) if trust.file else None
        _handshake(host, port, ssl.create_default_context(cafile=file), timeout_s)
    except ssl.SSLCertVerificationError as error:
        raise DataError(
            f"{shown} is not trusted: {error.verify_message.rstrip('.')}; put its certificate or "
            "its authority's into a file (openssl s_client -showcerts shows it) and name it with "
            "--tls-ca, or do without knowing who sends: --insecure-tls"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DataError(f"{shown} cannot be opened: no TLS handshake ({reason})") from None
    authorities = file or ssl.get_default_verify_paths().cafile
    if scheme != "https" or not authorities:
        return ""
    return f"|tls_verify;1|ca_file;{authorities}"


def _any_certificate() -> ssl.SSLContext:
    """Trusts any certificate: the certificate that comes back is compared with the pinned ones."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _handshake(host: str, port: int, context: ssl.SSLContext, timeout_s: float) -> bytes:
    """The certificate of the other side, DER."""
    with (
        socket.create_connection((host, port), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""
