"""TLS: whom a job trusts and who it says it is, as contexts that are shared; and in words why there is none."""

from __future__ import annotations

import os
import re
import ssl
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import aiohttp
import anyio

from fetchd.body import on_disk
from fetchd.job import Job, Tls

_UNTRUSTED: Final = {
    9: "the server's certificate is not valid yet",
    10: "the server's certificate has expired",
    18: "the server's certificate is signed by itself",
    19: "the server's certificate is from an unknown CA",
    20: "the server's certificate is from an unknown CA",
    21: "the server's certificate is from an unknown CA",
    62: "the server's certificate is for another host",
    64: "the server's certificate is for another host",
}
"""The verifier's codes (x509_vfy.h) that name the remedy."""
_REFUSED: Final = "the server refuses the client's certificate"
_ALERTS: Final = {
    "ALERT_CERTIFICATE_REQUIRED": "the server wants a client's certificate",
    "ALERT_NO_CERTIFICATE": "the server wants a client's certificate",
    "ALERT_CERTIFICATE": _REFUSED,
    "ALERT_BAD_CERTIFICATE": _REFUSED,
    "ALERT_UNSUPPORTED_CERTIFICATE": _REFUSED,
    "ALERT_UNKNOWN_CA": _REFUSED,
    "ALERT_ACCESS_DENIED": _REFUSED,
}
"""What a server says of the certificate that it was shown, by a part of OpenSSL's name for it."""
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.\d+")


class UnusableTlsError(Exception):
    """The files of a job's tls cannot be used. ``key`` is the one of its keys that is to blame."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the one TLS context that all connections share: building one takes milliseconds and hundreds of KiB.

    Raises:
        OSError: ``ca_file`` cannot be read, or holds no certificate.
    """
    context = _trusting_system()
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def context_for(tls: Tls, ca_file: Path | None) -> ssl.SSLContext:
    """Return a context for ``tls``. Its own CAs stand for all others; else the system's and ``ca_file`` count.

    Raises:
        UnusableTlsError: a file of it cannot be used.
    """
    if not tls.verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = _trusting(tls.ca_file, ca_file)
    context.set_alpn_protocols(["http/1.1"])
    _identify(context, tls)
    return context


def identity_problem(tls: Tls) -> tuple[str, str] | None:
    """Return the key of ``tls``, and what is wrong with it, that keeps its certificate from being shown."""
    try:
        _identify(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)
    except UnusableTlsError as error:
        return error.key, str(error)
    return None


def unverified(jobs: Iterable[Job]) -> list[str]:
    """Return the names of the ``jobs`` that believe any server: everybody on the way can read and change all."""
    return [job.name for job in jobs if not job.tls.verify and job.tls.fingerprint is None]


class Contexts:
    """One context for each distinct `Tls` in use; ``default`` is that of all who say nothing about it."""

    def __init__(self, default: ssl.SSLContext, ca_file: Path | None) -> None:
        self.default = default
        self._ca_file = ca_file
        self._known: WeakValueDictionary[Tls, ssl.SSLContext] = WeakValueDictionary()
        self._building: defaultdict[Tls, anyio.Lock] = defaultdict(anyio.Lock)

    @property
    def in_use(self) -> int:
        """How many there are beside the default."""
        return len(self._known)

    async def of(self, tls: Tls) -> ssl.SSLContext:
        """Return the context for ``tls``, built unless somebody has it.

        Raises:
            UnusableTlsError: a file of it cannot be used.
        """
        if tls.verify and tls.ca_file is None and tls.cert is None:
            return self.default
        async with self._building[tls]:
            context = self._known.get(tls)
            if context is None:
                context = self._known[tls] = await on_disk(partial(context_for, tls, self._ca_file))
            self._building.pop(tls, None)
        return context


def tls_words(error: BaseException) -> str:
    """Return what of TLS went wrong behind ``error``, in one line; "" if it was nothing of TLS."""
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return f"the server's certificate is not the one that fingerprint names: its SHA-256 is {error.got.hex()}"
    cause: BaseException | None = error
    while isinstance(cause, aiohttp.ClientError):  # of which some are SSLErrors too, but empty
        cause = cause.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        about = _UNTRUSTED.get(cause.verify_code, "the server's certificate is not trusted")
        return f"{about}: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        text = (cause.reason or cause.strerror or type(cause).__name__).replace("_", " ").lower()
        about = next((words for part, words in _ALERTS.items() if part in (cause.reason or "")), "")
        return f"{about or 'the TLS handshake failed'}: {text}"
    return "the TLS handshake failed" if isinstance(error, aiohttp.ClientSSLError) else ""


def _trusting(own: Path | None, added: Path | None) -> ssl.SSLContext:
    try:
        if own is not None:
            return ssl.create_default_context(cafile=own)
        context = _trusting_system()
        if added is not None:
            context.load_verify_locations(added)
    except OSError as error:
        raise UnusableTlsError("ca_file", f"the CAs cannot be read: {error.strerror or 'not a PEM file'}") from None
    return context


def _trusting_system() -> ssl.SSLContext:
    """Return a context that looks CAs up when it meets them, where the system has them sorted for that.

    All of them at once are most of a context's hundreds of KiB, which each client certificate would cost anew.
    """
    folder = sorted_folder(ssl.get_default_verify_paths())
    return ssl.create_default_context(capath=folder) if folder else ssl.create_default_context()


def sorted_folder(paths: ssl.DefaultVerifyPaths) -> str | None:
    """Return the folder in which all of the system's CAs are found by their hashes; None if there is none.

    Where fewer are sorted than stand in the system's file, or another file is set, that file counts.
    """
    if not paths.capath or not os.path.isdir(paths.capath):
        return None
    if paths.cafile is None:
        needed = 1
    elif not os.path.exists(paths.openssl_cafile) or not os.path.samefile(paths.cafile, paths.openssl_cafile):
        return None
    else:
        needed = max(1, Path(paths.cafile).read_bytes().count(b"-----BEGIN CERTIFICATE-----"))
    found = sum(bool(_HASHED.fullmatch(name)) for name in os.listdir(paths.capath))
    return paths.capath if found >= needed else None


def _identify(context: ssl.SSLContext, tls: Tls) -> None:
    """Let ``context`` show the certificate of ``tls``, if it has one."""
    if tls.cert is None:
        return
    password = tls.key_password.reveal() if tls.key_password else ""  # without any, OpenSSL asks on the terminal
    try:
        context.load_cert_chain(tls.cert, tls.key, password)
    except ssl.SSLError as error:
        raise _judged(tls, error) from None
    except ValueError:
        raise UnusableTlsError("key_password", "the password of the key is wrong") from None
    except OSError as error:
        key = "key" if tls.key and tls.cert.is_file() else "cert"
        raise UnusableTlsError(key, f"cannot be read: {error.strerror}") from None


def _judged(tls: Tls, error: ssl.SSLError) -> UnusableTlsError:
    """Return why the certificate and its key cannot be used; of most of it OpenSSL says nothing but that."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return UnusableTlsError("key" if tls.key else "cert", "the key is not that of the certificate")
    assert tls.cert is not None
    pem = (tls.key or tls.cert).read_bytes()
    key = "key" if tls.key else "cert"
    if b"PRIVATE KEY-----" not in pem:
        return UnusableTlsError(key, "not a PEM file with a private key")
    if b"ENCRYPTED" not in pem:
        return UnusableTlsError(key, "the key cannot be used with the certificate")
    if tls.key_password is None:
        return UnusableTlsError(key, "the key is encrypted: add key_password")
    return UnusableTlsError("key_password", "the password of the key is wrong")
