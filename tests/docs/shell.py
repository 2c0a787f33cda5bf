"""Plays what a page says, as a reader would: files are written, lines are typed, what they print is compared."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tests.docs.book import ROOT, Block

PATIENCE: Final = 15.0
ANYTHING: Final = "…"
_NUMBER: Final = re.compile(r"\b[0-9a-f]{19}\b|\d(?:[\d.,:]*\d)?")
_AT_WORK: Final = re.compile(r", running(?: \([\w:.-]+\))?")
"""What is said of a job beside its state while a Run of it is under way, as one may be at any instant."""
_PORT: Final = re.compile(r"\b(\d{4,5})\b")


class Zygote:
    """The process that becomes ``fetchd``."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}"}
        command = [sys.executable, "-m", "tests.docs.zygote"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True
        )

    def ask(self, arguments: list[str], cwd: Path, env: Mapping[str, str], output: Path, *, background: bool) -> int:
        """Return the exit status of ``fetchd`` with ``arguments``; in the ``background``, its process id."""
        request = {"arguments": arguments, "cwd": str(cwd), "env": dict(env), "output": str(output)}
        json.dump({**request, "background": background}, _open(self._process.stdin))
        _open(self._process.stdin).write("\n")
        _open(self._process.stdin).flush()
        answer: dict[str, int] = json.loads(_open(self._process.stdout).readline())
        return next(iter(answer.values()))

    def close(self) -> None:
        """End it."""
        _open(self._process.stdin).close()
        self._process.wait(PATIENCE)
        _open(self._process.stdout).close()


@dataclass
class Shell:
    """A shell in which one page is played.

    ``stand_ins`` are put in the place of texts of the page, and taken out of what is printed.
    """

    here: Path
    zygote: Zygote
    stand_ins: dict[str, str]
    environment: dict[str, str]
    printed: str = ""
    _background: list[int] = field(default_factory=list)
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def play(self, block: Block) -> None:
        """Do what ``block`` says."""
        text = self._with_stand_ins(block.text)
        if block.mark == "file":
            path = self.here / self._with_stand_ins(block.what)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif block.mark == "run":
            self.printed = ""
            status = [self._line(line) for line in lines(text)][-1]
            wanted = int(block.what.removeprefix("exit ") or 0)
            assert status == wanted, f"{block}: exit status {status}\n{self.printed}"
        elif block.mark == "output":
            problem = differs(block.text, self._as_written(self.printed))
            assert not problem, f"{block}: {problem}\nprinted:\n{self.printed}"

    def close(self) -> None:
        """End what goes on in the background."""
        for pid in self._background:
            os.kill(pid, signal.SIGTERM)
        for other in self._others:
            other.kill()
            other.wait(PATIENCE)
        self._background.clear()
        self._others.clear()

    def _line(self, line: str) -> int:
        background = line.endswith(" &")
        line = line.removesuffix(" &")
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            self.here /= self._with_stand_ins(words[1]).replace("~", self.environment["HOME"])
            return 0
        if line == "kill $(jobs -p)":
            self.close()
            return 0
        if words[0] != "fetchd":
            return self._other(line, background=background)
        output = self.here / ".printed"
        output.write_text("", encoding="utf-8")
        result = self.zygote.ask(words[1:], self.here, self.environment, output, background=background)
        if background:
            self._background.append(result)
            self._until(lambda: "daemon_ready" in output.read_text(encoding="utf-8"), output)
            output.rename(self.here / ".log")
            return 0
        self.printed += output.read_text(encoding="utf-8")
        return result

    def _other(self, line: str, *, background: bool) -> int:
        command = ["bash", "-c", line]
        if not background:
            done = subprocess.run(
                command,
                cwd=self.here,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self.printed += done.stdout + done.stderr
            return done.returncode
        self._others.append(
            subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.here,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        if port := _PORT.search(line):
            self._until(lambda: _listens(int(port[1])), None)
        return 0

    def _until(self, condition: object, output: Path | None) -> None:
        assert callable(condition)
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, output.read_text(encoding="utf-8") if output else "nothing listens"
            time.sleep(0.01)

    def _with_stand_ins(self, text: str) -> str:
        for written, used in self.stand_ins.items():
            text = text.replace(written, used)
        return text

    def _as_written(self, text: str) -> str:
        for written, used in self.stand_ins.items():
            text = text.replace(used, written)
        return text


def lines(text: str) -> Iterator[str]:
    """Yield the commands of a block, those that go on over several lines as one; without comments."""
    kept = ""
    for line in text.splitlines():
        if not kept and (not line.strip() or line.lstrip().startswith("#")):
            continue
        kept += line
        if kept.endswith("\\"):
            kept = kept.removesuffix("\\")
        elif _goes_on(kept):
            kept += "\n"
        else:
            yield kept if "\n" in kept else re.sub(r"\s+# .*$", "", kept).strip()
            kept = ""


def _goes_on(text: str) -> bool:
    """Return whether a document that stands in ``text``, or a quotation, has not come to its end."""
    if document := re.search(r"<<'(\w+)'\n", text + "\n"):
        return not text.endswith(f"\n{document[1]}")
    return text.count("'") % 2 == 1


def differs(written: str, printed: str) -> str:
    """Return in what ``printed`` is other than ``written`` says; empty if in nothing that counts."""
    wanted, found = (_plain(text) for text in (written, printed))
    while wanted:
        line = wanted.pop(0)
        if line == ANYTHING:
            if not wanted:
                return ""
            while found and not _alike(wanted[0], found[0]):
                found.pop(0)
            continue
        if not found or not _alike(line, found[0]):
            return f"not there: {line!r}"
        found.pop(0)
    return f"more than expected: {found[0]!r}" if found else ""


def _plain(text: str) -> list[str]:
    lines = (" ".join(_NUMBER.sub("0", _AT_WORK.sub("", line)).split()) for line in text.splitlines())
    return [line for line in lines if line]


def _alike(wanted: str, found: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in wanted.split(ANYTHING))
    return re.fullmatch(pattern, found) is not None


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def shell(folder: Path, zygote: Zygote, stand_ins: dict[str, str], more: Mapping[str, str]) -> Iterator[Shell]:
    """Give a shell whose home is the folder."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("LANG", "VIRTUAL_ENV") if name in os.environ}
    environment = {**kept, "PATH": path, "COLUMNS": "200", **more, "HOME": str(folder)}
    opened = Shell(folder, zygote, stand_ins, environment)
    try:
        yield opened
    finally:
        opened.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
