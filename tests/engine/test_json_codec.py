"""JSON of events: what json.dumps and json.loads say, with bytes taken out on the way."""

import json
import math
import random
from types import SimpleNamespace
from typing import Any

import pytest

from streamserve.engine.json_codec import MOST_DIGITS, JsonCodec
from streamserve.engine.payloads import MalformedPayload

CODEC = JsonCodec()
LONG = "1" * (MOST_DIGITS + 1)
VALUES = [
    [],
    ["event"],
    ["event", None, True, False, 0, -1, 1.5, 1e300, 'é €  \U0001f600 "\\/\n\x00\ud800'],
    {"a": {"b": [{"c": {}}]}, "1": 1},
    "text",
    12,
    {1: "a", None: "b", False: "c"},
]


@pytest.mark.parametrize("value", VALUES)
def test_says_what_the_standard_library_says(value: Any) -> None:
    text, attachments = CODEC.dumps(value)
    assert (text, attachments) == (json.dumps(value, separators=(",", ":")), [])
    assert CODEC.loads(text) == json.loads(text)


def test_bytes_become_attachments_in_the_order_of_their_places() -> None:
    text, attachments = CODEC.dumps(["file", b"one", {"deep": [bytearray(b"two")], "same": b"one"}])
    place = '{"_placeholder":true,"num":%d}'
    assert text == f'["file",{place % 0},{{"deep":[{place % 1}],"same":{place % 2}}}]'
    assert attachments == [b"one", b"two", b"one"]


@pytest.mark.parametrize("value", [object(), {b"key": 1}, {"a": [object(), b"bytes"]}, [b"bytes", object()]])
def test_what_json_does_not_have_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        CODEC.dumps(value)
    assert CODEC.dumps([1]) == ("[1]", [])


def test_what_contains_itself_is_a_value_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="Circular"):
        CODEC.dumps(loop)


@pytest.mark.parametrize("text", ["", "[", "[1] x", "{'a':1}", "[" * 100_000, f"[{LONG}]", f'["{"x" * 300}",{LONG}]'])
def test_what_is_no_json_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPayload):
        CODEC.loads(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_becomes_null_as_in_javascript(value: float) -> None:
    data = [value, {"a": [(value, 1.5)], value: "key"}]
    assert CODEC.dumps(data) == (f'[null,{{"a":[[null,1.5]],"{value}":"key"}}]', [])
    assert CODEC.dumps([value, b"x"]) == ('[null,{"_placeholder":true,"num":0}]', [b"x"])


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a":-Infinity}', f'["{"9" * 300}",NaN]'])
def test_what_only_python_takes_for_json_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPayload):
        CODEC.loads(text)


@pytest.mark.parametrize("text", [f'["{LONG}"]', f"[{LONG[1:]}]", "[1]\n ", '["' + "12 " * 200 + '"]'])
def test_digits_in_text_and_integers_up_to_the_limit_are_taken(text: str) -> None:
    assert CODEC.loads(text) == json.loads(text)


def test_a_long_integer_is_found_wherever_it_stands() -> None:
    generator = random.Random(7)
    for _ in range(500):
        before = generator.randrange(200)
        with pytest.raises(MalformedPayload):
            CODEC.loads(f'["{"a" * before}",{LONG}]')


def test_another_module_may_give_bytes_and_need_not_know_separators() -> None:
    def dumps(value: Any, default: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), default=default).encode()

    codec = JsonCodec(SimpleNamespace(dumps=dumps, loads=json.loads))
    assert codec.dumps(["a", b"b"]) == ('["a",{"_placeholder":true,"num":0}]', [b"b"])
    assert codec.dumps([1, 2]) == ("[1,2]", [])
    assert codec.loads("[1]") == [1]
    spaced = JsonCodec(SimpleNamespace(dumps=json.dumps, loads=json.loads))
    assert spaced.dumps([1, 2]) == ("[1,2]", [])
