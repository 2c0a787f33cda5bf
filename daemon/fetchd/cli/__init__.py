"""Words on the command line, and the exit status that each of them ends with."""

from __future__ import annotations

import click

from fetchd import __version__
from fetchd.cli import completion, control, daemon, importing, notify, past
from fetchd.cli.shared import open_standard_streams

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fetchd", message="%(prog)s %(version)s")
def main() -> None:
    """Fetch over HTTP on a schedule and hand each result on."""
    open_standard_streams()


for verb in (
    *(daemon.run, daemon.check, daemon.once, daemon.explain, daemon.example, daemon.schema, daemon.demo),
    *(control.status, control.trigger, control.pause, control.resume, control.reload),
    *(past.history, past.dead),
    notify.notify,
    completion.completion,
    importing.importing,
):
    main.add_command(verb)
