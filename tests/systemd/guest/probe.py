"""Tries what a service has no business with, and prints as JSON what came of each; it has no other effect.

It runs as an ordinary user, on files and devices that everybody may use: what refuses it is the unit.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

PTRACE, PERSONALITY, UNSHARE, ADD_KEY, IO_PRIORITY = 101, 135, 272, 248, 251
CLONE_NEWUSER, ADDR_NO_RANDOMIZE = 0x10000000, 0x0040000


def main() -> None:
    """Try everything."""
    sys.stdout.write(json.dumps({name: _tried(act) for name, act in TRIES.items()}))


def _tried(act: Callable[[], object]) -> str:
    """Return "allowed" or "refused" with a word; each try is made in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            act()
            said = "allowed"
        except OSError as error:
            said = f"refused {errno.errorcode.get(error.errno or 0, error)}"
        except Exception as error:
            said = f"refused {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said or "refused by a signal"


def _system(number: int, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _write(path: str) -> Callable[[], object]:
    return lambda: Path(path).write_text("x")


def _read(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()[:1]


def _socket(family: int, kind: int) -> Callable[[], object]:
    return lambda: socket.socket(family, kind).close()


def _is(true: Callable[[], bool]) -> Callable[[], object]:
    def act() -> None:
        if not true():
            raise PermissionError(errno.EPERM, "not so")

    return act


def _status(key: str, value: str) -> Callable[[], bool]:
    return lambda: f"{key}:\t{value}\n" in Path("/proc/self/status").read_text()


def _others() -> bool:
    own = os.getuid()
    return any(entry.name.isdigit() and entry.stat().st_uid != own for entry in os.scandir("/proc"))


def _suid() -> None:
    path = Path("suid")
    path.touch()
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def _group() -> None:
    folder = next(Path("/sys/fs/cgroup").glob("**/open")) / "probe"
    folder.mkdir()
    folder.rmdir()


def _compile() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def _own(path: Path) -> None:
    path.touch()
    try:
        os.chown(path, os.getuid(), os.getgid())
    finally:
        path.unlink()


TRIES: dict[str, Callable[[], object]] = {
    "write_etc": _write("/etc/open/probe"),
    "write_usr": _write("/usr/open/probe"),
    "write_var": _write("/var/open/probe"),
    "write_srv": _write("/srv/open/probe"),
    "make_control_group": _group,
    "read_home": _read("/home/open/file"),
    "read_tmp_of_others": _read("/tmp/others"),
    "use_new_device": _read("/dev/extra"),
    "see_other_processes": _is(_others),
    "read_meminfo": _read("/proc/meminfo"),
    "be_traced": lambda: _system(PTRACE, 0, 0, 0, 0),
    "compile": _compile,
    "new_namespace": lambda: _system(UNSHARE, CLONE_NEWUSER),
    "personality": lambda: _system(PERSONALITY, ADDR_NO_RANDOMIZE),
    "netlink": _socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "set_suid": _suid,
    "change_owner": lambda: _own(Path("owned")),
    "change_priority": lambda: _system(IO_PRIORITY, 1, 0, (3 << 13)),
    "gain_privileges": _is(_status("NoNewPrivs", "0")),
    "keep_capabilities": _is(lambda: not _status("CapBnd", "0" * 16)()),
    "see_other_users": _is(lambda: "4294967295" in Path("/proc/self/uid_map").read_text()),
}

if __name__ == "__main__":
    main()
