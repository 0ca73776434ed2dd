"""JSON of events: what json.dumps and json.loads say, with bytes taken out on the way."""

import json
import math
import random
from datetime import date
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[1] x",
        "{'a':1}",
        "\u00a0[1]",
        "[1]\u00a0",
        " \n",
        "[" * 100_000,
        f"[{LONG}]",
        f'["{"x" * 300}",{LONG}]',
    ],
)
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


@pytest.mark.parametrize(
    "text", [f'["{LONG}"]', f"[{LONG[1:]}]", "[1]\n ", " \t\n\r[1]", f' ["{LONG}"] ', '["' + "12 " * 200 + '"]']
)
def test_digits_in_text_and_integers_up_to_the_limit_are_taken(text: str) -> None:
    assert CODEC.loads(text) == json.loads(text)


def test_a_long_integer_is_found_wherever_it_stands() -> None:
    generator = random.Random(7)
    for _ in range(500):
        before = generator.randrange(200)
        with pytest.raises(MalformedPayload):
            CODEC.loads(f'["{"a" * before}",{LONG}]')


def test_another_module_may_give_bytes_and_need_not_know_separators() -> None:
    def dumps(value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()

    codec = JsonCodec(SimpleNamespace(dumps=dumps, loads=json.loads))
    assert codec.dumps(["a", b"b"]) == ('["a",{"_placeholder":true,"num":0}]', [b"b"])
    assert codec.dumps([1, 2]) == ("[1,2]", [])
    assert codec.loads("[1]") == [1]
    spaced = JsonCodec(SimpleNamespace(dumps=json.dumps, loads=json.loads))
    assert spaced.dumps([1, 2]) == ("[1,2]", [])


class _Textual(json.JSONEncoder):
    def default(self, o: Any) -> str:
        return str(o)


def _positional(*args: Any, **options: Any) -> str:
    return json.dumps(*args, **{**options, "default": str})


MODULES = {
    "a class of encoder": SimpleNamespace(dumps=partial(json.dumps, cls=_Textual), loads=json.loads),
    "a default": SimpleNamespace(dumps=lambda data, **options: json.dumps(data, default=str, **options), loads=1),
    "separators only": SimpleNamespace(
        dumps=lambda data, separators=None: json.dumps(data, separators=separators, default=str), loads=1
    ),
    "any arguments": SimpleNamespace(dumps=_positional, loads=json.loads),
}
DAY = date(2020, 1, 1)


@pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))
def test_what_another_encoder_can_write_it_writes_itself(module: Any) -> None:
    codec = JsonCodec(module)
    assert codec.dumps([DAY, {"a": (DAY, UUID(int=1))}]) == (
        f'["2020-01-01",{{"a":["2020-01-01","{UUID(int=1)}"]}}]',
        [],
    )
    place = '{"_placeholder":true,"num":%d}'
    assert codec.dumps([DAY, {"b": (b"x", DAY), "c": bytearray(b"y")}]) == (
        f'["2020-01-01",{{"b":[{place % 0},"2020-01-01"],"c":{place % 1}}}]',
        [b"x", b"y"],
    )


def test_the_json_of_flask_writes_what_it_writes_elsewhere() -> None:
    flask = pytest.importorskip("flask")
    codec = JsonCodec(flask.json)
    text = '{"t":"Wed, 01 Jan 2020 00:00:00 GMT"}'
    assert codec.dumps({"t": DAY}) == (text, [])
    with flask.Flask("app").app_context():
        assert codec.dumps([b"x", {"t": DAY}]) == (f'[{{"_placeholder":true,"num":0}},{text}]', [b"x"])


def test_orjson_finds_bytes_by_itself() -> None:
    asked: list[Any] = []

    def dumps(data: Any, default: Any = None) -> bytes:
        asked.append(default)
        return json.dumps(data, separators=(",", ":"), default=default).encode()

    codec = JsonCodec(SimpleNamespace(__name__="orjson", dumps=dumps, loads=json.loads))
    asked.clear()
    assert codec.dumps([1, {"a": b"x"}]) == ('[1,{"a":{"_placeholder":true,"num":0}}]', [b"x"])
    assert len(asked) == 2 and all(asked)


@pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))
def test_what_contains_itself_is_an_error_of_the_module(module: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises((ValueError, RecursionError)):
        JsonCodec(module).dumps(loop)


def test_whatever_another_module_raises_the_text_is_malformed() -> None:
    def loads(_: str) -> Any:
        raise LookupError("what a parser of others raises")

    with pytest.raises(MalformedPayload, match="what a parser of others raises"):
        JsonCodec(SimpleNamespace(dumps=json.dumps, loads=loads)).loads("[")
