"""From a file to a Config, or to everything that is wrong with it; the only reader of TOML and of the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from fetchd.alerts.options import AlertOptions
from fetchd.config.alerting import AlertingReader
from fetchd.config.document import Document, read
from fetchd.config.environment import proxy_variables
from fetchd.config.findings import Findings
from fetchd.config.jobs import JobReader
from fetchd.config.lines import KeyPath
from fetchd.config.model import Config, Daemon, Dns, Host, Log, host_name
from fetchd.config.places import Places
from fetchd.errors import ConfigError
from fetchd.job import Job, Policy
from fetchd.secret import SecretSource
from fetchd.whereabouts import state_folder

TABLES: Final = ("daemon", "dns", "log", "defaults", "hosts", "jobs", "alerts", "notifiers", "maintenance")
"""What a file may hold."""

M = TypeVar("M", bound=BaseModel)


def load(path: Path, *, environment: Mapping[str, str], functions: bool = True) -> Config:
    """Return what the file at ``path`` says.

    Args:
        path: the file.
        environment: the process's variables.
        functions: whether the user's functions are looked up, for which ``daemon.python_path`` is added to Python's.

    Raises:
        ConfigError: something is wrong; all of it at once.
    """
    return build(read(path), environment=environment, functions=functions)


def build(document: Document, *, environment: Mapping[str, str], functions: bool = True) -> Config:
    """Return what ``document`` says; as `load`."""
    reader = _Reader(document, environment)
    config = reader.read(functions=functions)
    findings = reader.findings.all()
    if findings or config is None:
        raise ConfigError(findings)
    return config


def defaults_of(document: Document, *, environment: Mapping[str, str]) -> Policy:
    """Return what [defaults] of a valid ``document`` says."""
    return _Reader(document, environment).table(("defaults",), Policy) or Policy()


def extend_path(folders: Iterable[Path], path: list[str]) -> None:
    """Add ``folders`` to ``path``, an import path, each once."""
    for folder in map(str, folders):
        if folder not in path:
            path.append(folder)


class _Reader:
    """Reads one document, whatever is wrong with it."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self._context = {"secrets": SecretSource(environment, document.path.absolute().parent)}
        self._bad: set[KeyPath] = set()
        self.findings = Findings(document)

    def read(self, *, functions: bool) -> Config | None:
        """Return the configuration; None if too much is wrong to have one. What is wrong is among the findings."""
        for key in self._document.data:
            if key not in TABLES:
                self.findings.unknown((key,), TABLES)
        daemon = self._daemon()
        dns, log = self.table(("dns",), Dns), self.table(("log",), Log)
        # With a python_path that is wrong, each function would be missing for that reason alone.
        functions = functions and ("daemon", "python_path") not in self._bad
        if functions and daemon:
            extend_path(daemon.python_path, sys.path)
        out = daemon.state_dir / "out" if daemon else Path("out")
        hosts, jobs = self._hosts(), self._jobs(Places(out), functions=functions)
        alerts, alerting = self.table(("alerts",), AlertOptions), self._alerting()
        notifiers, maintenance = alerting.notifiers(), alerting.maintenance()
        alerting.judge(jobs.values())
        if daemon is None or dns is None or log is None or alerts is None:
            return None
        return Config(
            path=self._document.path,
            daemon=daemon,
            dns=dns,
            log=log,
            hosts=hosts,
            jobs=jobs,
            proxies=proxy_variables(self._environment),
            alerts=alerts,
            notifiers=notifiers,
            maintenance=maintenance,
        )

    def _alerting(self) -> AlertingReader:
        return AlertingReader(self._document, self.findings, self._context, self.table)

    def table(self, path: KeyPath, model: type[M], **given: Any) -> M | None:
        """Return the table at ``path``, over what is ``given``, as a ``model`` without the keys that are wrong."""
        raw = self._raw(path)
        if raw is None:
            return None
        raw = given | raw
        try:
            return model.model_validate(raw, context=self._context)
        except ValidationError as error:
            places = self.findings.refused(path, raw, model, error)
        self._bad |= {(*path, *place[:1]) for place in places}
        sound = {key: value for key, value in raw.items() if (*path, key) not in self._bad}
        try:
            return model.model_validate(given | sound, context=self._context)
        except ValidationError:
            return None

    def _raw(self, path: KeyPath) -> dict[str, Any] | None:
        raw: Any = self._document.data
        for part in path:
            raw = raw.get(part, {})
        if isinstance(raw, dict):
            return raw
        self.findings.add(path, "must be a table")
        return None

    def _daemon(self) -> Daemon | None:
        raw = self._raw(("daemon",))
        folder = state_folder(self._environment)
        if folder is None and raw is not None and "state_dir" not in raw:
            message = "set it: neither $STATE_DIRECTORY nor $XDG_STATE_HOME nor $HOME says where state is kept"
            self.findings.add(("daemon", "state_dir"), message)
        return self.table(("daemon",), Daemon, state_dir=str(folder or self._document.path.absolute().parent))

    def _hosts(self) -> dict[str, Host]:
        hosts: dict[str, Host] = {}
        for key in self._raw(("hosts",)) or {}:
            path = ("hosts", key)
            try:
                name = host_name(key)
            except ValueError as error:
                self.findings.add(path, str(error))
                continue
            if name in hosts:
                self.findings.add(path, f"this host has a table already, as {name}")
            hosts[name] = self.table(path, Host) or Host()
        return hosts

    def _jobs(self, places: Places, *, functions: bool) -> dict[str, Job]:
        defaults = self.table(("defaults",), Policy) or Policy()
        raw = self._raw(("jobs",))
        if raw is None:
            return {}
        if not raw:
            self.findings.add(("jobs",), "there is no job: add a table such as [jobs.rates] with a url")
        reader = JobReader(self.findings, defaults, self._context, functions, places)
        read = {name: reader.read(name, table) for name, table in raw.items()}
        return {name: job for name, job in read.items() if job is not None}
