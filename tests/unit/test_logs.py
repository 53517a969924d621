"""Log lines: constant events with fields, on one line each."""

import io
import json
import logging

import pytest

from penstock.logs import MAX_FIELD_CHARACTERS, configure, logger


@pytest.fixture
def stream():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    own = logging.getLogger("penstock").level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("penstock").setLevel(own)


def test_logfmt_quotes_what_needs_it(stream):
    configure("logfmt", "info", stream)
    logger("http").warning("request_refused", text='a "b"\nc', plain="x", count=3, none=None)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert (
        'level=warn room=http event=request_refused text="a \\"b\\"\\nc" plain=x count=3 none=null'
        in line
    )


def test_json_is_an_object_a_line(stream):
    configure("json", "debug", stream)
    logger("app").debug("ready", http="127.0.0.1:1", level="mine")
    record = json.loads(stream.getvalue())
    assert (record["event"], record["room"], record["level"]) == ("ready", "app", "debug")
    assert record["level_"] == "mine"
    assert record["time"].endswith("Z")


def test_levels_below_the_setting_are_left_out(stream):
    configure("logfmt", "warning", stream)
    logger("app").info("quiet")
    logger("core").at("WARN", "loud", {})
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_exceptions_stay_on_the_line(stream):
    configure("logfmt", "info", stream)
    try:
        raise ValueError("why")
    except ValueError:
        logger("app").exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError: why" in stream.getvalue()


def test_fields_are_cut(stream):
    configure("json", "info", stream)
    logger("app").info("long", text="x" * 10_000)
    assert len(json.loads(stream.getvalue())["text"]) == MAX_FIELD_CHARACTERS
