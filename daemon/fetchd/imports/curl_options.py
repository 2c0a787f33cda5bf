"""The options of curl(1): which take a value, and what becomes of those that a job has no key for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final


def words(text: str) -> frozenset[str]:
    """Return the words of ``text``."""
    return frozenset(text.split())


def named(text: str) -> dict[str, str]:
    """Return what the pairs in ``text``, such as ``a=append``, say by their first parts."""
    return dict(pair.split("=", 1) for pair in text.split())


SHORT: Final = named(
    "0=http1.0 1=tlsv1 2=sslv2 3=sslv3 4=ipv4 6=ipv6 a=append A=user-agent b=cookie B=use-ascii c=cookie-jar "
    "C=continue-at d=data D=dump-header e=referer E=cert f=fail F=form g=globoff G=get h=help H=header "
    "i=include I=head j=junk-session-cookies J=remote-header-name k=insecure K=config l=list-only L=location "
    "m=max-time M=manual n=netrc N=no-buffer o=output O=remote-name p=proxytunnel P=ftp-port q=disable "
    "Q=quote r=range R=remote-time s=silent S=show-error t=telnet-option T=upload-file u=user U=proxy-user "
    "v=verbose V=version w=write-out x=proxy X=request y=speed-time Y=speed-limit z=time-cond Z=parallel "
    "#=progress-bar :=next"
)

USED: Final = words(
    "anyauth basic digest fail get globoff head insecure ipv4 ipv6 location location-trusted next remote-name "
    "remote-name-all retry-all-errors"
)
"""Without a value, and understood."""

USED_WITH_VALUE: Final = words(
    "cacert cert connect-timeout cookie data data-ascii data-binary data-raw data-urlencode header json key "
    "max-filesize max-redirs max-time noproxy oauth2-bearer output output-dir pass proxy proxy-user range referer "
    "request retry retry-delay unix-socket url url-query user user-agent"
)

NO_EFFECT: Final = words(
    "alpn basic-auth buffer compressed create-dirs disable disable-epsv disable-eprt fail-early fail-with-body "
    "false-start http1.1 junk-session-cookies keepalive no-buffer no-keepalive no-npn no-alpn no-progress-meter "
    "no-sessionid npn parallel parallel-immediate progress-bar progress-meter proxy-basic raw remove-on-error "
    "retry-connrefused sessionid show-error silent ssl ssl-no-revoke ssl-reqd ssl-revoke-best-effort "
    "styled-output suppress-connect-headers tcp-fastopen tcp-nodelay tlsv1 tlsv1.0 tlsv1.1 tlsv1.2 trace-time "
    "trace-ids verbose"
)
"""What they change is nothing that a job does, or what it always does."""

NO_EFFECT_WITH_VALUE: Final = words(
    "create-file-mode expect100-timeout happy-eyeballs-timeout-ms keepalive-time libcurl parallel-max rate stderr "
    "trace trace-ascii trace-config vlan-priority ip-tos keepalive-cnt"
)

_DOES_ITSELF: Final = "fetchd asks for what is new by ETag and Last-Modified by itself"
_HTTP_1: Final = "fetchd speaks HTTP/1.1"
_BODIES_ONLY: Final = "results are bodies alone"

NOTED: Final = {
    "cert-status": "the certificate's OCSP staple is not asked for",
    "disallow-username-in-url": "a user in the URL is taken",
    "doh-cert-status": "names are resolved as [dns] says",
    "doh-insecure": "names are resolved as [dns] says",
    "http1.0": _HTTP_1,
    "http2": _HTTP_1,
    "http2-prior-knowledge": _HTTP_1,
    "http3": _HTTP_1,
    "http3-only": _HTTP_1,
    "http0.9": _HTTP_1,
    "ignore-content-length": "the length that the server names counts",
    "include": _BODIES_ONLY,
    "show-headers": _BODIES_ONLY,
    "no-clobber": "a file is replaced by the next result",
    "clobber": "a file is replaced by the next result",
    "path-as-is": '"/../" and "/./" in the path are resolved',
    "post301": "a redirected POST becomes a GET",
    "post302": "a redirected POST becomes a GET",
    "post303": "a redirected POST becomes a GET",
    "proxytunnel": "only https goes through a tunnel",
    "remote-header-name": "a file is called as the URL says",
    "remote-time": "a file has the time at which it is written",
    "tlsv1.3": "TLS 1.2 is good enough as well",
    "tr-encoding": "no transfer coding is asked for",
    "xattr": "files have no further attributes",
}
"""Without a value; each with what happens instead."""

NOTED_WITH_VALUE: Final = {
    "alt-svc": "other addresses that a server names are not used",
    "capath": "a folder of CAs is not read; tls.ca_file takes a file",
    "ciphers": "ciphers are those of the system",
    "tls13-ciphers": "ciphers are those of the system",
    "cookie-jar": "cookies are not kept from run to run",
    "crlfile": "lists of revoked certificates are not read",
    "curves": "curves are those of the system",
    "dns-interface": "names are resolved as [dns] says",
    "dns-ipv4-addr": "names are resolved as [dns] says",
    "dns-ipv6-addr": "names are resolved as [dns] says",
    "dns-servers": "names are resolved as [dns] says: set dns.nameservers",
    "doh-url": "names are resolved as [dns] says",
    "dump-header": _BODIES_ONLY,
    "etag-compare": _DOES_ITSELF,
    "etag-save": _DOES_ITSELF,
    "hsts": "what a server says of its future is not kept",
    "interface": "requests leave by the way that the system chooses",
    "limit-rate": "the speed is not limited",
    "local-port": "requests leave by the way that the system chooses",
    "pinnedpubkey": "the key is not pinned; tls.fingerprint takes the SHA-256 of the certificate",
    "proto": "http and https are followed",
    "proto-default": "a URL without a scheme is taken for http",
    "proto-redir": "redirects from https to http are refused, all others followed",
    "retry-max-time": "the deadline bounds all attempts",
    "speed-limit": "there is no lowest speed; the deadline ends what takes long",
    "speed-time": "there is no lowest speed; the deadline ends what takes long",
    "time-cond": _DOES_ITSELF,
    "tls-max": "TLS is as new as both sides can",
    "write-out": "status and times are in the log and on the status page",
}

BLOCKING: Final = words(
    "append compressed-ssh crlf ftp-create-dirs ftp-pasv ftp-pret ftp-skip-pasv-ip ftp-ssl-ccc ftp-ssl-control "
    "haproxy-protocol help list-only mail-rcpt-allowfails manual metalink negotiate netrc netrc-optional ntlm "
    "ntlm-wb proxy-anyauth proxy-digest proxy-insecure proxy-negotiate proxy-ntlm proxy-ssl-allow-beast "
    "proxy-ssl-auto-client-cert proxy-tlsv1 sasl-ir socks5-basic socks5-gssapi socks5-gssapi-nec ssl-allow-beast "
    "ssl-auto-client-cert sslv2 sslv3 tftp-no-options use-ascii version form-escape http2-server-push ca-native"
)
"""Without a value; a job has nothing for them, and without them it would ask for something else."""

BLOCKING_WITH_VALUE: Final = words(
    "abstract-unix-socket aws-sigv4 cert-type config connect-to continue-at delegation egd-file engine form "
    "form-string ftp-account ftp-alternative-to-user ftp-method ftp-port ftp-ssl-ccc-mode haproxy-clientip "
    "hostpubmd5 hostpubsha256 key-type krb login-options mail-auth mail-from mail-rcpt netrc-file preproxy "
    "proxy-cacert proxy-capath proxy-cert proxy-cert-type proxy-ciphers proxy-crlfile proxy-header proxy-key "
    "proxy-key-type proxy-pass proxy-pinnedpubkey proxy-service-name proxy-tls13-ciphers proxy-tlsauthtype "
    "proxy-tlspassword proxy-tlsuser proxy1.0 pubkey quote random-file request-target resolve sasl-authzid "
    "service-name socks4 socks4a socks5 socks5-gssapi-service socks5-hostname telnet-option tftp-blksize "
    "tlsauthtype tlspassword tlsuser upload-file variable ech dns-options"
)

_WITH_VALUE: Final = USED_WITH_VALUE | NO_EFFECT_WITH_VALUE | set(NOTED_WITH_VALUE) | BLOCKING_WITH_VALUE
_WITHOUT: Final = USED | NO_EFFECT | set(NOTED) | BLOCKING
NAMES: Final = _WITH_VALUE | _WITHOUT
"""All long names."""


@dataclass(slots=True)
class Said:
    """The options of one request, in their order; ``unknown`` are those that this curl has not."""

    given: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Return whether the option without a value is set; its ``--no-`` form takes it back."""
        state = False
        for given, _ in self.given:
            state = given == name or (state and given != f"no-{name}")
        return state

    def last(self, name: str) -> str | None:
        """Return the last value of an option; None if it is not there."""
        return next((value for given, value in reversed(self.given) if given == name), None)

    def all(self, *names: str) -> Iterator[tuple[str, str]]:
        """Yield the options of these names, with their values."""
        return ((name, value) for name, value in self.given if name in names)


