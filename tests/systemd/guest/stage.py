"""Everything that checks need, made once."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from tests.systemd.guest.unit import Unit, run
from tests.systemd.guest.upstream import Upstream

CONFIGS: Final = Path("/etc/fetchd")
STATES: Final = Path("/var/lib")
SET_ADDRESS: Final = 0x8916
HERE: Final = Path(__file__).parent


class Stage:
    """The upstream and the unit; whatever everybody may use, for the probe to be refused."""

    def __init__(self) -> None:
        CONFIGS.mkdir(exist_ok=True)
        shutil.copytree(HERE / "code", CONFIGS / "code", dirs_exist_ok=True)
        shutil.copy(HERE / "probe.py", "/opt/check/probe.py")
        self.upstream = Upstream()
        self.unit = Unit("fetchd.service", CONFIGS / "config.toml", STATES / "fetchd")
        for name in ("bare", "shop"):
            run("useradd", "--system", "--no-create-home", name)
        _open_everything()

    def instance(self, name: str) -> Unit:
        """Return a unit of the template."""
        return Unit(f"fetchd@{name}.service", CONFIGS / f"{name}.toml", STATES / f"fetchd-{name}")

    def bare(self) -> Unit:
        """Return a unit like ours, but without everything that shuts it in."""
        kept = ("[", "Type=", "ExecStart=", "ExecReload=", "KillMode=", "StateDirectory=")
        ours = Path("/etc/systemd/system/fetchd.service").read_text().splitlines()
        lines = [line for line in ours if line.startswith(kept)]
        text = "\n".join(lines).replace("StateDirectory=fetchd", "StateDirectory=bare\nUser=bare")
        Path("/etc/systemd/system/bare.service").write_text(text + "\n")
        return Unit("bare.service", self.unit.config, STATES / "bare")


def _open_everything() -> None:
    for parent in ("/etc", "/usr", "/var", "/srv", "/home"):
        folder = Path(parent, "open")
        folder.mkdir(exist_ok=True)  # it may have been booted before
        folder.chmod(0o1777)
    Path("/home/open/file").write_text("x")
    Path("/tmp/others").write_text("x")
    group = _own_group() / "open"
    group.mkdir()
    group.chmod(0o777)
    device = Path("/dev/extra")
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # reads as empty
    device.chmod(0o666)


def _own_group() -> Path:
    """Return the folder of the control group that this process is in, in the service manager's own hierarchy."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    groups = {controllers: path.lstrip("/") for _, controllers, path in lines}
    legacy = Path("/sys/fs/cgroup/systemd")
    return legacy / groups["name=systemd"] if legacy.exists() else Path("/sys/fs/cgroup") / groups[""]


def database(path: Path, owner: int) -> socket.socket:
    """Listen as a database does, at a socket for its group alone."""
    path.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    os.chown(path, 0, owner)
    path.chmod(0o660)
    listener.listen()
    return listener


def add_address(number: int, address: str) -> None:
    """Give the loopback device another address, as netdevice(7) has it: the machine has no program for that."""
    name = f"lo:{number}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        packed = struct.pack("16sHxx4s8x", name, socket.AF_INET, socket.inet_aton(address))
        fcntl.ioctl(any_socket, SET_ADDRESS, packed)
