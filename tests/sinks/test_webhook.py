"""Results sent on: what the receiver's answer means for the delivery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fetchd.errors import FetchError, Reason, SinkError
from fetchd.job import Timeouts
from fetchd.secret import SecretSource
from fetchd.sinks import Outgoing
from fetchd.sinks.webhook import BATCH_BYTES, WebhookOptions, WebhookSink
from tests.sinks.made import delivery, options, records, resources


class Receiver:
    """Records what is sent, and answers as it is told to."""

    def __init__(self, answer: int | FetchError = 204) -> None:
        self.sent: list[Outgoing] = []
        self.answer = answer

    async def send(self, outgoing: Outgoing) -> int:
        """Take a request."""
        self.sent.append(outgoing)
        if isinstance(self.answer, FetchError):
            raise self.answer
        return self.answer


def sink(receiver: Receiver, **values: object) -> WebhookSink:
    """Return a sink that sends to ``receiver``."""
    defaults = {"url": "https://user:word@receiver.test/hook/s3cret?key=s3cret"}
    return WebhookSink(options("webhook", **(defaults | values)), resources(Path(), send=receiver.send))


async def test_the_body_goes_out_with_the_deliverys_id() -> None:
    """A receiver that has seen the id knows that it has the result already."""
    receiver = Receiver()
    sent = delivery()
    await sink(receiver, method="PUT", headers={"X-Api-Key": "k"}, timeout="3s").deliver(sent)
    [outgoing] = receiver.sent
    assert (outgoing.method, outgoing.url) == ("PUT", "https://user:word@receiver.test/hook/s3cret?key=s3cret")
    assert outgoing.headers == {
        "X-Api-Key": "k",
        "Content-Type": "application/json",
        "Idempotency-Key": "d1",
        "X-Fetchd-Job": "rates",
        "X-Fetchd-Run": "r1",
        "X-Fetchd-Slot": "2026-03-02T00:30:00+01:00",
        "X-Fetchd-Delivery": "d1",
    }
    assert outgoing.body is sent.fetched.body
    assert outgoing.timeouts == Timeouts.model_validate("3s")


@pytest.mark.parametrize(
    ("declared", "sent"),
    [("", "application/octet-stream"), ("text/\udcff\r\nX: y", "text/???X: y"), ("text/html", "text/html")],
)
async def test_the_content_type_is_fit_to_be_sent(declared: str, sent: str) -> None:
    """An upstream's header becomes ours: it must not become two."""
    receiver = Receiver()
    await sink(receiver).deliver(delivery(content_type=declared))
    assert receiver.sent[0].headers["Content-Type"] == sent


async def test_the_operators_content_type_wins() -> None:
    """Whichever way it is spelt."""
    receiver = Receiver()
    await sink(receiver, headers={"content-type": "text/plain"}).deliver(delivery())
    assert receiver.sent[0].headers["content-type"] == "text/plain"
    assert "Content-Type" not in receiver.sent[0].headers


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_a_good_answer_is_a_receipt(status: int) -> None:
    """Whatever the receiver does with it afterwards."""
    await sink(Receiver(status)).deliver(delivery())


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        *((passing, False) for passing in (408, 425, 429, 500, 503, 599)),
        *((lasting, True) for lasting in (199, 400, 401, 404, 410, 422, 600)),
    ],
)
async def test_other_answers_say_whether_to_try_again(status: int, permanent: bool) -> None:
    """What the receiver does not want now it will not want later, unless it says otherwise."""
    with pytest.raises(SinkError, match=f"https://receiver.test answered {status}") as caught:
        await sink(Receiver(status)).deliver(delivery())
    assert caught.value.permanent is permanent


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """They would take the result where the operator did not send it."""
    with pytest.raises(SinkError, match="redirects are not followed") as caught:
        await sink(Receiver(status)).deliver(delivery())
    assert caught.value.permanent


@pytest.mark.parametrize("transient", [True, False])
async def test_no_answer_is_as_passing_as_its_cause(transient: bool) -> None:
    """The client knows; and no message shows the path, which is often the secret."""
    error = FetchError(Reason.CONNECT, "connection refused", transient=transient)
    with pytest.raises(SinkError) as caught:
        await sink(Receiver(error)).deliver(delivery())
    assert str(caught.value) == "https://receiver.test: connection refused"
    assert caught.value.permanent is not transient