def requests(arguments: Sequence[str]) -> list[Said]:
    """Return the options of each request that curl's ``arguments`` ask for: ``--next`` begins another one."""
    found = [Said()]
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            found[-1].given += [("url", url) for url in rest]
            break
        if argument.startswith("--"):
            _long(argument[2:], rest, found[-1])
        elif argument.startswith("-") and len(argument) > 1:
            _short(argument[1:], rest, found[-1])
        else:
            found[-1].given.append(("url", argument))
        if found[-1].given and found[-1].given[-1][0] == "next":
            found[-1].given.pop()
            found.append(Said())
    return [said for said in found if said.given or said.unknown]


def _long(written: str, rest: list[str], said: Said) -> None:
    name = _full(written)
    if name is None:
        said.unknown.append(f"--{written.partition('=')[0]}")
    elif name in _WITH_VALUE:
        _with_value(name, rest, said)
    else:
        said.given.append((name, ""))


def _full(written: str) -> str | None:
    """Return the option that ``written`` is, or the only one that it begins."""
    bare = written.removeprefix("no-")
    if written in NAMES:
        return written
    if bare in _WITHOUT:
        return f"no-{bare}"
    near = [name for name in NAMES if name.startswith(written)] if written else []
    return near[0] if len(near) == 1 else None


def _short(letters: str, rest: list[str], said: Said) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = SHORT.get(letter)
        if name is None:
            said.unknown.append(f"-{letter}")
        elif name in _WITH_VALUE:
            if letters:
                said.given.append((name, letters))
                return
            _with_value(name, rest, said)
        else:
            said.given.append((name, ""))


def _with_value(name: str, rest: list[str], said: Said) -> None:
    if rest:
        said.given.append((name, rest.pop(0)))
    else:
        said.unknown.append(f"--{name} without a value")
