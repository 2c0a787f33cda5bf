"""The control socket, with real clients: those that ask, and those that mean ill, or are just slow."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fetchd.control.client import ask
from fetchd.control.server import Bounds, Reply, listening
from fetchd.control.wire import LONGEST_REQUEST
from fetchd.errors import StateError, UnavailableError
from fetchd.secret import Redactor
from fetchd.whereabouts import SOCKET, address_in
from tests.processes import until

CANARY = "canary-4b77aa"
BOUNDS = Bounds()


class Verbs:
    """What the tests ask for."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.entered = 0
        self.ended = 0

    async def show(self, request: Mapping[str, Any], reply: Reply) -> int:
        """Show what came, as text, as an error and as values."""
        await reply.out(request["text"])
        await reply.err(request["text"])
        await reply.data({"text": request["text"]})
        return 3

    async def wait(self, _request: Mapping[str, Any], _reply: Reply) -> int:
        """Answer when the test says so."""
        self.entered += 1
        try:
            await self.go.wait()
        finally:
            self.ended += 1
        return 0

    async def flood(self, _request: Mapping[str, Any], reply: Reply) -> int:
        """Say more than a socket holds."""
        self.entered += 1
        try:
            while True:
                await reply.out("x" * 10_000)
        finally:
            self.ended += 1

    async def broken(self, _request: Mapping[str, Any], _reply: Reply) -> int:
        """Have a defect."""
        raise RuntimeError("boom")


@asynccontextmanager
async def served(folder: Path, bounds: Bounds = BOUNDS) -> AsyncIterator[Verbs]:
    """Serve `Verbs` in ``folder``."""
    verbs = Verbs()
    table = {"show": verbs.show, "wait": verbs.wait, "flood": verbs.flood, "broken": verbs.broken}
    async with listening(folder, table, Redactor([CANARY]), bounds):
        yield verbs


async def asked(folder: Path, **request: Any) -> list[dict[str, Any]]:
    """Ask as the command line does."""
    return await asyncio.to_thread(lambda: list(ask(folder, request)))


async def raw(folder: Path, content: bytes) -> bytes:
    """Send ``content`` as it is, and return all that comes back."""
    reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET))
    writer.write(content)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_request_and_its_answer(tmp_path: Path) -> None:
    """Texts lose their secrets and what a terminal would obey; values their secrets; the last word is the status."""
    async with served(tmp_path):
        found = await asked(tmp_path, verb="show", text=f"{CANARY} \x1b[2J é")
    shown = r"[redacted] \x1b[2J é"
    assert found == [{"out": shown}, {"err": shown}, {"data": {"text": "[redacted] \x1b[2J é"}}, {"exit": 3}]


async def test_only_the_daemons_user_may_connect(tmp_path: Path) -> None:
    """Whatever the umask is; what a killed process left is replaced, and nothing is left at the end."""
    path = tmp_path / SOCKET
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    before = os.umask(0)
    try:
        async with served(tmp_path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert (await asked(tmp_path, verb="show", text=""))[-1] == {"exit": 3}
    finally:
        os.umask(before)
    assert not path.exists()


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    """A state directory may lie deeper than the 107 bytes that the kernel takes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with served(deep):
        assert (await asked(deep, verb="show", text=""))[-1] == {"exit": 3}
        with address_in(deep) as address:
            assert len(address) < 107
    assert os.listdir(deep) == []


async def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    """A folder is not ours to remove: the daemon says what is in its way."""
    (tmp_path / SOCKET).mkdir()
    with pytest.raises(StateError, match=SOCKET):
        async with served(tmp_path):
            """It is not reached."""


async def test_a_socket_that_cannot_be_removed_does_not_spoil_the_end(tmp_path: Path) -> None:
    """The disk became read-only: the daemon has said so, and stops in order all the same."""
    path = tmp_path / SOCKET
    async with served(tmp_path):
        path.unlink()
        path.mkdir()  # which cannot be unlinked either, whoever runs the test
    assert path.is_dir()


async def test_where_no_daemon_listens(tmp_path: Path) -> None:
    """Each way in which there is none is said in the same words."""
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "file" / "below"):
        (tmp_path / "file").touch()
        with pytest.raises(UnavailableError, match="no fetchd runs"):
            await asked(folder, verb="show", text="")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET))
    with pytest.raises(UnavailableError, match="no fetchd runs"):
        await asked(tmp_path, verb="show", text="")


async def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    """A loop that stands still still accepts connections: the kernel does. A health check must end all the same."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / SOCKET))
        silent.listen()
        with pytest.raises(UnavailableError, match="does not answer"):
            await asyncio.to_thread(lambda: list(ask(tmp_path, {"verb": "show"}, patience=0.1)))


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"verb":"unknown"}\n',
        b'{"verb":["show"]}\n',
        b"[1]\n",
        b"\xff\xfe\x00\n",
        b"[" * 20_000 + b"\n",
        b"x" * (LONGEST_REQUEST + 1) + b"\n",
    ],
)
async def test_what_is_no_request_is_answered_as_such(tmp_path: Path, content: bytes) -> None:
    """Garbage costs nobody anything; the next one is served."""
    async with served(tmp_path):
        with capture_logs() as lines:
            answer = await raw(tmp_path, content)
        told = [json.loads(line) for line in answer.splitlines()]
        assert told in ([], [{"err": "that is no request of this version's fetchd"}, {"exit": 1}])
        assert lines == []
        assert (await asked(tmp_path, verb="show", text=""))[-1] == {"exit": 3}


