"""Tables that both languages use, and what the built module says of itself."""

import importlib.metadata
import json

import pytest

from penstock import _core, outcomes
from penstock.table.schema import TABLES


def test_codes_of_the_core_are_the_keys_of_the_outcome_table() -> None:
    assert [code for code, _, _ in _core.codes()] == list(dict.fromkeys(outcomes.OUTCOMES))


def test_overload_codes_and_no_others_may_be_sent_again() -> None:
    for code, scope, _ in _core.codes():
        assert scope in {"event", "request", "overload"}
        assert outcomes.outcome_of(code).retryable == (scope == "overload"), code


def test_texts_repeated_by_the_fronts_are_those_of_the_core() -> None:
    texts = {code: text for code, _, text in _core.codes()}
    for code, text in outcomes.PUBLIC_TEXTS_USED_HERE.items():
        assert texts[code] == text


def test_endpoints_have_unique_names_and_numbers() -> None:
    endpoints = _core.endpoints()
    assert {"batch", "e", "i/v0/e", "capture", "track", "engage"} <= dict(endpoints).keys()
    assert len(dict(endpoints)) == len({number for _, number in endpoints}) == len(endpoints)


def test_module_tells_its_build() -> None:
    assert _core.__version__ == importlib.metadata.version("penstock")
    assert _core.BUILD_PROFILE in {"debug", "release"}
    assert _core.BUILD_FEATURES == ("testing",)


@pytest.mark.parametrize("table", TABLES)
def test_schema_is_delta_json_with_columns(table: str) -> None:
    schema = json.loads(_core.arrow_schema_json(table))
    assert schema["type"] == "struct"
    assert {"name", "type", "nullable"} <= schema["fields"][0].keys()


def test_unknown_table_has_no_schema() -> None:
    with pytest.raises((_core.CoreError, ValueError)):
        _core.arrow_schema_json("people")
