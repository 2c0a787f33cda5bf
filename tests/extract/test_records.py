"""From a body to a value or to records: what is found, what is left out, what is refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchd.errors import FetchError, Reason
from fetchd.extract.order import Order
from fetchd.extract.plain import Steps, parsed, written
from fetchd.extract.queries import query
from fetchd.extract.records import values
from fetchd.extract.seen import KEPT, MOST
from tests.extract.made import MIB, read, rows

BODY = b'{"data": [{"id": 1, "a": {"t": "x"}}, {"id": 2, "a": {"t": "y"}}], "none": null, "empty": []}'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def refusal(content: bytes, **keys: Any) -> FetchError:
    """Return why ``content`` cannot be read."""
    with pytest.raises(FetchError) as caught:
        read(content, **keys)
    assert not caught.value.transient
    assert caught.value.phase == "extract"
    return caught.value


class TestValues:
    """What an expression finds is the result."""

    @pytest.mark.parametrize(
        ("expression", "content", "content_type"),
        [
            ("data[0].a.t", b"x", "text/plain; charset=utf-8"),
            ("data[*].id", b"[1,2]", "application/json"),
            ("data[0].id", b"1", "application/json"),
            ("length(data) > `1`", b"true", "application/json"),
            ("empty", b"[]", "application/json"),
            ("data[].{id: id, t: a.t}", b'[{"id":1,"t":"x"},{"id":2,"t":"y"}]', "application/json"),
        ],
    )
    def test_it_is_delivered_in_its_own_type(self, expression: str, content: bytes, content_type: str) -> None:
        """A text is no JSON text: a token in quotes is of no use in a file."""
        answer = read(BODY, extract=expression)
        assert (answer.content, answer.content_type) == (content, content_type)

    @pytest.mark.parametrize("expression", ["none", "nothing.there", "data[7]"])
    @pytest.mark.parametrize("key", ["extract", "split"])
    def test_nothing_is_an_error(self, expression: str, key: str) -> None:
        """An API that has changed its form must not become an empty result without a word."""
        error = refusal(BODY, **{key: expression})
        assert (error.reason, str(error)) == (Reason.EXTRACT, f'"{expression}" found nothing')

    def test_a_function_that_cannot_take_its_argument_says_so_without_it(self) -> None:
        """The value is the upstream's, and may be a secret."""
        error = refusal(b'{"token": "s3cret"}', extract="sum(token)")
        assert str(error) == '"sum(token)" cannot be asked of it: sum() takes array-number, not string'

    @pytest.mark.parametrize("expression", ["sort(@)", "max(@)", "merge(@)", "no_such(@)", "abs(@, @)", "&id", "[&id]"])
    def test_whatever_the_library_raises_is_typed(self, expression: str) -> None:
        """An expression that compiles may still fail on what comes."""
        assert refusal(b'[1, "s3cret", null, {}]', extract=expression).reason is Reason.EXTRACT

    def test_many_are_asked_at_once(self) -> None:
        """Pages and cursors ask one body for several things; what is not there is null."""
        assert json.loads(values(Order(BODY, most=MIB), ("data[0].id", "nothing", "empty"), Steps())) == [1, None, []]


