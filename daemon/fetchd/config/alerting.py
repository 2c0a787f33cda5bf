"""From the tables about alerts to values: who can be told, and when nobody is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from fetchd.alerts.options import Maintenance
from fetchd.config.document import Document
from fetchd.config.findings import NAME_RULE, Findings, suggestion
from fetchd.config.lines import KeyPath
from fetchd.job import JOB_NAME, Job
from fetchd.notifiers.kinds import OPTIONS
from fetchd.notifiers.message import NotifierOptions

_NAME: Final = re.compile(JOB_NAME)


class AlertingReader:
    """Reads what one document says about alerts; ``table`` reads a table of it as a model."""

    def __init__(
        self,
        document: Document,
        findings: Findings,
        context: Mapping[str, Any],
        table: Callable[[KeyPath, type[NotifierOptions]], NotifierOptions | None],
    ) -> None:
        self._document = document
        self._findings = findings
        self._context = context
        self._table = table

    def notifiers(self) -> dict[str, NotifierOptions]:
        """Return the notifiers by name, as far as they can be read."""
        raw = self._document.data.get("notifiers", {})
        if not isinstance(raw, dict):
            self._findings.add(("notifiers",), "must be a table")
            return {}
        read = {name: self._notifier(name, table) for name, table in raw.items()}
        return {name: options for name, options in read.items() if options is not None}

    def maintenance(self) -> tuple[Maintenance, ...]:
        """Return the times in which nobody is told."""
        raw = self._document.data.get("maintenance", [])
        if not isinstance(raw, list):
            self._findings.add(("maintenance",), "must be a list of tables: write [[maintenance]]")
            return ()
        windows: list[Maintenance] = []
        for index, table in enumerate(raw):
            try:
                windows.append(Maintenance.model_validate(table, context=self._context))
            except ValidationError as error:
                self._findings.refused(("maintenance", index), table, Maintenance, error)
        return tuple(windows)

    def judge(self, jobs: Iterable[Job]) -> None:
        """Note each name of a notifier that there is none of."""
        data = self._document.data
        defined = data.get("notifiers", {})
        if not isinstance(defined, dict):
            return
        for job in jobs:
            self._names(("jobs", job.name), defined)
        self._names(("defaults",), defined)
        self._named(("alerts", "notify"), _within(data, ("alerts", "notify")), defined)

    def _names(self, path: KeyPath, defined: Iterable[str]) -> None:
        place = (*path, "alerts", "notify")
        self._named(place, _within(self._document.data, place), defined)

    def _named(self, path: KeyPath, names: Any, defined: Iterable[str]) -> None:
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str) and name not in defined:
                known = list(defined)
                hint = suggestion(name, known) if known else f"add a table [notifiers.{name}]"
                self._findings.add((*path, index), f"there is no such notifier; {hint}".replace("keys here", "names"))

    def _notifier(self, name: str, raw: Any) -> NotifierOptions | None:
        path = ("notifiers", name)
        if not _NAME.fullmatch(name):
            self._findings.add(path, NAME_RULE)
        kind = raw.get("kind") if isinstance(raw, dict) else None
        if isinstance(raw, dict) and not (isinstance(kind, str) and kind in OPTIONS):
            self._findings.add((*path, "kind"), _kind_words(kind))
            return None
        options = self._table(path, OPTIONS[kind] if kind else NotifierOptions)
        for key, message in options.problems() if options is not None else ():
            self._findings.add((*path, key), message)
        return options


def _kind_words(kind: Any) -> str:
    choice = f"the kinds are {', '.join(OPTIONS)}"
    if kind is None:
        return f"is missing; {choice}"
    near = difflib.get_close_matches(kind, OPTIONS, n=1) if isinstance(kind, str) else []
    return f'unknown kind; did you mean "{near[0]}"? ({choice})' if near else f"unknown kind; {choice}"


def _within(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data
