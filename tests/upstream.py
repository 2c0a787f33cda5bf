"""A real server that misbehaves in every known way, as a process of its own: it must not share the loop it stalls.

``python -m tests.upstream`` prints one line of JSON with all ports and the CA's file; it ends when stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import trustme

from fetchd.demo.upstream import told_to_stop
from tests.upstream_dns import NameServer
from tests.upstream_modes import HostileUpstream

HOST: Final = "127.0.0.1"
CERTIFIED: Final = ("localhost", HOST, "good.test")
ROOT: Final = Path(__file__).parents[1]
START, STOP = 20.0, 5.0


class UpstreamProcess:
    """The server for a test: started by entering the context, gone when that is left, or when this process dies.

    Ports: ``http``, ``tls`` (its CA is in ``ca_file``), ``tls_unknown`` (a CA that nobody knows), ``silent`` (accepts
    and says nothing), ``syn_hang`` (connecting hangs), ``dns`` and ``dns_silent`` (UDP; the latter never answers).
    """

    def __init__(self) -> None:
        self.ports: Mapping[str, int] = {}
        self.ca_file = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id, for tests that look at it from outside."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it listens. Raises RuntimeError where it does not."""
        command = [sys.executable, "-m", "tests.upstream"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the upstream did not start; its stderr says why")
        announced = json.loads(line)
        self.ports = announced["ports"]
        self.ca_file = Path(announced["ca_file"])

    def stop(self) -> None:
        """End the process and wait for it; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()

    def url(self, path: str = "ok", *, host: str = HOST, port: str = "http") -> str:
        """Return the URL of ``path``, such as ``bomb/gzip/100``, at one of the ports."""
        return f"http://{host}:{self.ports[port]}/{path}"

    def tls_url(self, path: str = "ok", *, host: str = "localhost", port: str = "tls") -> str:
        """Return the https URL of ``path``; the certificate is for localhost, 127.0.0.1 and good.test."""
        return f"https://{host}:{self.ports[port]}/{path}"

    def stats(self) -> dict[str, Any]:
        """Return what has been counted: requests, active and peak by mode, open and accepted connections, names."""
        connection = http.client.HTTPConnection(HOST, self.ports["http"], timeout=STOP)
        with contextlib.closing(connection):
            connection.request("GET", "/stats")
            counted: dict[str, Any] = json.load(connection.getresponse())
            return counted


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port at which connecting hangs: nobody accepts, and connections of ours fill its queue."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(16):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.1)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise RuntimeError("the queue does not fill up")
        yield listener.getsockname()[1]


def _certificates(ca_file: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    known, unknown = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(str(ca_file))
    contexts = []
    for ca in (known, unknown):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert(*CERTIFIED).configure_cert(context)
        contexts.append(context)
    return contexts[0], contexts[1]


@contextlib.asynccontextmanager
async def _listening(upstream: HostileUpstream, ca_file: Path) -> AsyncIterator[dict[str, int]]:
    loop = asyncio.get_running_loop()
    known, unknown = _certificates(ca_file)
    servers = {
        "http": await upstream.serve(),
        "tls": await upstream.serve(tls=known),
        "tls_unknown": await upstream.serve(tls=unknown),
        "silent": await asyncio.start_server(upstream.keep_silent, HOST, 0, backlog=1024),
    }
    names = {
        "dns": await loop.create_datagram_endpoint(lambda: NameServer(upstream.names), (HOST, 0)),
        "dns_silent": await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (HOST, 0)),
    }
    ports = {key: server.sockets[0].getsockname()[1] for key, server in servers.items()}
    ports |= {key: transport.get_extra_info("sockname")[1] for key, (transport, _) in names.items()}
    try:
        yield ports
    finally:
        for server in servers.values():
            server.close()
        for transport, _ in names.values():
            transport.close()


async def _main() -> None:
    stop = told_to_stop()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="upstream-") as folder, full_backlog() as syn_hang:
        ca_file = Path(folder, "ca.pem")
        async with _listening(HostileUpstream(), ca_file) as ports:
            announced = {"ports": {**ports, "syn_hang": syn_hang}, "ca_file": str(ca_file)}
            os.write(1, json.dumps(announced).encode() + b"\n")
            await stop.wait()


if __name__ == "__main__":
    asyncio.run(_main())
