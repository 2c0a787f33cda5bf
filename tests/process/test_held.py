"""A host that has named a time is left alone until then by the whole daemon, killed and started anew or not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.process.daemon import Daemon
from tests.process.test_control import ask
from tests.upstream import UpstreamProcess


def config(upstream: UpstreamProcess, more: str = "") -> str:
    """Return two jobs of a host that wants to be left alone, and one of another host."""
    held = "".join(
        f'[jobs.held{number}]\nurl = "{upstream.url("retryafter/3600")}"\ninterval = "200ms"\nretries = 0\n'
        for number in range(2)
    )
    return f'{more}{held}[jobs.other]\nurl = "{upstream.url("ok", host="localhost")}"\ninterval = "1d"\n'


def asked(upstream: UpstreamProcess) -> int:
    """Return how often the host was asked."""
    return Counter(upstream.stats()["requests"])["retryafter"]


def test_neither_a_kill_nor_a_reload_forgets_the_time(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """No job asks before it; the status says until when, and a hand may lift it."""
    before = asked(upstream)
    with Daemon(tmp_path, config(upstream)) as daemon:
        daemon.wait_for("slot_skipped", reason="retry_after", job="held0")
        assert ask(daemon, "trigger", "other")[0] == 0  # what comes before is on disk, then
        told = asked(upstream)
        assert 1 <= told - before <= 2
    with Daemon(tmp_path, config(upstream)) as daemon:  # it has been killed
        for job in ("held0", "held1"):
            daemon.wait_for("slot_skipped", reason="retry_after", job=job)
        daemon.write(config(upstream, '[hosts."127.0.0.1"]\nmax_concurrent = 1\n'))
        assert ask(daemon, "reload")[0] == 0
        code, out, _ = ask(daemon, "status", "--json")
        rows = {row["job"]: row for row in json.loads(out)["jobs"]}
        assert rows["held0"]["held_until"] == rows["held1"]["held_until"] is not None
        assert rows["other"]["held_until"] is None
        assert (asked(upstream), daemon.lines("run_finished")) == (told, [])
        before_the_hand = rows["held0"]
        code, out, err = ask(daemon, "trigger", "held0")
        assert code == 1
        assert out.startswith("held0: skipped (retry_after) - 127.0.0.1 asked for no request before ")
        assert len(out.splitlines()) == 1
        assert err == "`fetchd resume held0` has its host asked all the same\n"
        assert asked(upstream) == told
        after = json.loads(ask(daemon, "status", "--json")[1])["jobs"]
        assert daemon.lines("run_finished") == []
        changed = {key for row in after if row["job"] == "held0" for key in row if row[key] != before_the_hand[key]}
        assert changed <= {"next_slot"}
        code, out, _ = ask(daemon, "resume", "held0")
        assert (code, "held0: its host is asked again" in out) == (0, True)
        daemon.wait_for("run_finished", reason="http_5xx")
        assert asked(upstream) > told
