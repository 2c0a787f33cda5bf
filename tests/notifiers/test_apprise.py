"""Messages to the services of apprise, in a real worker process: its own JSON service stands for all of them."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
from pydantic import ValidationError

from fetchd.errors import UserCodeError
from fetchd.notifiers.message import NotifyError
from fetchd.worker import Workers
from tests.notifiers.made import MESSAGE, notifier, options
from tests.receiver import receiving

INSTALLED = importlib.util.find_spec("apprise") is not None


@pytest.mark.skipif(not INSTALLED, reason="needs the Python package apprise")
async def test_it_sends_from_a_process_of_its_own() -> None:
    """What it takes of memory goes with the process; a service that fails is named, and nothing of its address."""
    workers = Workers(1)
    try:
        async with receiving() as receiver:
            address = receiver.url.replace("http://", "json://user:s3cret@")
            good = notifier("apprise", parts={"workers": workers}, urls=[f"{address}/hook"])
            await good.notify(MESSAGE)
            [taken] = receiver.taken
            sent = json.loads(taken.body)
            assert (sent["title"], sent["message"], sent["type"]) == (MESSAGE.title, MESSAGE.text, "failure")
            receiver.answers = [204, 500]
            bad = notifier("apprise", parts={"workers": workers}, urls=[address, address, "nonsense://s3cret"])
            with pytest.raises(NotifyError) as caught:
                await bad.notify(MESSAGE)
            assert str(caught.value) == "2 of 3 services did not take it: json, nonsense"
    finally:
        await workers.aclose()
    assert "apprise" not in sys.modules


class Broken(Workers):
    """Has no package apprise."""

    async def call(self, *_: object, **__: object) -> None:
        """Fail as a worker process does."""
        raise UserCodeError("Traceback (most recent call last):\n  ...\nModuleNotFoundError: No module named 'apprise'")


async def test_a_process_that_fails_is_an_error_of_one_line() -> None:
    """It goes into a line of the log."""
    with pytest.raises(NotifyError, match=r"^ModuleNotFoundError: No module named 'apprise'$"):
        await notifier("apprise", parts={"workers": Broken()}, urls=["json://h"]).notify(MESSAGE)


def test_its_addresses_are_secrets_and_judged() -> None:
    """As far as can be done without the package."""
    made = options("apprise", urls=["mailto://me:s3cret@example.com"])
    assert "s3cret" not in repr(made) + made.model_dump_json()
    assert [secret.reveal() for secret in made.secrets()] == ["mailto://me:s3cret@example.com"]
    for urls in ([], ["s3cret"]):
        with pytest.raises(ValidationError) as caught:
            options("apprise", urls=urls)
        assert "s3cret" not in caught.value.errors()[0]["msg"]
