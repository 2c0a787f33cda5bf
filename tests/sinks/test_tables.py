"""Records as rows: each once, all of a delivery or none, with columns that the configuration names."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fetchd.errors import SinkError
from fetchd.run import Delivery
from fetchd.sinks import Resources
from fetchd.sinks.sqlite import IN_THREAD, SqliteSink
from fetchd.worker import Workers
from tests.sinks.made import delivery, options, records, resources

COLUMNS = {"id": "id", "title": "attributes.title"}


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Resources]:
    """Give resources with one worker process."""
    workers = Workers(1)
    yield resources(tmp_path, workers=workers)
    await workers.aclose()


async def deliver(shared: Resources, *deliveries: Delivery, **values: Any) -> list[dict[str, Any]]:
    """Deliver, and return the rows of the table as another program reads them."""
    sink = SqliteSink(options("sqlite", path="x.db", **({"table": "offers", "columns": COLUMNS} | values)), shared)
    try:
        for one in deliveries:
            await sink.deliver(one)
    finally:
        await sink.aclose()
    return rows(shared.out)


def rows(out: Path) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    with closing(sqlite3.connect(out / "x.db")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM offers ORDER BY rowid")]


def prepare(out: Path, *statements: str) -> None:
    """Have the database in another form before the sink comes."""
    with closing(sqlite3.connect(out / "x.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def of_run(run: str, *values: object) -> Delivery:
    """Return the delivery of a Run."""
    return replace(records(*values, id=f"{run}-offers"), run=run)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"columns": {}}, "name a column"),
        ({"columns": {"a b": "a"}}, "pattern"),
        ({"columns": {'a"b': "a"}}, "pattern"),
        ({"columns": {"Delivery": "a"}}, "Delivery is a column that each table has"),
        ({"columns": {"a": "a", "A": "b"}}, "A is there twice"),
        ({"columns": {"a": "a["}}, "not a JMESPath expression"),
        ({"columns": {"a": "a"}, "key": "b"}, "key names one of the columns"),
        ({"key": "b"}, "key names one of the columns"),
    ],
)
def test_columns_are_plain_names_with_expressions(values: dict[str, Any], message: str) -> None:
    """They become part of the statements."""
    with pytest.raises(ValidationError, match=message):
        options("sqlite", path="x.db", **values)


async def test_a_record_is_a_row(shared: Resources) -> None:
    """With what is known of its delivery, in the upstream's order."""
    first, second = await deliver(shared, records({"id": 1, "attributes": {"title": "x"}}, {"id": 2}))
    assert first.pop("stored_at").endswith("Z")
    assert first == {
        "delivery": "d1",
        "number": 1,
        "job": "rates",
        "run": "r1",
        "slot": "2026-03-02T00:30:00+01:00",
        "status": 200,
        "url": "https://upstream.test/v1/rates",
        "id": 1,
        "title": "x",
    }
    assert (second["number"], second["id"], second["title"]) == (2, 2, None)


@pytest.mark.parametrize("padding", [0, IN_THREAD])
async def test_values_are_what_sqlite_can_hold(shared: Resources, padding: int) -> None:
    """What it has no type for is JSON or text; true is 1, as SQLite's own JSON functions have it.

    Half of a surrogate pair, which JSON can hold, is no reason to try the same rows for ever.
    """
    values = ["x", 1, 1.5, None, True, [1, "\u010d"], {"a": 1}, 2**63, -(2**63), "0'; DROP TABLE offers; --", "a\ud800"]
    given = records({"v": values, "padding": "x" * padding})
    columns = {f"c{number}": f"v[{number}]" for number in range(len(values))}
    [row] = await deliver(shared, given, columns=columns)
    assert [row[name] for name in columns] == [
        *("x", 1, 1.5, None, 1, '[1,"\u010d"]', '{"a":1}', str(2**63), -(2**63)),
        "0'; DROP TABLE offers; --",
        "a?",
    ]


@pytest.mark.parametrize("size", [3, 3000])
async def test_a_delivery_that_comes_again_adds_nothing(shared: Resources, size: int) -> None:
    """Whether a thread or a process has read it."""
    given = records(*({"id": number, "attributes": {"title": "x" * 20}} for number in range(size)))
    assert [row["id"] for row in await deliver(shared, given, given)] == list(range(size))


