"""The kinds of sinks that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fetchd.job import SinkOptions
from fetchd.sinks import Resources, Sink
from fetchd.sinks.command import CommandOptions, CommandSink
from fetchd.sinks.file import FileOptions, FileSink
from fetchd.sinks.function import FunctionOptions, FunctionSink
from fetchd.sinks.sqlite import SqliteOptions, SqliteSink
from fetchd.sinks.webhook import WebhookOptions, WebhookSink

KINDS: Final[dict[str, tuple[type[SinkOptions], Callable[[Any, Resources], Sink]]]] = {
    "command": (CommandOptions, CommandSink),
    "function": (FunctionOptions, FunctionSink),
    "file": (FileOptions, FileSink),
    "sqlite": (SqliteOptions, SqliteSink),
    "webhook": (WebhookOptions, WebhookSink),
}

OPTIONS: Final[dict[str, type[SinkOptions]]] = {kind: options for kind, (options, _) in KINDS.items()}


def open_sink(options: SinkOptions, resources: Resources) -> Sink:
    """Return the sink that ``options`` define. It does nothing until the first delivery."""
    _, sink = KINDS[options.kind]
    return sink(options, resources)
