"""From a table [jobs.NAME] to a Job: what is written, what it inherits, what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, ValidationError, create_model

from fetchd.config import rules
from fetchd.config.extraction import extracting, packages
from fetchd.config.findings import NAME_RULE, Findings, allowed_keys
from fetchd.config.inherit import inherited, shrunk
from fetchd.config.lines import KeyPath
from fetchd.config.places import Places
from fetchd.config.travel import Travel
from fetchd.config.walks import walking
from fetchd.errors import UserCodeError
from fetchd.fetch.auth import KINDS
from fetchd.job import JOB_NAME, Auth, Job, Listed, Policy, SinkOptions, Timeouts
from fetchd.sinks.kinds import OPTIONS
from fetchd.worker import load_function

_NAME: Final = re.compile(JOB_NAME)
_NO_MODULE: Final = re.compile(r"cannot import ([\w.]+)\b[\w.]*: ModuleNotFoundError: No module named '\1'")
_TIMES: Final = frozenset({"interval", "cron", "timezone", "deadline", "timeout"})


def job_table(sinks: Mapping[str, type[SinkOptions]], auths: Mapping[str, type[Auth]]) -> type[Job]:
    """Return Job with its auth and its sinks narrowed to the kinds that there are."""
    any_sink: Any = _one_of(sinks.values())
    any_auth: Any = _one_of(auths.values())
    fields: dict[str, Any] = {
        "auth": (any_auth | None, Field(None, description=Job.model_fields["auth"].description)),
        "sinks": (
            Annotated[tuple[any_sink, ...], Listed],
            Field((), description=Job.model_fields["sinks"].description),
        ),
    }
    return create_model("Job", __base__=Job, __doc__=Job.__doc__, **fields)


def _one_of(models: Iterable[Any]) -> Any:
    return Annotated[reduce(or_, models), Field(discriminator="kind")]


JOB_TABLE: Final = job_table(OPTIONS, KINDS)
"""Every kind of auth and of sink that a file may name."""
_KEYS: Final = tuple(key for key in allowed_keys(JOB_TABLE) if key != "name")


@dataclass
class JobReader:
    """Reads the jobs of one document, one by one: what is wrong with one says nothing of the others."""

    findings: Findings
    defaults: Policy
    context: Mapping[str, Any]
    functions: bool
    places: Places
    _travel: Travel | None = None
    _same: dict[Timeouts, Timeouts] = field(default_factory=dict)
    _missing: dict[str, str | None] = field(default_factory=dict)

    def read(self, name: str, raw: Any) -> Job | None:
        """Return the job ``name`` that the table ``raw`` defines, as far as it can be read."""
        path = ("jobs", name)
        named = bool(_NAME.fullmatch(name))
        if not named:
            self.findings.add(path, NAME_RULE)
        if not isinstance(raw, dict):
            self.findings.add(path, "must be a table")
            return None
        if "name" in raw:
            self.findings.unknown((*path, "name"), _KEYS)
            raw = {key: value for key, value in raw.items() if key != "name"}
        self._note(path, rules.together(raw))
        own = self._own(path, raw | {"name": name if named else "unnamed"})
        self._note(path, own.placed(rules.sending(own.job)))
        self._note(path, own.placed(walking(own.job, own.bad)))
        self._note(path, own.placed(extracting(own.job, own.bad)))
        self._note(path, own.placed(self.places.take(own.job)))
        if self.functions:
            self._note(path, own.placed(self._functions(own.job)))
            self._note(path, packages(own.job))
        return self._complete(path, own)

    def _own(self, path: KeyPath, raw: dict[str, Any]) -> _Own:
        try:
            return _Own(JOB_TABLE.model_validate(raw, context=self.context))
        except ValidationError as error:
            places = self.findings.refused(path, raw, JOB_TABLE, error)
        sound, sinks = _sound(raw, places)
        bad = frozenset(str(place[0]) for place in places)
        return _Own(JOB_TABLE.model_validate(sound, context=self.context), bad, sinks)

    def _complete(self, path: KeyPath, own: _Own) -> Job:
        job = own.job.model_copy(update=inherited(own.job, self.defaults))
        self._travel = self._travel or Travel(self.context["secrets"].environment)
        self._note(path, self._travel.judge(job))
        if self._note(path, rules.when(own.job)) or own.bad & _TIMES:
            return job
        if job.cron is not None:
            job = job.model_copy(update={"interval": rules.smallest_gap(job.cron, job.timezone)})
        changed = shrunk(own.job, job)
        if "timeout" in changed:
            changed["timeout"] = self._same.setdefault(changed["timeout"], changed["timeout"])
        job = job.model_copy(update=changed) if changed else job
        self._note(path, rules.fitting(own.job, job))
        return _settled(job)

    def _functions(self, job: Job) -> rules.Problems:
        """Say which of the user's functions cannot be called."""
        if job.collect is not None and (message := self._unloadable(job.collect)):
            yield ("collect",), _with_remedy(message)
        for index, options in enumerate(job.sinks):
            for key, message in options.problems():
                yield ("sinks", index, key), _with_remedy(message)

    def _unloadable(self, function: str) -> str | None:
        if function not in self._missing:
            try:
                load_function(function)
            except UserCodeError as error:
                self._missing[function] = str(error)
            else:
                self._missing[function] = None
        return self._missing[function]

    def _note(self, path: KeyPath, problems: rules.Problems) -> bool:
        found = list(problems)
        for place, message in found:
            self.findings.add((*path, *place), message)
        return bool(found)


def _with_remedy(message: str) -> str:
    """Return ``message`` with what to do if it says that a function's own module is not to be found."""
    missing = _NO_MODULE.match(message)
    return f"{message}; is its folder in daemon.python_path?" if missing else message


@dataclass(frozen=True)
class _Own:
    """A job as it is written, without its ``bad`` keys; ``sinks`` are the places that its sinks have in the file."""

    job: Job
    bad: frozenset[str] = frozenset()
    sinks: Sequence[int] | None = None

    def placed(self, problems: rules.Problems) -> rules.Problems:
        """Yield ``problems`` at the places that the file has for them."""
        for place, message in problems:
            if self.sinks is not None and place[0] == "sinks":
                place = ("sinks", self.sinks[int(place[1])], *place[2:])
            yield place, message


def _settled(job: Job) -> Job:
    """Return ``job`` itself, all of its fields being set.

    Which of them were, nobody asks any more; a set of names for each of ten thousand jobs and their sinks is memory.
    """
    for model in (job, job.auth, *job.sinks):
        if model is not None:
            object.__setattr__(model, "__pydantic_fields_set__", _fields(type(model)))
    return job


@lru_cache
def _fields(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def _sound(raw: dict[str, Any], places: Iterable[KeyPath]) -> tuple[dict[str, Any], list[int] | None]:
    """Return ``raw`` without the keys, and the sinks, that ``places`` lie in; and where the sinks left over stood."""
    bad = {place[0] for place in places if place[0] != "sinks" or len(place) == 1}
    sound = {key: value for key, value in raw.items() if key not in bad}
    if "sinks" not in sound:
        return sound, None
    bad_sinks = {place[1] for place in places if place[0] == "sinks"}
    kept = [index for index in range(len(raw["sinks"])) if index not in bad_sinks]
    sound["sinks"] = [raw["sinks"][index] for index in kept]
    return sound, kept
