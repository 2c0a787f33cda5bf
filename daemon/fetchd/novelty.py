"""Whether a result is another one than the last: what is the same goes no further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from fetchd.job import Job
from fetchd.run import Carried, Fetched, Validators
from fetchd.store import Memory, Store

_CONDITIONAL: Final = frozenset({"GET", "HEAD"})
_NOTHING: Final = Validators()


class Novelty:
    """Knows what the next result of each job is to be compared with; ``kept`` tells whether its last one could be."""

    def __init__(self, store: Store, kept: Callable[[str], bool]) -> None:
        self._store = store
        self._kept = kept
        self._marks: dict[str, tuple[Job, str]] = {}

    def last(self, job: Job) -> Memory:
        """Return what the next result is compared with: nothing, where it is to be delivered whatever it is.

        What is carried from Run to Run counts all the same.
        """
        last = self._store.recall(job.name)
        # A sink that has given up the last result, or one that could not be kept, would else never see the same again.
        comparable = (
            last.validators.mark == self._mark(job)
            and job.on_unchanged == "skip"
            and not last.dead
            and self._kept(job.name)
            and job.method in _CONDITIONAL
        )
        return last if comparable else last._replace(validators=_NOTHING, sha256="")

    def marked(self, job: Job, fetched: Fetched) -> Fetched:
        """Return ``fetched`` with the mark of the definition that fetched it: for another one it will say nothing."""
        return replace(fetched, validators=replace(fetched.validators, mark=self._mark(job)))

    def forget(self, jobs: Mapping[str, Job]) -> None:
        """Let go of what is kept for definitions other than ``jobs``, which are those in force."""
        self._marks = {name: known for name, known in self._marks.items() if jobs.get(name) is known[0]}

    def _mark(self, job: Job) -> str:
        known = self._marks.get(job.name)
        if known is None or known[0] is not job:
            known = self._marks[job.name] = (job, job.mark())
        return known[1]


def is_new(job: Job, fetched: Fetched, last: Memory, carried: Carried, *, first: bool) -> bool:
    """Return whether ``fetched``, the ``first`` result of its Run or not, goes to the sinks.

    ``last`` is what it is compared with, ``carried`` what came with the result before it. A HEAD has no content that
    could be the same, and what a POST brings back is told each time. Where the cursor moved, it is two questions that
    have the same answer.
    """
    moved = fetched.carried is not None and fetched.carried.cursor != carried.cursor
    each_page = job.pages is not None and job.pages.deliver == "each"
    alike = fetched.body.sha256 == last.sha256 and first and not (each_page or moved)
    return fetched.delivered and (job.method != "GET" or not alike)
