"""A network with nothing but the hostile upstream in it, for containers to join."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.upstream import ROOT

ADDRESS: Final = "192.0.2.10"
"""An address of the network besides loopback, as an orchestrator would use for its probes."""
START: Final = f'ip link set lo up && ip addr add {ADDRESS}/32 dev lo && exec "$0" -m tests.upstream'


@dataclass(frozen=True, slots=True)
class Network:
    """The network's namespace, and the upstream's ports in it."""

    pid: int
    ports: Mapping[str, int]

    @property
    def path(self) -> str:
        """The namespace, as podman wants it."""
        return f"ns:/proc/{self.pid}/ns/net"

    def url(self, path: str) -> str:
        """Return the URL of ``path`` at the upstream."""
        return f"http://127.0.0.1:{self.ports['http']}/{path}"

    def get(self, address: str, path: str, host: str) -> int:
        """Ask for ``path`` from within the network, in the name of ``host``; return the status, 0 for no answer."""
        asked = (
            "import http.client, sys\n"
            "address, path, host = sys.argv[1:]\n"
            "connection = http.client.HTTPConnection(address, timeout=5)\n"
            "connection.request('GET', path, headers={'Host': host})\n"
            "print(connection.getresponse().status)\n"
        )
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", sys.executable, "-c", asked, address, path, host]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return int(answer.stdout or 0)


@contextmanager
def upstream() -> Iterator[Network]:
    """Start the upstream in a network of its own; it ends with the context, or with this process."""
    command: list[Any] = ["unshare", "--net", "sh", "-c", START, sys.executable]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the upstream did not start; its stderr says why")
        try:
            yield Network(process.pid, json.loads(line)["ports"])
        finally:
            process.stdin.close()
