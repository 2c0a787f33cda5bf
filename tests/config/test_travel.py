"""Proxies, certificates and private addresses: what cannot work is found before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from fetchd.secret import Redactor
from tests.config.files import ENVIRONMENT, loaded, refused

JOB = '[jobs.a]\nurl = "https://h.example/"\n'
NO_PROXY = "goes with no proxy, which would look names up itself: nobody can judge addresses"
PROXIED = {**ENVIRONMENT, "https_proxy": "http://user:canary@proxy.example:3128"}
SOCKS = {**ENVIRONMENT, "ALL_PROXY": "socks5://user:canary@proxy.example"}


@pytest.mark.parametrize(
    ("text", "environment", "finding"),
    [
        (f'{JOB}deny_private = true\nproxy = "http://p:1"\n', ENVIRONMENT, f"3: jobs.a.deny_private: {NO_PROXY}"),
        (f'{JOB}deny_private = true\nproxy = "env"\n', PROXIED, f"3: jobs.a.deny_private: {NO_PROXY}"),
        (
            f'{JOB}proxy = "env"\n',
            SOCKS,
            "3: jobs.a.proxy: $ALL_PROXY is not the address of an http or https proxy",
        ),
        (
            '[jobs.a]\nurl = "http+unix://%2Frun%2Fapp.sock/"\ndeny_private = true\n',
            ENVIRONMENT,
            "3: jobs.a.deny_private: refuses sockets of this machine, and url is one",
        ),
        (
            '[jobs.a]\nurl = "https+unix://%2Frun%2Fapp.sock/"\n',
            ENVIRONMENT,
            "2: jobs.a.url: there is no TLS over a socket: write http+unix",
        ),
        (
            f'{JOB}tls = {{ cert = "me.pem", key = "/dev/zero" }}\n',
            ENVIRONMENT,
            "3: jobs.a.tls.key: cannot be read: it is not a regular file",
        ),
        (
            f'{JOB}tls = {{ fingerprint = "SHA256:ab:cd" }}\n',
            ENVIRONMENT,
            "3: jobs.a.tls.fingerprint: write a SHA-256 as 64 hexadecimal digits, colons between them or not",
        ),
    ],
)
def test_what_does_not_go_together(text: str, environment: dict[str, str], finding: str, tmp_path: Path) -> None:
    """At run time each would be refused with every fetch."""
    assert finding in refused(tmp_path, text, environment)


@pytest.mark.parametrize("environment", [ENVIRONMENT, {**PROXIED, "no_proxy": "*"}], ids=["none", "exempt"])
def test_an_environment_without_proxies(environment: dict[str, str], tmp_path: Path) -> None:
    """One file serves machines with a proxy and those without."""
    config = loaded(tmp_path, f'{JOB}deny_private = true\nproxy = "env"\n', environment)
    assert config.jobs["a"].deny_private


def test_papers_may_be_credentials(tmp_path: Path) -> None:
    """The key is a secret as well: systemd hands it over where root alone may read the file."""
    handed, leaf = tmp_path / "handed", trustme.CA().issue_cert("me.test")
    handed.mkdir()
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "me.crt"))
    leaf.private_key_pem.write_to_path(str(handed / "me.key"))
    text = f'{JOB}tls = {{ cert = "me.crt", key = {{ credential = "me.key" }} }}\n'
    config = loaded(tmp_path, text, {**ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(handed)})
    assert config.jobs["a"].tls.key == handed / "me.key"
    (finding,) = refused(tmp_path, text)
    assert finding.startswith("3: jobs.a.tls.key: $CREDENTIALS_DIRECTORY is not set: LoadCredential=me.key:PATH")
    (finding,) = refused(tmp_path, text.replace("credential", "env"))
    assert finding == '3: jobs.a.tls.key: write a path, or { credential = "NAME" }'


def test_papers_are_tried(tmp_path: Path) -> None:
    """A key that is another's is found by ``fetchd check``, for each job that has it, inherited or not."""
    leaves = [trustme.CA().issue_cert("me.test") for _ in range(2)]
    leaves[0].cert_chain_pems[0].write_to_path(str(tmp_path / "me.crt"))
    leaves[1].private_key_pem.write_to_path(str(tmp_path / "other.key"))
    text = f'[defaults]\ntls = {{ cert = "me.crt", key = "other.key" }}\n{JOB}[jobs.b]\nurl = "http://h.example/"\n'
    findings = refused(tmp_path, text)
    assert [finding.partition(": ")[2] for finding in findings] == [
        f"jobs.{name}.tls.key: the key is not that of the certificate" for name in "ab"
    ]


@pytest.mark.parametrize("written", ['"http://user:canary@p:1"', '{ env = "PROXY" }'], ids=["inline", "environment"])
def test_a_proxy_s_password_is_never_shown(written: str, tmp_path: Path) -> None:
    """Its address may be, where it is written in the file."""
    environment = {**ENVIRONMENT, "PROXY": "http://user:canary@p:1"}
    config = loaded(tmp_path, f"{JOB}proxy = {written}\n", environment)
    shown = Redactor(config.secret_texts())("cannot connect to http://user:canary@p:1, canary, Basic dXNlcjpjYW5hcnk=")
    assert "canary" not in shown
    assert "dXNlcjpjYW5hcnk" not in shown
    assert "canary" not in repr(config)


def test_the_environment_s_proxies_travel_as_secrets(tmp_path: Path) -> None:
    """They are read once, with the file, and may hold passwords."""
    config = loaded(tmp_path, f'{JOB}proxy = "env"\n', {**PROXIED, "NO_PROXY": "a.test", "OTHER": "x"})
    assert set(config.proxies) == {"https_proxy", "NO_PROXY"}
    assert "canary" not in repr(config)
