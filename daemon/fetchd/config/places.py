"""Which sink writes to which file, so that no two spoil each other's."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fetchd.config.rules import Problems
from fetchd.job import Job
from fetchd.sinks.file import FileOptions
from fetchd.sinks.sqlite import SqliteOptions


@dataclass
class Places:
    """The files that the jobs read so far write to; relative ones are in the folder ``out``."""

    out: Path
    _taken: dict[str, tuple[str, str]] = field(default_factory=dict)
    _folders: dict[str, str] = field(default_factory=dict)

    def take(self, job: Job) -> Problems:
        """Note where ``job`` writes; yield each sink whose file another one writes to in its own way.

        Lines of many jobs can stand in one file, and tables in one database. A path with placeholders is not judged.
        """
        for index, options in enumerate(job.sinks):
            if not isinstance(options, FileOptions | SqliteOptions) or "{" in options.path:
                continue
            path = self._resolved(options.path)
            way = options.mode if isinstance(options, FileOptions) else "table"
            if path not in self._taken:
                self._taken[path] = (job.name, way)
                continue
            first, its_way = self._taken[path]
            if way != its_way or way == "replace":
                whose = "another sink of this job" if first == job.name else f"the job {first}"
                yield ("sinks", index, "path"), f"{whose} writes to this file too; each needs a file of its own"

    def _resolved(self, path: str) -> str:
        folder, name = os.path.split(os.path.normpath(self.out / path))
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)
