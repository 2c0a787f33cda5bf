"""Crontabs: their times, variables, users and wrappers; and that every line is accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from fetchd.imports import Choices, Surroundings, from_crontab
from fetchd.secret import Secret
from tests.imports.lines import crontab, jobs_of, only

URL: Final = "https://example.org/x"

CRONTAB: Final = """\
# the crontab of a small shop
SHELL=/bin/bash
PATH = /usr/local/bin:/usr/bin:/bin
MAILTO="ops@example.org"
API=https://api.example.org
CRON_TZ=Europe/Prague

*/5 * * * * curl -fsS https://api.example.org/v1/rates -o /srv/rates.json >/dev/null 2>&1
0 3 * * mon-fri  cd /srv/shop && flock -n /tmp/lock timeout 2m nice -n 19 curl -s "$API/export?full=1" > export.csv
@hourly wget -q -O /dev/null http://localhost/wp-cron.php?doing_wp_cron
@daily /usr/local/bin/backup.sh && curl -fsS https://hc-ping.com/some-uuid
@reboot curl https://example.org/boot
15 2 * * 1-5 /usr/bin/python3 /srv/report.py
30 6 1 * * sh -c 'curl -s https://example.org/feed | /usr/local/bin/import "$API"'
0 12 * * * curl -d @- https://example.org/lines%a%b\\%c
61 * * * * curl https://example.org/never
"""


def test_a_whole_crontab(tmp_path: Path) -> None:
    """What is a fetch becomes a job, and of everything else a comment says what it was."""
    found = crontab(CRONTAB)
    jobs = {job.name: job for job in jobs_of(found, tmp_path)}
    assert list(jobs) == [
        "api-example-v1-rates",
        "api-example-export",
        "localhost-wp-cron-php",
        "example-feed",
        "example-lines",
    ]
    rates, export, shop, feed, lines = jobs.values()
    assert (rates.cron, rates.timezone) == ("*/5 * * * *", "Europe/Prague")
    assert export.deadline == 120.0
    assert export.url is not None
    assert export.url.reveal() == "https://api.example.org/export?full=1"
    assert export.sinks[0].model_dump()["path"] == "/srv/shop/export.csv"
    assert (shop.cron, shop.sinks) == ("0 * * * *", ())
    sink: Any = feed.sinks[0]
    assert sink.argv == ("/bin/bash", "-c", '/usr/local/bin/import "$API"')
    assert {name: value.reveal() for name, value in sink.env.items()} == {
        "API": "https://api.example.org",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    assert lines.body is not None
    assert lines.body.reveal() == "ab%c"
    comments = [line for line in found.text.splitlines() if line.startswith("#")]
    for left in (
        "@reboot curl",
        "15 2 * * 1-5 /usr/bin/python3",
        "61 * * * * curl",
        "/usr/local/bin/backup.sh",
        "MAILTO",
    ):
        assert any(left in line for line in comments), left
    assert any("hc-ping.com" in line for line in comments)


@pytest.mark.parametrize(
    ("times", "cron"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("* * * * *", "* * * * *"),
        ("0\t4  8-14 * *", "0 4 8-14 * *"),
        ("*/15 9-17 * jan,jul mon-fri", "*/15 9-17 * jan,jul mon-fri"),
        ("-5 4 * * sun", "5 4 * * sun"),
    ],
)
def test_times(times: str, cron: str, tmp_path: Path) -> None:
    """Slots of the clock stay slots of the clock: an interval would be a guess."""
    assert only(crontab(f"{times} curl {URL}\n"), tmp_path).cron == cron


def test_every_is_an_interval(tmp_path: Path) -> None:
    """Where the time between two runs is meant, it is said so."""
    job = only(crontab(f"@every 1h30m curl -m 9000 {URL}"), tmp_path)
    assert (job.interval, job.cron, job.deadline) == (5400.0, None, 5400.0)


@pytest.mark.parametrize(
    "line",
    [
        f"@reboot curl {URL}",
        f"@never curl {URL}",
        f"* * * * curl {URL}",
        f"*/5 * * * * * curl {URL}",
        "* * * * *",
        f"* 25 * * * curl {URL}",
        f"* * * * * for x in 1 2; do curl {URL}; done",
        "* * * * * echo curl",
        "\udcff * * * * x",
    ],
)
def test_lines_that_are_left(line: str) -> None:
    """The line itself stands in the comment, with why it is no job."""
    found = crontab(line)
    assert (found.jobs, found.left) == (0, 1)
    assert ascii(line)[1:-1].replace("\\\\", "\\") in found.text
    assert "# Not imported: " in found.text


def test_users_of_a_system_crontab(tmp_path: Path) -> None:
    """The word before the command is a user there, and the daemon has but one."""
    text = f"0 1 * * * www-data curl {URL}\n@daily root curl {URL}/2\n17 *\t* * *\troot\tcurl {URL}/3\n@daily root"
    found = crontab(text, system=True)
    assert [job.cron for job in jobs_of(found, tmp_path)] == ["0 1 * * *", "0 0 * * *", "17 * * * *"]
    assert "cron ran it as www-data" in found.text
    assert found.text.count("cron ran it as root") == 2
    assert "there is no command after its times.\n#     @daily root\n" in found.text


def test_tabs_within_a_command_stay(tmp_path: Path) -> None:
    """Between words they are spaces, in what is sent they are tabs."""
    assert only(crontab(f"@daily\tcurl -d 'a\tb' {URL}"), tmp_path).body == Secret("a\tb")


def test_a_user_that_may_be_one() -> None:
    """A copy of /etc/crontab under another name is no riddle; nor does every other word lead to that advice."""
    assert "if root is a user, say --system" in crontab(f"17 *\t* * *\troot\tcurl {URL}").text
    assert f"no fetch with curl or wget; if root is a user, say --system.\n#     0 1 * * * root curl {URL}" in (
        crontab(f"0 1 * * * root curl {URL}").text
    )
    assert "--system" not in crontab(f"0 1 * * * /srv/get curl {URL}\n0 1 * * * root run curl").text


def test_variables_of_a_crontab_may_be_secrets(tmp_path: Path) -> None:
    """A variable in a crontab is its own documentation: with variables in the place of secrets it stays one."""
    text = f'API_TOKEN=t0p\nTEAM=blue\n0 1 * * * curl -H "Authorization: Bearer $API_TOKEN" "{URL}?team=$TEAM"'
    found = from_crontab(text, Surroundings(), Choices(secrets="env"))
    [job] = jobs_of(found, tmp_path, {"HOME": "/", "API_TOKEN": "x"})
    assert "t0p" not in found.text
    assert job.url == Secret(f"{URL}?team=blue")


def test_the_zone_of_the_machine(tmp_path: Path) -> None:
    """A crontab without a zone is read in that of its machine; one that there is not is said."""
    found = crontab(f"0 1 * * * curl {URL}\nCRON_TZ=Nowhere/Land\n0 2 * * * curl {URL}", timezone="Asia/Tokyo")
    assert [job.timezone for job in jobs_of(found, tmp_path)] == ["Asia/Tokyo"] * 2
    assert 'there is no time zone "Nowhere/Land"' in found.text


@pytest.mark.parametrize(
    "wrapped",
    [
        "flock -n /tmp/l CURL",
        "/usr/bin/flock -w 10 /tmp/l -c 'CURL'",
        "ionice -c3 nice -n 10 CURL",
        "nice -19 chronic CURL",
        "env A=b CURL",
        "A=b nohup CURL &",
        "bash -lc 'CURL'",
        "sudo -u www-data CURL",
        "cd /tmp; CURL",
        "test -x /usr/bin/curl && CURL",
        "set -e; CURL",
        "$ CURL",
    ],
)
def test_wrappers(wrapped: str, tmp_path: Path) -> None:
    """What stands before the fetch is understood, or is no matter."""
    job = only(crontab(f"* * * * * {wrapped.replace('CURL', f'curl -s {URL}')}"), tmp_path)
    assert job.url is not None
    assert job.url.reveal() == URL


def test_a_deadline_fits_its_slots(tmp_path: Path) -> None:
    """`timeout 300` on a line of every minute let runs pile up; here it cannot."""
    found = crontab(f"* * * * * timeout 300 curl {URL}")
    assert only(found, tmp_path).deadline == 60.0
    assert "a run ends before the next one begins" in found.text


def test_two_jobs_do_not_write_one_file(tmp_path: Path) -> None:
    """The configuration would refuse it, so the second is a comment that says so."""
    found = crontab(f"0 1 * * * curl {URL} -o /srv/x\n0 2 * * * curl {URL}/2 -o /srv/x\n")
    assert len(jobs_of(found, tmp_path)) == 1
    assert "writes to this file too" in found.text
