"""What the daemon and its commands may not do, what they still may, and instances beside each other."""

from __future__ import annotations

import json
import pwd
import re
import urllib.request
from pathlib import Path
from typing import Final

from tests.systemd.guest.stage import Stage, add_address, database
from tests.systemd.guest.unit import (
    EXAMPLES,
    NEWER,
    STEPS_SINCE,
    Unit,
    config,
    expect,
    job,
    run,
    to_command,
    to_file,
    until,
    version,
)

MOST_EXPOSED: Final = 1.5
TOKEN: Final = "canary-51d0c4"
PROBE: Final = to_command("sh", "-c", "python3 /opt/check/probe.py > probe.part && mv probe.part probe.json")
COMPILE: Final = "import mmap; mmap.mmap(-1, 4096, prot=7)"
NAMED, OTHER = "192.0.2.7", "198.51.100.7"
BRIEF: Final = 'interval = "1h"\ndeadline = "5s"\ntimeout = "1s"\nretries = 0'
HOUR: Final = 'interval = "1h"\ndeadline = "20s"'
IMPORT: Final = """
import pathlib, socket, sys
body = sys.stdin.read()
with socket.socket(socket.AF_UNIX) as database:
    database.connect("/run/shopdb/socket")
pathlib.Path("var/imported").write_text(body)
"""


def units_are_in_order(stage: Stage) -> str:
    """The service manager has nothing to say about our units and drop-ins, and counts little exposure."""
    folder = Path("/etc/systemd/system")
    examples = sorted(EXAMPLES.glob("*.conf"))
    stage.unit.begin(config(job("first", to_file("first"))), *(path.read_text() for path in examples))
    said = run("systemd-analyze", "verify", "--man=no", "fetchd.service", "fetchd@one.service")
    unknown = () if version() >= STEPS_SINCE else NEWER
    complaints = [line for line in said.stderr.splitlines() if not any(key in line for key in unknown)]
    expect(not complaints, complaints)
    stage.unit.drop_in()
    found = {}
    for unit in ("fetchd.service", "fetchd@.service"):
        text = run("systemd-analyze", "security", "--no-pager", "--offline=true", str(folder / unit)).stdout
        level = re.search(r"exposure level for \S+: ([0-9.]+)", text)
        expect(level is not None and float(level[1]) <= MOST_EXPOSED, text[-200:])
        found[unit] = level[1] if level else ""
    return f"nothing said of 2 units and {len(examples)} drop-ins; exposure {found}"


def sandbox_refuses(stage: Stage) -> dict[str, str]:
    """Each try is refused under our unit, and allowed to the same probe under a unit without what shuts it in."""
    shut = _probed(stage.unit)
    free = _probed(stage.bare(), "[Service]\n")
    verdicts = {}
    for name, said in shut.items():
        if said == "allowed":
            verdicts[name] = "FAIL allowed"
        elif free[name] != "allowed":
            verdicts[name] = f"SKIP {said}, but the container refuses it to everybody: {free[name]}"
        else:
            verdicts[name] = f"PASS {said}; allowed without"
    return verdicts


def _probed(unit: Unit, *drop_ins: str) -> dict[str, str]:
    unit.begin(config(job("probe", PROBE, more=HOUR)), *drop_ins)
    unit.start()
    trigger(unit, "probe")
    found = json.loads(unit.out("probe.json").read_text())
    unit.stop()
    return found


def credentials_are_its_own(stage: Stage) -> str:
    """With examples/credentials.conf the daemon sends a token that no other user can read, and that is never shown."""
    secret = Path("/etc/fetchd/secrets/rates_token")
    secret.parent.mkdir(mode=0o700)
    secret.write_text(TOKEN + "\n")
    secret.chmod(0o600)
    unit = stage.unit
    auth = 'auth = { kind = "bearer", token = { credential = "rates_token" } }'
    text = config(job("token", to_file("token"), more=f'interval = "500ms"\n{auth}'))
    unit.begin(text, (EXAMPLES / "credentials.conf").read_text())
    unit.start()
    until(lambda: unit.numbers("token"), "results")
    expect(stage.upstream.authorization["token"] == f"Bearer {TOKEN}", stage.upstream.authorization)
    copy = f"/run/credentials/{unit.name}/rates_token"
    for path in (copy, str(secret)):
        read = run("setpriv", "--reuid=65534", "--clear-groups", "cat", path)
        expect(read.returncode != 0 and TOKEN not in read.stdout, f"others read {path}")
    shown = run("systemctl", "show", unit.name).stdout + "".join(unit.said())
    shown += run("fetchd", "status", "--json", "--state-dir", str(unit.state)).stdout
    shown += Path(f"/proc/{unit.pid}/environ").read_text()
    expect(TOKEN not in shown, "it is shown")
    expect(unit.reload().returncode == 0, unit.tail())
    return f"sent, not shown; to others: {read.stderr.strip()}"


def command_works(stage: Stage) -> str:
    """An ordinary command finds the body, its environment, a folder to write and a temporary one."""
    unit = stage.unit
    script = "t=$(mktemp) && cat > $t && cp $t got.json && rm $t && echo $FETCHD_JOB > job"
    unit.begin(config(job("plain", to_command("sh", "-c", script), more=HOUR)))
    unit.start()
    trigger(unit, "plain")
    expect("n" in json.loads(unit.out("got.json").read_text()), "the body")
    expect(unit.out("job").read_text() == "plain\n", "the environment")
    expect(unit.out("job").stat().st_mode & 0o777 == 0o600, "others may read what it leaves")
    return f"{unit.out('got.json').read_text()}"


