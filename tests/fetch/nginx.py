"""A real nginx on loopback, for as long as a test needs it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.fetch.room import HOST
from tests.processes import until

NEEDED: Final = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("nginx", "openssl")),
    reason="needs the Debian packages nginx-light and openssl",
)

_WHOLE: Final = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  log_format seen '$host $request_uri $status';
  access_log {folder}/seen.log seen;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {http}
  server {{
    listen {host}:{port};
    root {folder}/www;
    {server}
  }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, server: str, http: str = "") -> AsyncIterator[str]:
    """Serve the files of ``folder``/www as the directives ``server`` and ``http`` say; give the address."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    path = folder / "nginx.conf"
    path.write_text(_WHOLE.format(folder=folder, host=HOST, port=port, server=server, http=http))
    command = ("nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(path))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        # Its own process id is the last thing that it writes before it serves.
        await until(lambda: process.returncode is not None or (folder / "pid").exists())
        assert process.returncode is None, (folder / "error.log").read_text()
        yield f"http://{HOST}:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
