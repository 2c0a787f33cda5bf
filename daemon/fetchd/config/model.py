"""What the configuration file says, as values: the tables beside the jobs, and the whole."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from fetchd.alerts.options import ALWAYS_TOLD, AlertOptions, Maintenance
from fetchd.config.hidden import hidden_texts
from fetchd.job import Frozen, Job, Listed, Url
from fetchd.job.network import TextPath, certificates, path_from_config
from fetchd.notifiers.message import NotifierOptions
from fetchd.secret import Secret
from fetchd.units import Duration, Size

_ADDRESS: Final = re.compile(r"(?:(?P<host>localhost|[0-9.]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\]):(?P<port>[0-9]{1,5})")
_HOST: Final = re.compile(r"(?:(?P<host>[^\s/:@?#\[\]]+)|\[(?P<v6>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError("there is no such folder")
    return path


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _nameserver(value: str) -> str:
    host, port = value, "53"
    if value.startswith("["):
        host, _, port = value[1:].partition("]:")
    elif value.count(":") == 1:
        host, _, port = value.partition(":")
    try:
        ipaddress.ip_address(host)
        if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise ValueError
    except ValueError:
        message = 'not an IP address: write one such as "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353"'
        raise ValueError(message) from None
    return value


def _listen(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    try:
        if value and (match is None or int(match["port"]) > 65535):
            raise ValueError
        if match and match["v6"]:
            ipaddress.IPv6Address(match["v6"])
        elif match and match["host"] != "localhost":
            ipaddress.IPv4Address(match["host"])
    except ValueError:
        message = 'not an address: write one such as "127.0.0.1:9475" or "[::1]:9475", or "" for none'
        raise ValueError(message) from None
    return value


def host_name(name: str) -> str:
    """Return the host called ``name``, with its port if it has one, as requests name it.

    In small letters; an IPv6 address stands in brackets before a port, else without.

    Raises:
        ValueError: it is something else than a host and perhaps a port.
    """
    bare = name.lower()
    match = _HOST.fullmatch(f"[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else bare)
    try:
        if match is None or not 0 < int(match["port"] or 1) < 65536:
            raise ValueError
        host = str(ipaddress.IPv6Address(match["v6"])) if match["v6"] else match["host"].removesuffix(".")
    except ValueError:
        message = 'write the host alone, or with a port, such as [hosts."api.example.com"] or [hosts."localhost:8080"]'
        raise ValueError(message) from None
    if match["port"] is None:
        return host
    return f"[{host}]:{int(match['port'])}" if match["v6"] else f"{host}:{int(match['port'])}"


_FilePath = Annotated[Path, BeforeValidator(path_from_config), TextPath]
_Folder = Annotated[Path, AfterValidator(_folder), BeforeValidator(path_from_config), TextPath]
_Nameserver = Annotated[str, AfterValidator(_nameserver)]
_Listen = Annotated[str, AfterValidator(_listen)]
_Certificates = Annotated[Path, AfterValidator(certificates), BeforeValidator(path_from_config)]


class Daemon(Frozen):
    """The process itself."""

    state_dir: _FilePath
    """Where state and results are kept. Default: $STATE_DIRECTORY, else $XDG_STATE_HOME/fetchd."""
    listen: _Listen = "127.0.0.1:9475"
    """Where the status page, the metrics and the read-only API are served, as "ip:port"; "" for nowhere."""
    max_concurrent_runs: Annotated[int, Field(ge=1, le=100_000)] = 500
    """The Runs that are under way at one time; further ones wait for a place."""
    max_workers: Annotated[int, Field(ge=1, le=1000)] = 4
    """The worker processes for functions that are not async, at one time; further calls wait, within their deadline."""
    memory_budget: Size = 256 * 2**20
    """The body bytes held in memory by all Runs together; beyond it bodies are spooled, then Runs wait."""
    spool_above: Size = 2**20
    """Bodies above it go to a spool file."""
    shutdown_grace: Duration = 20.0
    """How long Runs may go on after the process was asked to stop."""
    stall_timeout: Annotated[Duration, Field(ge=1)] = 20.0
    """A loop that has not turned for so long is replaced: stacks are dumped, and the process exits to be restarted."""
    reload_on_change: bool = False
    """Whether this file is read again as soon as it has changed; as with SIGHUP, nothing changes if it has findings."""
    ping: Url | None = None
    """An address that is told, time and again, that the daemon does its work, in the way of healthchecks.io."""
    ping_every: Annotated[Duration, Field(ge=1)] = 60.0
    """How often it is told."""
    history: Annotated[int, Field(ge=1, le=10_000)] = 100
    """The runs of each job that are remembered; its last failures are kept apart from them, as many again."""
    python_path: Annotated[tuple[_Folder, ...], Listed] = ()
    """Folders that functions are imported from, besides Python's own; relative to the configuration file."""
    ca_file: Annotated[_Certificates | None, BeforeValidator(_none_if_empty), TextPath] = None
    """A PEM file of CAs that are trusted in addition to the system's; "" for none."""


class Dns(Frozen):
    """How names are resolved."""

    nameservers: Annotated[tuple[_Nameserver, ...], Listed] = ()
    """Name servers to ask, as "ip" or "ip:port"; without any, those of the system."""
    timeout: Duration = 2.0
    """How long one question may take."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """How often each name server is asked."""


class Log(Frozen):
    """What is logged, to the standard error stream."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    format: Literal["auto", "json", "console"] = "auto"
    """The lines' form; auto: console on a terminal, JSON elsewhere."""


class Host(Frozen):
    """Politeness towards one host, or one port of it as in `"localhost:8080"`, shared by all jobs."""

    max_concurrent: Annotated[int, Field(ge=0, le=100_000)] = 0
    """The most exchanges with the host at one time; 0 sets no limit."""
    min_spacing: Duration | None = None
    """The shortest time from the start of one exchange with the host to that of the next."""


class Config(Frozen):
    """The whole file, and where it is."""

    path: Path
    daemon: Daemon
    dns: Dns = Dns()
    log: Log = Log()
    hosts: dict[str, Host] = Field(default_factory=dict)
    """By the host's name in small letters."""
    jobs: dict[str, Job]
    """By name, in the file's order."""
    proxies: dict[str, Secret] = Field(default_factory=dict)
    """The environment's variables that name proxies, for the jobs that go by them."""
    alerts: AlertOptions = ALWAYS_TOLD
    notifiers: dict[str, NotifierOptions] = Field(default_factory=dict)
    """By name."""
    maintenance: tuple[Maintenance, ...] = ()

    def secret_texts(self) -> frozenset[str]:
        """Return every text that must not be shown; none that is part of a job's name, which is shown everywhere.

        Of what is written in the file itself, an address counts only by its password and its query's secrets, and a
        header or the like only if its name is that of a secret.
        """
        names = "\n".join(self.jobs)
        texts = {text for job in self.jobs.values() for text in hidden_texts(job)}
        for options in self.notifiers.values():
            texts |= {*hidden_texts(options), *hidden_texts(list(options.secrets()))}
        texts |= set(hidden_texts(self.daemon.ping))
        return frozenset(text for text in texts if text not in names)
