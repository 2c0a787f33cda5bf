"""The kinds of notifiers that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fetchd.notifiers.apprise import AppriseNotifier, AppriseNotifierOptions
from fetchd.notifiers.command import CommandNotifier, CommandNotifierOptions
from fetchd.notifiers.message import Notifier, NotifierOptions
from fetchd.notifiers.webhook import WebhookNotifier, WebhookNotifierOptions
from fetchd.sinks import Resources

KINDS: Final[dict[str, tuple[type[NotifierOptions], Callable[[Any, Resources], Notifier]]]] = {
    "apprise": (AppriseNotifierOptions, AppriseNotifier),
    "command": (CommandNotifierOptions, CommandNotifier),
    "webhook": (WebhookNotifierOptions, WebhookNotifier),
}

OPTIONS: Final[dict[str, type[NotifierOptions]]] = {kind: options for kind, (options, _) in KINDS.items()}


def open_notifier(options: NotifierOptions, resources: Resources) -> Notifier:
    """Return the notifier that ``options`` define. It does nothing until the first message, and holds nothing."""
    _, notifier = KINDS[options.kind]
    return notifier(options, resources)
