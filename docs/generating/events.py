"""A sentence for each event of the log, and the fields that a call takes from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_RUN: Final = ("job", "run", "slot", "outcome", "reason", "status", "bytes", "attempts", "duration_s", "lateness_s")
_NEWS: Final = ("job", "since")
_NEWS_OF_DAEMON: Final = ("since", "message")

EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "alert_failed": ("A notifier did not take a message; it is tried again.",),
    "alert_sent": ("A notifier took a message.",),
    "bodies_missing": ("Bodies that are still owed have vanished from the state directory.",),
    "body_file_left": ("A body that nobody needs any more could not be removed; it is tried again.",),
    "clock_stepped": ("The wall clock was set; slots are reckoned anew.",),
    "command_output": ("A sink's command printed something.", "stdout", "stderr"),
    "config_rejected": ("A configuration was offered and refused; the old one stays in force.",),
    "config_reloaded": ("A configuration was put in force.",),
    "daemon_cut_off": ("The process before this one did not stop in order.",),
    "daemon_failed": ("The daemon ends because of a defect, or because it cannot go on; exit status 70.", "exception"),
    "daemon_in_trouble": ("People are told of something wrong with the daemon itself.", *_NEWS_OF_DAEMON),
    "daemon_ready": ("Every job is scheduled.",),
    "daemon_recovered": ("People are told that it is over.", *_NEWS_OF_DAEMON),
    "daemon_started": ("The process has begun.",),
    "daemon_stopped": ("The process ends.",),
    "daemon_stopping": ("No Run begins any more; those under way have the grace to end, those that only wait do not.",),
    "delivery_dead": ("A delivery was given up. It is kept: `fetchd dead`.",),
    "delivery_failed": ("A sink did not take a delivery; it is tried again. At most one line a minute for each sink.",),
    "delivery_recovered": ("A sink takes deliveries again.",),
    "delivery_stuck": ("A sink's code ignores that its try was cut off.",),
    "environment_ignored": ("A proxy variable is set, and no job goes by it.",),
    "function_output": ("A function printed something.", "stdout", "stderr"),
    "internal_error": ("A defect in fetchd. Please report it.", "exception"),
    "job_failing": ("People are told that a job fails.", *_NEWS),
    "job_overdue": ("People are told that a job is overdue.", *_NEWS),
    "job_paused": ("Somebody paused a job.",),
    "job_recovered": ("People are told that a job, or its sink, does well again.", *_NEWS),
    "job_removed": (
        "A job, or its sink, is no longer in the configuration: its trouble, which people know of, ends so.",
        *_NEWS,
    ),
    "job_resumed": ("Somebody resumed a job.",),
    "lock_not_signed": ("The lock is held, but its file could not be written; a full disk, usually.",),
    "log_lines_dropped": ("Whoever reads the log was too slow; so many lines are lost.", "count"),
    "loop_stalled": ("The loop stood still: for how long, or that the process was replaced for it, and where.",),
    "notes_unreadable": ("What was noted about alerts cannot be read; people may be told again.",),
    "notification_dead": ("A message was given up.",),
    "page_exposed": ("The status page is served at an address that is not this machine's alone.",),
    "page_served": ("The status page is up.",),
    "pages_restarted": ("The server does not know any more where a walk through pages stood; it begins anew.",),
    "records_forgotten": (
        "A walk brought more records than `unique` remembers: those of its first pages will be delivered again.",
    ),
    "ping_failed": ("A ping was not taken. At most one line in five minutes for each job.", "job"),
    "run_crashed": ("A defect in fetchd ended a Run. Please report it.", "exception"),
    "run_finished": ("A Run has ended. A warning if it did not succeed.", *_RUN),
    "run_stuck": ("A Run ignores its cancellation and was given up; the stack says where it waits.",),
    "run_unstuck": ("A Run that was given up has ended after all.",),
    "runs_left_behind": ("Runs did not end when they were told to.",),
    "schedule_astray": ("A schedule named a slot that was not later than the one before.",),
    "scheduler_stalled": ("A slot was due and not dispatched; the scheduler was woken.",),
    "secret_missing": (
        "The file of a secret, or of a certificate, is gone or empty; the value that it had stays in use.",
    ),
    "secrets_rotated": ("Secrets, or certificates, were read anew from their files.",),
    "sink_failing": ("People are told that a sink takes nothing.", *_NEWS, "sink"),
    "sink_not_closed": ("A sink could not be closed.", "exception"),
    "slot_skipped": (
        "Slots of a job had no Run, for the reason. Said the first time, then at intervals, with the count.",
    ),
    "slots_missed": ("The loop was too late for so many slots of a job.",),
    "spool_file_left": ("A spool file could not be removed.",),
    "state_set_aside": ("`--new-state`: what was kept is set aside.",),
    "store_failing": ("What is to be kept cannot be written: a full disk, usually. Fetching goes on.",),
    "store_log_held": ("The database's log grows because somebody reads it without end.",),
    "store_not_closed": ("The database could not be closed in time.",),
    "store_recovered": ("What is to be kept can be written again; so many entries of the history were lost.",),
    "store_refused": ("The database refused an entry.",),
    "store_unwritten": ("The process ends with entries that could not be written.",),
    "systemd_notify_failed": ("systemd could not be told.",),
    "thread_failed": ("A thread of fetchd or of a library ended with an error.", "thread", "exception"),
    "temporary_files_left": ("Files that a killed process left behind could not be removed.",),
    "tls_unverified": ("A job does not check certificates: anybody on the way can read and change all.",),
    "unraisable_exception": (
        "Code failed where nobody could be told, in a destructor for example.",
        "message",
        "exception",
    ),
}
"""By event: the sentence, then fields that the code does not name where it logs."""
