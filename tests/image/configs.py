"""What the containers are configured with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.image.network import Network

USER: Final = 10001

HOSTILE: Final = (
    "hang",
    "drip",
    "flood",
    "hangbody",
    "driphdr",
    "1xx/0",
    "hdrbomb/2",
    "floodhdr",
    "redir",
    "bomb/gzip/100",
    "big/50",
    "short",
    "twocl",
    "hugecl",
    "rst",
    "close",
    "badgzip",
    "status/500",
)
"""Ways of the upstream that no run comes through, each a job of that name."""
FAILING: Final = {"later", "nowhere", "silent", "unreachable"} | {way.replace("/", "-") for way in HOSTILE}

DEAF: Final = '''
import asyncio
import pathlib


async def deaf(context):
    """Ignore every cancellation until somebody says that it is enough."""
    while not pathlib.Path("/etc/fetchd/enough").exists():
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            pass


def keep(result):
    """Keep a result in a worker process."""
    pathlib.Path("/var/lib/fetchd/out/worked").write_bytes(result.body)
'''

DAEMON: Final = """
[daemon]
listen = "0.0.0.0:9475"
memory_budget = "8MiB"
max_workers = 1
spool_above = "256KiB"
shutdown_grace = "6s"
python_path = ["functions"]

[dns]
nameservers = ["127.0.0.1:{dns_silent}"]

[defaults]
interval = "3s"
deadline = "2500ms"
timeout = "1s"
max_body = "2MiB"
retries = 1

[jobs.tagged]
url = "{etag}"
sinks = [{{ kind = "file", path = "tagged.json" }}]

[jobs.orphans]
url = "{ok}"
interval = "500ms"
deadline = "450ms"
on_unchanged = "deliver"
sinks = [{{ kind = "command", argv = ["sh", "-c", "{orphans}"] }}]

[jobs.large]
url = "{large}"
on_unchanged = "deliver"
sinks = [{{ kind = "command", argv = ["sh", "-c", "cat > /dev/null"] }}]

[jobs.worked]
url = "{ok}"
interval = "5s"
deadline = "4900ms"
on_unchanged = "deliver"
sinks = [{{ kind = "function", call = "deaf:keep" }}]

[jobs.deaf]
collect = "deaf:deaf"
cron = "0 0 1 1 *"
deadline = "500ms"

[jobs.slow]
url = "{slow}"
cron = "0 0 1 1 *"
deadline = "20s"
timeout = "20s"
sinks = [{{ kind = "file", path = "slow.json" }}]

[jobs.endless]
url = "{hang}"
cron = "0 0 1 1 *"
deadline = "5m"
timeout = "5m"

# A host that names a time is left alone until then: it goes by another name than all the others.
[jobs.later]
url = "http://localhost:{http}/retryafter/1"

[jobs.nowhere]
url = "http://name.that.is.nowhere.test/"

[jobs.silent]
url = "http://127.0.0.1:{silent}/"

[jobs.unreachable]
url = "http://127.0.0.1:{syn_hang}/"
"""
ORPHANS: Final = "cat > /dev/null; (setsid sleep 0.3 > /dev/null 2>&1 &); (sleep 0.2 > /dev/null 2>&1 &)"
"""A command that leaves two processes behind, whose parent is gone: one in its group, one in a session of its own."""

SECRETS: Final = """
[jobs.secret]
url = "{echo}"
headers = {{ X-From-Env = {{ env = "WORDS" }}, X-From-File = {{ file = "/run/secrets/fetchd/words" }} }}
sinks = [{{ kind = "file", path = "seen.json" }}]
"""
WATCHED: Final = """
[daemon]
reload_on_change = true

[jobs.{job}]
url = "{url}"
interval = "1h"
"""
FINDINGS: Final = """
[jobs.wrong]
url = "http://127.0.0.1/"
intervall = "5m"
"""


def hostile(network: Network) -> str:
    """Return the configuration of a daemon that has everything against it."""
    ways = "".join(f'\n[jobs."{way.replace("/", "-")}"]\nurl = "{network.url(way)}"\n' for way in HOSTILE)
    urls = {name: network.url(path) for name, path in _PATHS.items()}
    return DAEMON.format(**network.ports, **urls, orphans=ORPHANS) + ways


def secret(network: Network) -> str:
    """Return the configuration of a job that sends one secret of each kind."""
    return SECRETS.format(echo=network.url("echo"))


def watched(network: Network, job: str) -> str:
    """Return the configuration of a daemon with one job that looks at the file by itself."""
    return WATCHED.format(job=job, url=network.url("ok"))


def mount(folder: Path) -> str:
    """Return the option that mounts ``folder`` as that of the configuration."""
    folder.chmod(0o755)
    return f"--volume={folder}:/etc/fetchd:ro"


def swapped(folder: Path, name: str, text: str) -> None:
    """Set the configuration in ``folder`` as a kubelet does: by a link that leads from one folder to another."""
    (folder / name).mkdir(mode=0o755)
    (folder / name / "config.toml").write_text(text)
    (folder / "..next").symlink_to(name)
    (folder / "..next").replace(folder / "..data")
    if not (folder / "config.toml").is_symlink():
        (folder / "config.toml").symlink_to("..data/config.toml")


def written(folder: Path, text: str) -> str:
    """Write a configuration into ``folder`` and return the option that mounts it."""
    functions = folder / "functions"
    functions.mkdir(parents=True)
    (functions / "deaf.py").write_text(DEAF)
    (folder / "config.toml").write_text(text)
    return mount(folder)


_PATHS: Final = {
    "ok": "ok",
    "etag": "etag",
    "hang": "hang",
    "slow": "slow/3",
    "large": "big/1",
}
