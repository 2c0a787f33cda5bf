"""From a command line, as a shell reads it, to the requests that it sends and to what is left over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fetchd.imports.addresses import host_of, path_of
from fetchd.imports.curl import wanted_by_curl
from fetchd.imports.data import within
from fetchd.imports.marks import OPEN, known, variables
from fetchd.imports.shell import Command, Pipeline, Redirection, ShellError, Word, pipelines
from fetchd.imports.sinks import append_sink, file_sink, shell_sink
from fetchd.imports.wanted import Leftover, Surroundings, Wanted
from fetchd.imports.wget import wanted_by_wget
from fetchd.imports.wrappers import Started, started

NO_FETCH: Final = "no fetch with curl or wget"
_DEEPEST: Final = 4
"""Command lines within command lines."""
_PROGRAMS: Final = {"curl": wanted_by_curl, "curl.exe": wanted_by_curl, "wget": wanted_by_wget}
_SILENT: Final = frozenset({"set", "umask", "true", ":", "ulimit", "trap", "exit", "shopt"})
_IS_THERE: Final = re.compile(
    r"(?:\[|test) -[xef] \S*/(?:curl|wget)(?: \])?|(?:command -v|which|type|hash) (?:curl|wget)"
)
_PINGED: Final = frozenset({"hc-ping.com"})
_ASSIGNED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_OUTPUT: Final = frozenset({"", "1", "&"})

Found = Wanted | Leftover


def read(line: str, surroundings: Surroundings, depth: int = 0) -> list[Found]:
    """Return what the command ``line`` fetches, and what of it is left over, in its order."""
    try:
        found = pipelines(line)
    except ShellError as error:
        return [Leftover(line, f"it holds {error}")]
    reader = _Reader(surroundings, depth)
    for pipeline in found:
        reader.take(pipeline)
    if any(isinstance(one, Leftover) for one in reader.found):
        for one in reader.found:
            if isinstance(one, Wanted) and host_of(one.url) in _PINGED:
                one.block("it tells a monitor that what stands beside it has run, and that is not imported")
    return reader.found


def read_arguments(arguments: Sequence[str], surroundings: Surroundings) -> list[Found]:
    """Return what curl fetches with ``arguments``, which a shell has read already."""
    words = list(arguments)
    program = _PROGRAMS.get(words[0].rpartition("/")[2]) if words else None
    return list(program(words[1:], surroundings) if program else wanted_by_curl(words, surroundings))


@dataclass(slots=True)
class _Reader:
    """Reads one pipeline after the other, as a shell does, and remembers what it has been told."""

    surroundings: Surroundings
    depth: int
    found: list[Found] = field(default_factory=list)
    condition: str = ""
    """Why the next command may not run at all."""
    last: list[Found] = field(default_factory=list)

    def take(self, pipeline: Pipeline) -> None:
        """Take in the next pipeline."""
        made = self._fetches(pipeline)
        if made is None:
            self._other(pipeline)
            return
        if self._is_ping(pipeline, made):
            return
        for one in made:
            if isinstance(one, Wanted):
                self._conditional(pipeline, one)
        self.condition = ""
        self.found += made
        self.last = made

    def _conditional(self, pipeline: Pipeline, wanted: Wanted) -> None:
        if pipeline.before in {"&&", "||"} and self.last:
            when = (
                "if the command before it succeeded" if pipeline.before == "&&" else "if the command before it failed"
            )
            wanted.block(f"it ran only {when}")
        if self.condition:
            wanted.block(f"it ran only after: {self.condition}")

    def _is_ping(self, pipeline: Pipeline, made: list[Found]) -> bool:
        """Have the job before tell a monitor how its runs end, if that is what ``made`` does."""
        before = self.last[0] if len(self.last) == 1 else None
        one = made[0] if len(made) == 1 else None
        if pipeline.before != "&&" or not isinstance(before, Wanted) or not isinstance(one, Wanted):
            return False
        plain = not (one.blocks or one.body or variables(one.url)) and one.method == "GET"
        if not plain or host_of(one.url) not in _PINGED or path_of(one.url).endswith(("/fail", "/start")):
            return False
        before.keys["ping"] = one.url
        return True

    def _fetches(self, pipeline: Pipeline) -> list[Found] | None:
        """Return what ``pipeline`` fetches; None if nothing."""
        command = pipeline.commands[0]
        surroundings, rest = self.surroundings, pipeline.rest
        if len(pipeline.commands) > 1 and (said := _echoed(command)) is not None:
            surroundings = replace(surroundings, stdin=said)
            if len(pipeline.commands) > 2:
                return None
            command, rest = pipeline.commands[1], ""
        words, doubts = self._words(command)
        begun = started(words)
        surroundings = surroundings.knowing(begun.known)
        made = self._made(begun, surroundings)
        if made is None:
            return None
        for one in made:
            if isinstance(one, Wanted):
                for doubt in doubts:
                    one.block(f"only a shell can tell what {doubt} is")
                _dress(one, begun, command.redirections, rest, surroundings)
        return made

    def _made(self, begun: Started, surroundings: Surroundings) -> list[Found] | None:
        if begun.line is not None:
            if self.depth >= _DEEPEST:
                return None
            inner = read(begun.line, surroundings, self.depth + 1)
            return inner if any(isinstance(one, Wanted) for one in inner) else None
        program = _PROGRAMS.get(begun.words[0].rpartition("/")[2]) if begun.words else None
        return list(program(begun.words[1:], surroundings)) if program else None

    def _words(self, command: Command) -> tuple[list[str], list[str]]:
        """Return the words with what is known of their variables, and what is not known of them."""
        values, doubts = self.surroundings.known, [doubt for word in command.words for doubt in word.doubts]
        for word in command.words:
            doubts += [f"${name}" for name in word.splits if re.search(r"\s", values.get(name, ""))]
        return [known(word.text, values) for word in command.words], doubts

    def _other(self, pipeline: Pipeline) -> None:
        """Take in what is no fetch: where the next commands run, and whether they do."""
        words, doubts = self._words(pipeline.commands[0])
        name = words[0] if words else ""
        if pipeline.before == "&" and _ASSIGNED.fullmatch(name) and self.last and isinstance(self.last[-1], Wanted):
            self.last[-1].note(
                f"the shell ends the command at &: {name.partition('=')[0]} is no part of its URL without quotes"
            )
        if len(pipeline.commands) == 1 and not doubts and self._set(words):
            return
        if name in _SILENT or _IS_THERE.fullmatch(" ".join(words)):
            return
        if pipeline.before in {"&&", "||"} and self.last and isinstance(self.last[-1], Wanted):
            self.last[-1].note(f"not imported: what ran after it, {pipeline.before} {pipeline.source}")
            return
        if name in {"[", "[[", "test", "sleep", "cd", "pushd", "popd", ".", "source"}:
            self.condition = pipeline.source
            return
        self.last = [Leftover(pipeline.source, NO_FETCH)]
        self.found += self.last

    def _set(self, words: list[str]) -> bool:
        """Obey ``cd`` and assignments; return whether the words are such."""
        if words[:1] == ["cd"] and len(words) == 2 and OPEN not in words[1] and words[1] != "-":
            folder = words[1] if words[1].startswith("/") else None
            if folder is None and self.surroundings.folder is not None:
                folder = within(self.surroundings.folder, words[1])
            self.surroundings = replace(self.surroundings, folder=folder, out=folder)
            return folder is not None
        assigned = [_ASSIGNED.fullmatch(word) for word in (words[1:] if words[:1] == ["export"] else words)]
        pairs = {match[1]: match[2] for match in assigned if match}
        if len(pairs) < len(assigned) or not assigned:
            return False
        self.surroundings = self.surroundings.knowing(pairs)
        return True


def _dress(
    wanted: Wanted, begun: Started, redirections: list[Redirection], rest: str, surroundings: Surroundings
) -> None:
    """Add to ``wanted`` what stands around its command: limits, files, a pipe."""
    for note in begun.notes:
        wanted.note(note)
    if begun.deadline is not None:
        wanted.deadline = min(begun.deadline, wanted.deadline or begun.deadline)
        wanted.silence = wanted.silence or wanted.deadline
        wanted.connect = wanted.connect or wanted.deadline
    for redirection in redirections:
        _redirect(redirection, surroundings, wanted)
    if not rest:
        return
    if wanted.shows:
        shell_sink(rest, surroundings, wanted)
    else:
        wanted.note("not imported: a pipe that gets nothing, for the result goes to a file")


def _redirect(redirection: Redirection, surroundings: Surroundings, wanted: Wanted) -> None:
    target = known(redirection.target.text, surroundings.known)
    operator, output = redirection.operator, redirection.descriptor in _OUTPUT
    if redirection.target.doubts:
        wanted.block("only a shell can tell which file the output goes to")
    elif operator.startswith("<"):
        if target != "/dev/null":
            wanted.note("not imported: what the standard input is")
    elif operator == ">&" and (target.isdigit() or target == "-"):
        wanted.shows = wanted.shows and not (output and target in {"2", "-"})
    elif not output:
        if target != "/dev/null":
            wanted.note("errors are in the log, not in a file")
    elif not wanted.shows:
        return
    elif operator in {">>", "&>>"}:
        append_sink(target, surroundings, wanted)
    else:
        file_sink(target, surroundings, wanted)


def _echoed(command: Command) -> str | None:
    """Return what ``echo`` or ``printf`` writes, where that is plain; None if it is another command."""
    words: list[Word] = command.words
    texts = [word.text for word in words]
    plain = not any(word.doubts for word in words) and not command.redirections
    if not plain or any("\\" in text or OPEN in text for text in texts):
        return None
    if texts[:2] == ["echo", "-n"]:
        return " ".join(texts[2:])
    if texts[:1] == ["echo"] and texts[1:2] != ["-e"]:
        return " ".join(texts[1:]) + "\n"
    if texts[:1] == ["printf"] and len(texts) == 2 and "%" not in texts[1]:
        return texts[1]
    if len(texts) == 3 and texts[:2] in (["printf", "%s"],):
        return texts[2]
    return None