def extraction_works(stage: Stage) -> str:
    """Bodies are read in worker processes, whose memory is bounded by a system call that the filter must leave."""
    unit = stage.unit
    unit.begin(config(job("rows", to_file("rows"), more=f'{HOUR}\nextract = "{{number: n}}"')))
    unit.start()
    trigger(unit, "rows")
    text = unit.out("rows.jsonl").read_text()
    expect('"number"' in text, text)
    return text.strip()


def shop_command_works(stage: Stage) -> str:
    """examples/shop-command.conf lets a command write its folder and ask its database; without it, it cannot."""
    unit, shop = stage.unit, pwd.getpwnam("shop")
    var = Path("/srv/shop/var")
    var.mkdir(parents=True)
    run("chown", "-R", "shop:shop", "/srv/shop")
    var.chmod(0o750)
    with database(Path("/run/shopdb/socket"), shop.pw_gid):
        sink = to_command("python3", "-c", IMPORT, more=', cwd = "/srv/shop"')
        unit.begin(config(job("import", sink, more=HOUR) + job("first", to_file("first"))))
        unit.start()
        refused = run("fetchd", "trigger", "import", "--state-dir", str(unit.state))
        expect(refused.returncode == 1 and not (var / "imported").exists(), refused.stdout)
        until(lambda: unit.numbers("first"), "results")
        unit.stop()
        kept = unit.numbers("first")
        unit.drop_in((EXAMPLES / "shop-command.conf").read_text())
        unit.start()
        until(lambda: (var / "imported").exists(), f"what was owed is imported; {unit.tail()}")
    expect((var / "imported").stat().st_uid == shop.pw_uid, "it is not the shop's")
    expect(unit.numbers("first")[: len(kept)] == kept, "what was kept before is gone")
    return f"refused without; with it the owed result is imported, {len(kept)} results kept over the change of user"


def compiling_command_works(stage: Stage) -> str:
    """examples/compiling-command.conf lets a command make code as it runs; without it, it cannot."""
    unit = stage.unit
    text = config(job("compile", to_command("python3", "-c", COMPILE), more=HOUR))
    unit.begin(text)
    unit.start()
    refused = run("fetchd", "trigger", "compile", "--state-dir", str(unit.state))
    expect(refused.returncode == 1, refused.stdout)
    unit.begin(text, (EXAMPLES / "compiling-command.conf").read_text())
    unit.start()
    trigger(unit, "compile")
    return "refused without, works with it"


def few_addresses_are_reached(stage: Stage) -> str:
    """examples/few-addresses.conf cuts off what it does not name; without it, all of that is reached."""
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "SKIP the service manager filters addresses by control groups of version 2 alone"
    unit = stage.unit
    for number, address in enumerate((NAMED, OTHER)):
        add_address(number, address)
    jobs = {name: job(name, to_file(name), more=BRIEF) for name in ("local", "named", "other")}
    jobs["named"] = jobs["named"].replace("127.0.0.1", NAMED)
    jobs["other"] = jobs["other"].replace("127.0.0.1", OTHER)
    unit.begin(config("".join(jobs.values())))
    unit.start()
    for name in jobs:
        trigger(unit, name)
    unit.begin(config("".join(jobs.values())), (EXAMPLES / "few-addresses.conf").read_text())
    unit.start()
    trigger(unit, "local")
    trigger(unit, "named")
    refused = run("fetchd", "trigger", "other")
    expect(refused.returncode == 1 and "timeout_connect" in refused.stdout, refused.stdout)
    return f"all reached without; with it {refused.stdout}"


def instances_are_apart(stage: Stage) -> str:
    """Two instances and the single service run beside each other, each with its own user, state and page."""
    units = [stage.unit, stage.instance("one"), stage.instance("two")]
    for number, unit in enumerate(units):
        unit.begin(config(job("first", to_file("first")), listen=f'"127.0.0.1:{9475 + number}"'))
        unit.start()
    owners = {Path(f"/proc/{unit.pid}").stat().st_uid for unit in units}
    expect(len(owners) == 3 and 0 not in owners, owners)
    for number, unit in enumerate(units):
        asked = run("fetchd", "status", "--json", "-c", str(unit.config))
        expect(asked.returncode == 0 and json.loads(asked.stdout)["pid"] == unit.pid, asked.stderr)
        until(lambda unit=unit: unit.numbers("first"), f"results of {unit.name}")
        with urllib.request.urlopen(f"http://127.0.0.1:{9475 + number}/healthz", timeout=5) as answer:
            expect(answer.status == 200, answer.status)
    single, one, two = units
    pid = two.pid
    one.write(one.config.read_text().replace("interval", "intervall"))
    expect(one.reload().returncode != 0 and two.reload().returncode == 0, "reloads")
    one.stop()
    single.stop()
    single.start()
    before = len(two.numbers("first"))
    until(lambda: len(two.numbers("first")) > before + 1, "the other goes on")
    expect(two.pid == pid and not one.running, "another process")
    two.stop()
    return f"users {sorted(owners)}, pages at 3 ports; reloads and stops of one leave the others alone"


def trigger(unit: Unit, name: str) -> None:
    """Have a job run, and succeed."""
    done = run("fetchd", "trigger", name, "--state-dir", str(unit.state))
    expect(done.returncode == 0, f"{done.stdout}{done.stderr} {unit.tail()}")
