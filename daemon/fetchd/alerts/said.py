"""What people are told, in the log: it is there for those who have no notifier, or one that fails."""

from __future__ import annotations

import structlog

from fetchd.alerts.troubles import DAEMON, OVERDUE, SINK, Change, News

log = structlog.get_logger()


def say(news: News) -> None:
    """Log what people are told; reminders, and dead letters, which have lines of their own, are left out."""
    if news.change is Change.STILL:
        return
    if news.job == DAEMON:
        _say_of_daemon(news)
    elif news.change is not Change.ONCE:
        _say_of_job(news)


def _say_of_daemon(news: News) -> None:
    fields = {"since": news.since.isoformat(timespec="seconds"), "message": news.message}
    if news.change is Change.OVER:
        log.info("daemon_recovered", was=news.kind, **fields)
    else:
        log.warning("daemon_in_trouble", trouble=news.kind, **fields)


def _say_of_job(news: News) -> None:
    sink = {"sink": news.kind.removeprefix(SINK)} if news.kind.startswith(SINK) else {}
    fields = {"job": news.job, **sink, "since": news.since.isoformat(timespec="seconds")}
    if news.gone:
        log.info("job_removed", **fields, was="sink_failing" if sink else news.kind)
    elif news.change is Change.OVER:
        log.info("job_recovered", **fields, was="sink_failing" if sink else news.kind)
    elif sink:
        log.warning("sink_failing", **fields, failures=news.count, message=news.message)
    elif news.kind == OVERDUE:
        log.warning("job_overdue", **fields, message=news.message)
    else:
        log.warning("job_failing", **fields, reason=news.reason, failures=news.count, message=news.message)
