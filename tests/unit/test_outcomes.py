"""The table of statuses against the core's table of codes."""

import http

import pytest

from penstock.outcomes import (
    INTERNAL,
    OUTCOMES,
    PUBLIC_TEXTS_USED_HERE,
    outcome_of,
    whole_request_refused_text,
)

_core = pytest.importorskip("penstock._core")


def test_every_code_of_the_core_has_an_outcome_and_no_other():
    assert set(OUTCOMES) == {code for code, _, _ in _core.codes()}


def test_texts_are_those_of_the_core():
    texts = {code: text for code, _, text in _core.codes()}
    for code, text in PUBLIC_TEXTS_USED_HERE.items():
        assert texts[code] == text


def test_overload_is_503_and_retryable_and_nothing_else_is():
    for code, scope, _ in _core.codes():
        outcome = outcome_of(code)
        assert outcome.retryable is (scope == "overload"), code
        assert (outcome.http_status == 503) is (scope == "overload"), code


def test_statuses_exist_and_none_is_429():
    # The web and Java SDKs drop a batch on 429.
    for outcome in OUTCOMES.values():
        assert http.HTTPStatus(outcome.http_status) != 429


def test_unknown_code_is_internal():
    assert outcome_of("never_heard_of") is INTERNAL


def test_text_names_event_and_reason():
    assert whole_request_refused_text(3, "invalid_uuid", "text") == "text: event 3: invalid_uuid"
