"""Messages sent on over HTTP, by the real client."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from fetchd.notifiers.message import Message, NotifyError
from tests.notifiers.made import MESSAGE, notifier, options
from tests.receiver import Taken, receiving, sending


async def sent(**values: object) -> Taken:
    """Return the request that a notifier sends."""
    async with receiving() as receiver, sending() as send:
        await notifier("webhook", parts={"send": send}, url=receiver.url + "/hook", **values).notify(MESSAGE)
        return receiver.taken[0]


async def test_json_has_all_fields() -> None:
    """The documented shape; a receiver that knows the id knows that it has the message already."""
    taken = await sent(headers={"X-Key": "k"})
    assert (taken.method, taken.target, taken.headers["x-key"]) == ("POST", "/hook", "k")
    assert (taken.headers["content-type"], taken.headers["idempotency-key"]) == ("application/json", "m1")
    assert json.loads(taken.body) == {
        "version": 1,
        "id": "m1",
        "time": "2026-03-02T12:00:00+00:00",
        "host": "box",
        "state": "problem",
        "title": "fetchd on box: a is failing: dns",
        "text": "3 in a row: <no> & such",
        "jobs": [{"job": "a", "kind": "failing", "change": "new"}],
        "daemon": [],
        "more": 0,
        "dropped": 0,
    }


async def test_slack_has_a_text_that_is_no_markup() -> None:
    """An upstream's error text must not make links or call everybody."""
    taken = await sent(format="slack")
    assert json.loads(taken.body) == {"text": "*fetchd on box: a is failing: dns*\n3 in a row: &lt;no&gt; &amp; such"}


async def test_text_is_plain_and_the_operators_content_type_wins() -> None:
    """For whatever takes a body."""
    taken = await sent(format="text", method="PUT", headers={"content-type": "text/markdown"})
    assert (taken.method, taken.headers["content-type"]) == ("PUT", "text/markdown")
    assert taken.body == b"fetchd on box: a is failing: dns\n\n3 in a row: <no> & such"


@pytest.mark.parametrize(
    ("answer", "message", "permanent"),
    [
        (400, "answered 400", True),
        (404, "answered 404", False),
        (302, "answered 302: redirects are not followed", False),
        (503, "answered 503", False),
        ("reset", "", False),
    ],
)
async def test_what_is_not_taken_is_an_error_without_the_path(answer: int, message: str, permanent: bool) -> None:
    """The path is the secret of chat tools; only what the receiver has against the message itself is final."""
    async with receiving() as receiver, sending() as send:
        receiver.answers = [answer]
        with pytest.raises(NotifyError) as caught:
            await notifier("webhook", parts={"send": send}, url=f"{receiver.url}/s3cret?k=s3cret").notify(MESSAGE)
    assert str(caught.value).startswith(receiver.url)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.permanent is permanent


def test_the_whole_address_is_a_secret() -> None:
    """Also where it is written in the file itself."""
    made = options("webhook", url="https://hooks.test/services/T0/s3cret")
    assert [secret.reveal() for secret in made.secrets()] == ["https://hooks.test/services/T0/s3cret"]
    assert "s3cret" not in repr(made) + made.model_dump_json()
    with pytest.raises(ValidationError) as caught:
        options("webhook", url="hooks.test/s3cret")
    assert "s3cret" not in caught.value.errors()[0]["msg"]


def test_a_message_survives_being_kept() -> None:
    """It is written down before it is sent."""
    assert Message.from_payload(json.loads(MESSAGE.to_json())) == MESSAGE
