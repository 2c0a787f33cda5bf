"""The tables about alerts: what they may say, and whose secrets they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.files import loaded, refused

JOB = '[jobs.a]\nurl = "https://h.example/"\n'
CHAT = '[notifiers.chat]\nkind = "webhook"\nurl = "https://hooks.example/s3cret-path"\n'
KINDS = "the kinds are apprise, command, webhook"
WINDOW = "write either start and end, or cron and duration"


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("notifiers = 1\n", "1: notifiers: must be a table"),
        ("[notifiers]\na = 1\n", "2: notifiers.a: must be a table"),
        ("[notifiers.a]\n", f"1: notifiers.a.kind: is missing; {KINDS}"),
        (
            '[notifiers.a]\nkind = "webhok"\n',
            f'2: notifiers.a.kind: unknown kind; did you mean "webhook"? ({KINDS})',
        ),
        ('[notifiers.a]\nkind = "webhook"\n', "1: notifiers.a.url: is missing"),
        (
            '[notifiers.a]\nkind = "webhook"\nurl = "ftp://s3cret/"\n',
            '3: notifiers.a.url: a URL begins with "http://" or "https://"',
        ),
        ('[notifiers.a]\nkind = "command"\nargv = ["/nowhere"]\n', "3: notifiers.a.argv: there is no command /nowhere"),
        (
            "[alerts]\ngroup_wait = 5\n",
            '2: alerts.group_wait: a duration needs a unit: write "5s" if these are seconds',
        ),
        (
            f'{CHAT}[alerts]\nnotify = ["chatt"]\n',
            '5: alerts.notify[0]: there is no such notifier; did you mean "chat"?',
        ),
        (
            '[defaults]\nalerts = { notify = ["ops"] }\n',
            "2: defaults.alerts.notify[0]: there is no such notifier; add a table [notifiers.ops]",
        ),
        ("maintenance = 1\n", "1: maintenance: must be a list of tables: write [[maintenance]]"),
        ("[[maintenance]]\n", f"1: maintenance[0]: {WINDOW}"),
        ('[[maintenance]]\ncron = "0 3 * * *"\n', f"1: maintenance[0]: {WINDOW}"),
        (
            "[[maintenance]]\nstart = 2026-01-02T00:00:00Z\nend = 2026-01-01T00:00:00Z\n",
            "1: maintenance[0]: ends before it begins",
        ),
        (
            '[[maintenance]]\ncron = "0 3 * * *"\nduration = "1h"\ntimezone = "Europe/Pargue"\n',
            '4: maintenance[0].timezone: unknown time zone; write one such as "Europe/Prague"',
        ),
    ],
)
def test_what_is_wrong_is_said_at_its_line(tmp_path: Path, text: str, finding: str) -> None:
    """An alert that cannot be sent is found at the check, not in the outage."""
    assert refused(tmp_path, text + JOB) == [finding]


def test_a_jobs_unknown_notifier_is_found(tmp_path: Path) -> None:
    """It would be told nobody."""
    [finding] = refused(tmp_path, f'{CHAT}{JOB}alerts = {{ notify = ["chat", "mail"] }}\n')
    assert finding == "6: jobs.a.alerts.notify[1]: there is no such notifier; the names are chat"


def test_a_jobs_alerts_are_joined_with_the_defaults(tmp_path: Path) -> None:
    """Who changes the count does not mean to tell everybody."""
    text = f'{CHAT}[defaults]\nalerts = {{ notify = ["chat"], reminder = "1h" }}\n{JOB}alerts = {{ after = 1 }}\n'
    alerts = loaded(tmp_path, text).jobs["a"].alerts
    assert (alerts.after, alerts.reminder, alerts.notify) == (1, 3600.0, ("chat",))


def test_addresses_of_notifiers_and_pings_are_secrets(tmp_path: Path) -> None:
    """Whoever has them can send; also where they are written in the file itself."""
    ping = 'ping = "https://hc.example/uuid-of-job"\n'
    secrets = loaded(
        tmp_path,
        f'[daemon]\nping = {{ env = "TOKEN_URL" }}\n{CHAT}{JOB}{ping}',
        {
            "HOME": "/home/x",
            "TOKEN_URL": "https://hc.example/uuid-of-daemon",
        },
    ).secret_texts()
    assert {"https://hooks.example/s3cret-path", "https://hc.example/uuid-of-job", "/uuid-of-daemon"} <= secrets