class TestSplit:
    """A list becomes records, each on a line."""

    def test_records_are_lines(self) -> None:
        """Programs read them one by one, in the upstream's order."""
        answer = read(BODY, split="data")
        assert rows(answer) == [{"id": 1, "a": {"t": "x"}}, {"id": 2, "a": {"t": "y"}}]
        assert answer.records == 2

    def test_it_comes_after_extract(self) -> None:
        """The one says where, the other what."""
        assert rows(read(BODY, extract="data", split="[*].a")) == [{"t": "x"}, {"t": "y"}]

    def test_an_object_is_one_record(self) -> None:
        """Some APIs leave the list away where there is one."""
        assert rows(read(BODY, split="data[0]")) == [{"id": 1, "a": {"t": "x"}}]

    def test_an_empty_list_has_no_records(self) -> None:
        """Nothing is new, and nothing is wrong."""
        answer = read(BODY, split="empty")
        assert (answer.records, answer.content) == (0, b"")

    @pytest.mark.parametrize("expression", ["data[0].id", "data[0].a.t", "`true`"])
    def test_a_single_value_is_an_error(self, expression: str) -> None:
        """It was to be a list."""
        assert str(refusal(BODY, split=expression)).endswith("neither a list nor an object")

    @given(st.lists(JSON))
    def test_a_record_stays_on_its_line(self, records: list[Any]) -> None:
        """Whatever line ends it holds, and it is the same afterwards."""
        answer = read(json.dumps(records).encode(), split="@")
        assert rows(answer) == records
        assert isinstance(answer.content, bytes)
        assert answer.content.count(b"\n") == len(records) == answer.records

    def test_the_result_is_bounded(self) -> None:
        """To the byte."""
        assert read(b"[1,2,3]", split="@", most=6).size == 6
        error = refusal(b"[1,2,3]", split="@", most=5)
        assert (error.reason, str(error)) == (
            Reason.TOO_LARGE,
            "what is extracted is larger than max_body, 5 bytes",
        )


class TestUnique:
    """Each record once, over all Runs."""

    def test_what_was_seen_is_left_out(self) -> None:
        """Within a body too."""
        first = read(b'[{"id": 1}, {"id": 2}, {"id": 1, "again": 1}]', split="@", unique="id")
        assert rows(first) == [{"id": 1}, {"id": 2}]
        second = read(b'[{"id": 3}, {"id": 2}]', split="@", unique="id", seen=first.seen)
        assert rows(second) == [{"id": 3}]
        assert second.seen[: len(first.seen)] == first.seen
        third = read(b'[{"id": 2}, {"id": 3}]', split="@", unique="id", seen=second.seen)
        assert (third.records, third.seen) == (0, second.seen)

    def test_identities_keep_their_types(self) -> None:
        """The number 1 is not the text "1", and false is not null."""
        content = b'[{"id": 1}, {"id": "1"}, {"id": true}, {"id": [1]}, {"id": false}, {"id": 0}]'
        assert read(content, split="@", unique="id").records == 6

    def test_a_record_without_an_identity_is_told_by_all_of_it(self) -> None:
        """It is neither lost nor delivered for ever; the order of its keys does not count."""
        answer = read(b'[{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}]', split="@", unique="id")
        assert answer.records == 2

    def test_memory_is_bounded_but_never_forgets_what_is_still_there(self) -> None:
        """What was forgotten while it is still listed would be delivered again, each time."""
        old = read(json.dumps([{"id": number} for number in range(KEPT)]).encode(), split="@", unique="id")
        assert len(old.seen) == KEPT
        new = read(b'[{"id": 0}, {"id": "new"}]', split="@", unique="id", seen=old.seen)
        assert len(new.seen) == KEPT
        assert new.seen[0] == old.seen[0]
        assert old.seen[1] not in new.seen
        many = json.dumps([{"id": number} for number in range(MOST + 1)]).encode()
        assert str(refusal(many, split="@", unique="id")) == (
            "unique goes with at most 50000 records in a body: let the sink tell them apart"
        )
        many = json.dumps([{"id": number} for number in range(KEPT + 10)]).encode()
        assert len(read(many, split="@", unique="id").seen) == KEPT + 10

    @given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6))
    def test_every_record_comes_once(self, bodies: list[list[int]]) -> None:
        """However bodies overlap."""
        seen: tuple[str, ...] = ()
        delivered = []
        for body in bodies:
            answer = read(json.dumps(body).encode(), split="@", unique="@", seen=seen)
            delivered += rows(answer)
            seen = answer.seen
        assert delivered == list(dict.fromkeys(number for body in bodies for number in body))