@pytest.mark.parametrize(
    ("content", "ids"),
    [(b'{"id": 1}', [1]), (b'[{"id": 1}, {"id": 2}]', [1, 2]), (b"[]", []), (b'[3, "x", null]', [None] * 3)],
)
async def test_json_without_lines_has_records_too(shared: Resources, content: bytes, ids: list[Any]) -> None:
    """An object is one, an array has one for each element."""
    assert [row["id"] for row in await deliver(shared, delivery(content))] == ids


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (delivery(b"1"), "holds no records"),
        (delivery(b"<html>s3cret"), "the result is not JSON"),
        (delivery(b'{"id": 1}\n{s3cret\n', content_type="application/x-ndjson"), "record 2 is not JSON"),
        (delivery(b"<html>s3cret" + b" " * IN_THREAD), "the result is not JSON"),
    ],
)
async def test_a_result_without_records_is_refused_for_good(shared: Resources, given: Delivery, message: str) -> None:
    """It will not have any the next time; and nothing of it is stored, nor told."""
    with pytest.raises(SinkError, match=rf"^x\.db: .*{message}") as caught:
        await deliver(shared, given)
    assert caught.value.permanent
    assert "s3cret" not in str(caught.value)


async def test_all_rows_or_none(shared: Resources, tmp_path: Path) -> None:
    """A result that is half there looks whole."""
    await deliver(shared, records({"id": 1}))
    prepare(tmp_path, "CREATE TRIGGER no BEFORE INSERT ON offers WHEN NEW.id = 3 BEGIN SELECT RAISE(FAIL, 'no'); END")
    with pytest.raises(SinkError, match="no"):
        await deliver(shared, records({"id": 2}, {"id": 3}, id="d2"))
    assert [row["id"] for row in rows(tmp_path)] == [1]


async def test_with_a_key_the_newest_record_counts(shared: Resources) -> None:
    """Also where an older delivery is replayed; records without the key stay apart."""

    def offer(id: object, title: str) -> dict[str, Any]:
        return {"id": id, "attributes": {"title": title}}

    old, new = of_run("1", offer(1, "old"), offer(2, "old"), offer(None, "a")), of_run("2", offer(1, "new"))
    found = await deliver(shared, old, new, old, new, of_run("3", offer(None, "b")), key="id")
    assert sorted((row["title"], row["id"], row["run"]) for row in found if row["id"] is not None) == [
        ("new", 1, "2"),
        ("old", 2, "1"),
    ]
    assert [row["title"] for row in found if row["id"] is None] == ["a", "b"]


async def test_a_missing_column_says_what_to_do(shared: Resources, tmp_path: Path) -> None:
    """And once that is done the sink goes on."""
    await deliver(shared, records({"id": 1}), columns={"id": "id"})
    with pytest.raises(SinkError) as caught:
        await deliver(shared, records({"id": 2}, id="d2"))
    assert caught.value.permanent
    remedy = 'ALTER TABLE "offers" ADD COLUMN "title"'
    assert str(caught.value) == f"x.db: the table offers has no column title: add it with {remedy}"
    prepare(tmp_path, remedy)
    assert [row["id"] for row in await deliver(shared, records({"id": 2}, id="d2"))] == [1, 2]


async def test_a_table_of_another_kind_is_left_alone(shared: Resources, tmp_path: Path) -> None:
    """One of whole results, for instance; and one whose key is not unique."""
    prepare(tmp_path, "CREATE TABLE offers (delivery TEXT PRIMARY KEY, id, title)")
    with pytest.raises(SinkError, match="was not made for records, it has no number: name another table"):
        await deliver(shared, records({"id": 1}))
    prepare(tmp_path, "DROP TABLE offers")
    await deliver(shared, records({"id": 1}, {"id": 1}))
    with pytest.raises(SinkError, match="rows of the table offers have the same id, the key") as caught:
        await deliver(shared, records({"id": 1}, id="d2"), key="id")
    assert caught.value.permanent


async def test_an_expression_that_explodes_ends_elsewhere(shared: Resources) -> None:
    """In a process whose memory is bounded, however small the record is."""
    given = records({"s": "x" * 30_000, "l": ["a"] * 7_000})
    assert given.fetched.body.size < IN_THREAD
    with pytest.raises(SinkError, match=r"takes more than \d+ MiB of memory") as caught:
        await deliver(shared, given, columns={"x": "join(s, l)"})
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("older", "newer"), [("r1", "r1.2"), ("r1.2", "r1.3"), ("r1.9", "r1.10"), ("r1.99", "r1.100"), ("r1.100", "r2")]
)
async def test_of_a_record_on_several_pages_the_last_one_counts(older: str, newer: str, shared: Resources) -> None:
    """Pages are counted: page ten comes after page nine."""
    first, last = (
        of_run(older, {"id": 1, "attributes": {"title": "old"}}),
        of_run(newer, {"id": 1, "attributes": {"title": "new"}}),
    )
    for replayed in ((first, last), (last, first)):
        assert [row["title"] for row in await deliver(shared, *replayed, key="id")] == ["new"]
