"""What runs in the worker process of an apprise notifier. It imports nothing of ours."""

from __future__ import annotations

import logging
from typing import Any

Letter = tuple[tuple[str, ...], str, str, str]
"""The addresses, a title, a text, and apprise's type of the message."""


def send(letter: Letter) -> list[str]:
    """Send the letter to each of its addresses and return the services that did not take it, by their schemes.

    Raises:
        ImportError: the package is not installed.
    """
    import apprise  # here alone: it takes more memory than the daemon

    # Its log names addresses, which are secrets, and this process's output goes into ours.
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    urls, title, text, kind = letter
    return [_scheme(url) for url in urls if not _send_one(apprise, url, title, text, kind)]


def _send_one(apprise: Any, url: str, title: str, text: str, kind: str) -> bool:
    service = apprise.Apprise()
    # An error's text may hold the address: what counts is which service it was.
    try:
        return bool(service.add(url) and service.notify(body=text, title=title, notify_type=kind, body_format="text"))
    except Exception:
        return False


def _scheme(url: str) -> str:
    return url.partition("://")[0]