class TestJson:
    """JSON, strictly."""

    @given(JSON)
    def test_what_is_written_is_what_was_read(self, value: Any) -> None:
        """Half of a surrogate pair too, which no UTF-8 holds."""
        assert parsed(written(value, MIB, "it")) == value
        assert parsed(json.dumps(value).encode("utf-16")) == value

    def test_a_lone_surrogate_survives(self) -> None:
        """JSON may hold one, escaped."""
        assert read(b'["\\ud800"]', extract="@").content == b'["\\ud800"]'

    def test_of_a_key_that_is_there_twice_the_last_one_counts(self) -> None:
        """As with everything else that reads JSON in Python, JavaScript and jq."""
        assert read(b'{"a": 1, "a": 2}', extract="a").content == b"2"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "the body is not JSON: Expecting value at line 1, column 1"),
            (b"<html>s3cret", "the body is not JSON: Expecting value at line 1, column 1"),
            (b'{"a": s3cret}', "the body is not JSON: Expecting value at line 1, column 7"),
            (b'{"a": "\xff s3cret"}', "the body is not JSON: it is not UTF-8"),
            (b"[NaN]", "the body is not JSON: NaN is no number"),
            (b"[-Infinity]", "the body is not JSON: -Infinity is no number"),
            (b"[" * 100_000, "the body is nested too deeply"),
            (b'{"a":' * 100_000, "the body is nested too deeply"),
            (b"9" * 5000, "the body holds a number of more than 4300 digits"),
            (b"1 s3cret", "the body is not JSON: Extra data at line 1, column 3"),
        ],
    )
    def test_what_is_no_json_says_where_and_repeats_nothing(self, content: bytes, message: str) -> None:
        """A body may hold secrets, and its error goes to logs and pages."""
        assert str(refusal(content, extract="@")) == message

    def test_a_number_beyond_all_floats_is_refused(self) -> None:
        """Written back it would be Infinity, which is no JSON."""
        assert "a number that is too large" in str(refusal(b"[1e999]", extract="@"))

    @pytest.mark.skipif(sys.version_info >= (3, 12), reason="newer Pythons write whatever depth they read")
    def test_nesting_that_can_be_read_but_not_written_is_refused(self) -> None:
        """An expression nests further."""
        deep = b"[" * 900 + b"]" * 900
        assert str(refusal(deep, extract="@" + "|[@]" * 200)).endswith("nested too deeply")


class TestSteps:
    """What is followed on the loop, and what is not."""

    @pytest.mark.parametrize(
        "expression",
        [
            "data[*].id",
            "data[*].{id: id, t: a.t, u: b, v: c, w: d, x: e}",
            "[a, b, c, d, e, f]",
            "sort_by(data, &id)[0]",
        ],
    )
    def test_an_ordinary_expression_is_bounded_by_its_body(self, expression: str) -> None:
        """Different keys of a value have nothing in common."""
        assert query(expression)._growth <= 2

    @pytest.mark.parametrize(
        "expression",
        [
            "@|[@,@]|[@,@]|[@,@]",
            "[@,@,@,@,@]",
            "join(sep, list)",
            "[[a,a],[a,a],a]",
            "{a: to_string(@), b: to_string(@)}",
        ],
    )
    def test_an_expression_that_multiplies_is_no_work_for_the_loop(self, expression: str) -> None:
        """A line of multi-selects is an exponential."""
        assert query(expression)._growth > 4

    @given(JSON, st.sampled_from(["@", "*", "[*].a", "a[].b", "[?a].b", "length(@)", "keys(@)[0]", "[a, b.c, @]"]))
    def test_both_ways_find_the_same(self, value: Any, expression: str) -> None:
        """Counting the steps changes nothing."""
        found = []
        for steps in (Steps(), Steps(100_000)):
            try:
                found.append(query(expression).of(value, steps))
            except FetchError as error:
                found.append(str(error))
        assert found[0] == found[1]