async def test_who_says_nothing_is_let_go(tmp_path: Path) -> None:
    """Connections that never ask do not pile up; nor do those that hang up half way."""
    async with served(tmp_path, Bounds(asked_within=0.05)):
        assert await raw(tmp_path, b"") == b""
        assert await raw(tmp_path, b'{"verb":') == b""
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        writer.write(b'{"ve')
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """Its answer is not kept in memory for ever, and whoever wrote it goes on to other things."""
    async with served(tmp_path, Bounds(taken_within=0.1)) as verbs:
        _, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET), limit=1)
        writer.write(b'{"verb":"flood"}\n')
        await until(lambda: verbs.ended)
        writer.close()
        assert (await asked(tmp_path, verb="show", text=""))[-1] == {"exit": 3}


async def test_who_hangs_up_is_not_waited_for(tmp_path: Path) -> None:
    """What it asked for was for it alone; a client that is there is told now and then that it is not forgotten."""
    async with served(tmp_path, Bounds(beat_every=0.02)) as verbs:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        writer.write(b'{"verb":"wait"}\n')
        assert json.loads(await reader.readline()) == {"beat": True}
        writer.close()
        await until(lambda: verbs.ended)


async def test_there_are_only_so_many_at_one_time(tmp_path: Path) -> None:
    """One more is told to come again, with the status for that."""
    async with served(tmp_path) as verbs:
        waiting = [asyncio.create_task(raw(tmp_path, b'{"verb":"wait"}\n')) for _ in range(BOUNDS.clients)]
        await until(lambda: verbs.entered == BOUNDS.clients)
        *_, last = (await raw(tmp_path, b'{"verb":"show","text":""}\n')).splitlines()
        assert json.loads(last) == {"exit": 75}
        verbs.go.set()
        assert {json.loads(answer)["exit"] for answer in await asyncio.gather(*waiting)} == {0}
        assert (await asked(tmp_path, verb="show", text=""))[-1] == {"exit": 3}


async def test_the_end_of_the_daemon_is_an_answer(tmp_path: Path) -> None:
    """Whoever waits is told, and the stop does not wait for whoever waits."""
    async with served(tmp_path) as verbs:
        waiting = asyncio.create_task(asked(tmp_path, verb="wait"))
        await until(lambda: verbs.entered)
    assert await waiting == [{"err": "the daemon has stopped"}, {"exit": 69}]


async def test_a_defect_is_said_and_costs_one_answer(tmp_path: Path) -> None:
    """The client sees that it was not answered; the log has the rest."""
    async with served(tmp_path):
        with capture_logs() as lines, pytest.raises(UnavailableError, match="before it had answered"):
            await asked(tmp_path, verb="broken")
        assert [line["event"] for line in lines] == ["internal_error"]
        assert (await asked(tmp_path, verb="show", text=""))[-1] == {"exit": 3}
