"""How Runs end and why, in the words of the status page; and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from docs.generating.markdown import code, document, table
from fetchd.errors import Reason
from fetchd.run import Outcome
from fetchd.web.words import OUTCOMES, REASONS

INTRODUCTION: Final = """
Each Run ends with one outcome. If that is not a good one, a reason says why. Logs, metrics, `fetchd history`, the
status page, the API and alerts use the same words.
"""
SKIPPED: Final = """
A slot for which there is no Run is counted with a reason of its own: in `fetchd_slots_skipped_total`, on the status
page and, the first time in a row, in the log as `slot_skipped`. It says nothing of how the job fares, and it is no
failure.
"""
OF_SLOTS: Final = (
    Reason.OVERLAP,
    Reason.BACKLOG,
    Reason.STARVED,
    Reason.BACKING_OFF,
    Reason.RETRY_AFTER,
    Reason.FRESH,
    Reason.PAUSED,
    Reason.STUCK,
)
"""Why there may be no Run for a slot. The others are why a Run ended as it did; two of them are both."""
OF_BOTH: Final = frozenset({Reason.STARVED, Reason.STUCK})

MEANING: Final[Mapping[Outcome, str]] = {
    Outcome.SUCCEEDED: "The result was kept, and every sink took it.",
    Outcome.UNCHANGED: "The result is the same as the last one, or there was none: nothing was delivered.",
    Outcome.FETCH_FAILED: "There is no result. The next slot is the next try.",
    Outcome.DELIVERY_FAILED: "The result is kept, and a sink has not taken it yet. It is tried again.",
    Outcome.DEADLINE_EXCEEDED: "The deadline passed. The reason names the phase; what was kept by then is still owed.",
    Outcome.CANCELLED: "It was ended from outside: the daemon stopped, or the job was removed.",
    Outcome.SKIPPED: "It did not begin, or found no place before its time was over.",
}
REMEDIES: Final[Mapping[Reason, str]] = {
    Reason.DNS: "Look at the name in the job's `url`, and at `[dns]`.",
    Reason.CONNECT: "Is the host up, and its port open from here?",
    Reason.TLS: "The message says which: expired, another host's, unknown CA, or your own certificate was refused.",
    Reason.TIMEOUT_CONNECT: "The host, or a firewall before it, does not answer. Raise `timeout.connect` if it is far.",
    Reason.TIMEOUT_READ: "The server fell silent. Raise `timeout.read` or `deadline` if it is slow.",
    Reason.TIMEOUT_WRITE: "The server does not read. Raise `timeout.write` if the body is large.",
    Reason.TIMEOUT_POOL: "Too many exchanges with the host at once: see `max_concurrent` in `[hosts]`.",
    Reason.PROTOCOL: "What came is no HTTP, or it ended in the middle. A proxy on the way is a frequent cause.",
    Reason.TOO_LARGE: "Raise `max_body` if the size is right.",
    Reason.TOO_MANY_REDIRECTS: "Write the final address as `url`.",
    Reason.REDIRECT_REFUSED: "It led to http, to another scheme, or with a body elsewhere. Write the final address.",
    Reason.ADDRESS_REFUSED: "`deny_private` refuses the address that the name stands for.",
    Reason.AUTH: "The token server refused, failed or was too slow. The message says which.",
    Reason.PAGES: "It came to `max`, or the server repeats pages: see [pages](../how-to/pages-and-cursors.md).",
    Reason.EXTRACT: "`parse`, `extract`, `split` or `cursor` do not fit the body: `fetchd once JOB --dry-run`.",
    Reason.DECODE: "The body is not in the encoding that it claims. The server, or a proxy, is broken.",
    Reason.HTTP_429: "Ask less often, or spread the jobs: see [politeness](../how-to/politeness.md).",
    Reason.HTTP_4XX: "The message has the status. 401 and 403: look at `auth`. 404: look at `url`.",
    Reason.HTTP_5XX: "The server's matter. It is tried again at the next slot.",
    Reason.UNEXPECTED: "Status or content type are not those in `expect`; an error page with status 200 ends here.",
    Reason.COLLECT: "The message has the traceback of your function.",
    Reason.LOCAL_RESOURCE: "Descriptors, ports, memory or disk ran out here. The message says which.",
    Reason.INTERNAL: "Please report it, with the traceback in the log.",
    Reason.SINK: "The message says which, and why: see [failed deliveries](../how-to/failures.md#deliveries).",
    Reason.OVERLAP: "The Run before took longer than the interval. Lower `deadline`, or raise `interval`.",
    Reason.BACKLOG: "Mend the sink, then replay or purge: see [failed deliveries](../how-to/failures.md#deliveries).",
    Reason.STARVED: "Raise `max_concurrent_runs`, `max_workers` or the host's `max_concurrent`, or spread the jobs.",
    Reason.BACKING_OFF: "`backoff` slows a failing job down. `fetchd trigger JOB` tries at once.",
    Reason.RETRY_AFTER: "The host is asked again when its time is over, or after `fetchd resume JOB`.",
    Reason.FRESH: "Nothing to do: `respect_cache_control` asks again when the last response has expired.",
    Reason.PAUSED: "`fetchd resume JOB`.",
    Reason.STUCK: "Code of yours swallows its cancellation. Only a restart ends it; the log says where it waits.",
    Reason.SHUTDOWN: "Nothing to do. Raise `shutdown_grace` if Runs should be able to end.",
}


def page() -> str:
    """Return the page."""
    reasons = [reason for reason in Reason if reason not in OF_SLOTS or reason in OF_BOTH]
    heads = ("Reason", "Says", "What to do")
    return document(
        "Outcomes and reasons",
        INTRODUCTION,
        "## Outcomes",
        table(("Outcome", "Says", "What has happened"), _outcomes()),
        "`succeeded` and `unchanged` are good. `cancelled` and `skipped` say nothing of the job.",
        "## Reasons",
        table(heads, _reasons(reasons)),
        "## Slots without a Run",
        SKIPPED,
        table(heads, _reasons(OF_SLOTS)),
    )


def _outcomes() -> Iterator[tuple[str, ...]]:
    for outcome in Outcome:
        yield code(outcome), OUTCOMES[outcome], MEANING[outcome]


def _reasons(reasons: Iterable[Reason]) -> Iterator[tuple[str, ...]]:
    for reason in reasons:
        yield code(reason), REASONS[reason], REMEDIES[reason]