@pytest.mark.parametrize(
    "url", ["ftp://x/", "receiver.test", "http://", "https:///x", "http://[x", "http://x:99999/", "http://x/a b", "x"]
)
def test_an_unsound_url_is_a_finding_without_the_url(url: str) -> None:
    """It may hold a secret even so."""
    with pytest.raises(ValidationError) as caught:
        options("webhook", url=url)
    assert caught.value.errors()[0]["msg"] == "Value error, write an http or https URL"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("X Y", "v", "is not a header's name"),
        ("", "v", "is not a header's name"),
        ("X", "a\r\nY: b", "cannot be sent"),
        ("X", "schön", "cannot be sent"),
        ("Host", "v", "is set by fetchd"),
        ("content-length", "3", "is set by fetchd"),
        ("Idempotency-Key", "v", "is set by fetchd"),
        ("X-Fetchd-Job", "v", "is set by fetchd"),
    ],
)
def test_an_unsound_header_is_a_finding_without_its_value(name: str, value: str, message: str) -> None:
    """A header's value is a secret."""
    with pytest.raises(ValidationError, match=message) as caught:
        options("webhook", url="http://x/", headers={name: value})
    assert "a\r\n" not in caught.value.errors()[0]["msg"]


def test_secrets_are_read_where_they_are(tmp_path: Path) -> None:
    """And checked as if they were written inline."""
    source = SecretSource({"HOOK": "http://x/"}, tmp_path)
    raw = {"kind": "webhook", "url": {"env": "HOOK"}}
    assert WebhookOptions.model_validate(raw, context={"secrets": source}).url.reveal() == "http://x/"
    assert WebhookOptions.model_validate(raw).url.reveal() == ""


class TestBatches:
    """Records, several in a request."""

    @staticmethod
    def told(receiver: Receiver) -> list[tuple[str, object]]:
        """Return the keys and the contents of what was sent."""
        assert all(outgoing.headers["Content-Type"] == "application/json" for outgoing in receiver.sent)
        contents = [outgoing.body.content or b"" for outgoing in receiver.sent]
        return [
            (outgoing.headers["Idempotency-Key"], json.loads(content))
            for outgoing, content in zip(receiver.sent, contents, strict=True)
        ]

    async def test_records_come_as_arrays(self) -> None:
        """Each array with a key of its own, and all of them with the delivery's id."""
        receiver = Receiver()
        await sink(receiver, batch=2).deliver(records(1, {"a": "\n"}, 3))
        assert self.told(receiver) == [("d1-1", [1, {"a": "\n"}]), ("d1-2", [3])]
        assert {outgoing.headers["X-Fetchd-Delivery"] for outgoing in receiver.sent} == {"d1"}

    @pytest.mark.parametrize("values", [{}, {"batch": 2}])
    async def test_what_has_no_records_goes_as_it_is(self, values: dict[str, int]) -> None:
        """And so do records where no batch is asked for: as lines."""
        receiver = Receiver()
        given = delivery() if values else records(1, 2, 3)
        await sink(receiver, **values).deliver(given)
        assert receiver.sent[0].body is given.fetched.body
        assert receiver.sent[0].headers["Idempotency-Key"] == "d1"

    async def test_a_further_try_goes_on_where_the_last_one_ended(self) -> None:
        """What was taken is not sent again; another delivery begins with its own first batch."""
        receiver = Receiver()

        async def send(outgoing: Outgoing) -> int:
            receiver.answer = 503 if len(receiver.sent) == 1 else 204
            return await receiver.send(outgoing)

        target = WebhookSink(options("webhook", url="https://receiver.test/", batch=1), resources(Path(), send=send))
        given = records(1, 2, 3)
        with pytest.raises(SinkError, match="503"):
            await target.deliver(given)
        await target.deliver(given)
        await target.deliver(records(9, id="d2"))
        assert [key for key, _ in self.told(receiver)] == ["d1-1", "d1-2", "d1-2", "d1-3", "d2-1"]

    async def test_a_batch_is_made_in_memory_and_bounded(self, tmp_path: Path) -> None:
        """A spooled result is not: large records come in fewer than asked for, whatever pieces the file is read in."""
        big = records(*["x" * 400_000] * 7)
        spooled = tmp_path / "spooled"
        spooled.write_bytes(await big.fetched.body.read())
        receiver = Receiver()
        await sink(receiver, batch=100).deliver(delivery(spooled, content_type="application/x-ndjson"))
        assert [[len(record) for record in content] for _, content in self.told(receiver)] == [  # type: ignore[attr-defined]
            [400_000] * 3,
            [400_000] * 3,
            [400_000],
        ]
        assert max(outgoing.body.size for outgoing in receiver.sent) < 2 * BATCH_BYTES

    @pytest.mark.parametrize("batch", [0, -1, 100_001])
    def test_a_batch_holds_something(self, batch: int) -> None:
        """And not without end."""
        with pytest.raises(ValidationError):
            options("webhook", url="http://x/", batch=batch)
