"""`/flags` and `/decide`: forms of the answer, and whose token is looked for where."""

import json

import pytest

from penstock.config import Project, RemoteConfig, Settings
from penstock.posthog.flags import MAX_FLAGS_BODY_BYTES
from penstock.posthog.paths import SdkAnswers
from support.fake_core import FakeRefusal

CLOSED = Settings(
    projects={"shop": Project(tokens=["phc_1"], remote_config=RemoteConfig(heatmaps=True))}
)


def call(url, settings=None, token_of=None):
    path, _, query = url.partition("?")
    found = SdkAnswers(settings or Settings(), token_of).find(path.encode(), query.encode())
    assert found is not None
    return found


def content(answer):
    assert answer.status == 200
    return json.loads(answer.body)


@pytest.mark.parametrize("url", ["/flags", "/flags/", "/flags/?v=2", "/flags?v=4&ip=0"])
def test_flags_are_answered_in_every_form_at_once(url):
    answer = content(call(url).by_head(b"POST"))
    assert answer.pop("requestId")
    assert answer == {
        "flags": {},
        "featureFlags": {},
        "featureFlagPayloads": {},
        "errorsWhileComputingFlags": False,
    }


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("?v=1", {"featureFlags": []}),
        ("", {"featureFlags": []}),
        ("?v=2", {"featureFlags": {}}),
        ("?v=3", {"featureFlags": {}, "featureFlagPayloads": {}}),
        ("?v=4", {"flags": {}}),
        ("?v=x", {"flags": {}}),
    ],
)
def test_decide_answers_in_the_form_of_its_version_and_with_the_config(version, flags):
    answer = content(call(f"/decide/{version}").by_head(b"POST"))
    assert answer | flags == answer
    assert answer["autocapture_opt_out"] is False
    assert answer["config"] == {"enable_collect_everything": True}


def test_the_config_comes_with_flags_when_it_is_asked_for():
    assert "sessionRecording" in content(call("/flags/?v=2&config=true").by_head(b"POST"))
    assert "sessionRecording" not in content(call("/flags/?v=2").by_head(b"POST"))


def test_a_get_is_told_how_to_compress():
    assert content(call("/flags/").by_head(b"GET"))["supportedCompression"] == ["gzip", "gzip-js"]
    assert "supportedCompression" not in content(call("/flags/").by_head(b"POST"))


def test_every_request_has_an_id_of_its_own():
    flags = call("/flags/")
    ids = {content(flags.by_head(b"POST"))["requestId"] for _ in range(2)}
    assert len(ids) == 2


def test_without_projects_no_body_is_looked_into():
    assert call("/flags/", token_of=None).by_head(b"POST").status == 200


@pytest.mark.parametrize(
    ("token", "status", "text"),
    [
        ("phc_1", 200, b""),
        ("phc_2", 401, b"API key is not valid: unknown to this server"),
        (FakeRefusal("missing_token", "no token"), 401, b"no token"),
        (FakeRefusal("invalid_json", "no JSON"), 400, b"no JSON"),
        (FakeRefusal("request_too_large", "too large"), 413, b"too large"),
    ],
)
def test_with_projects_the_token_of_the_body_decides(token, status, text):
    asked = []

    def token_of(body, coding, max_bytes):
        asked.append((body, coding, max_bytes))
        return token

    flags = call("/flags/?v=2&config=1", CLOSED, token_of)
    assert flags.by_head(b"POST") is None
    answer = flags.answer(b"{}", 2)
    assert asked == [(b"{}", 2, MAX_FLAGS_BODY_BYTES)]
    assert answer.status == status
    if status == 200:
        assert content(answer)["heatmaps"] is True
    else:
        assert answer.body == text


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/flags/?token=phc_1", 200),
        ("/flags/?api_key=phc_1", 200),
        ("/flags/?token=phc_1&token=phc_2", 200),
        ("/flags/?token=phc_2", 401),
        ("/decide/?v=3&token=phc_2", 401),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_with_projects_the_token_of_the_query_decides_first(url, status, method):
    assert call(url, CLOSED).by_head(method).status == status


def test_with_projects_a_get_without_a_token_is_refused_and_a_head_is_not():
    answer = call("/flags/", CLOSED).by_head(b"GET")
    assert (answer.status, answer.body) == (401, b"event submitted without an api_key")
    assert call("/flags/", CLOSED).by_head(b"HEAD").status == 200


def test_a_query_beyond_measure_is_not_looked_at():
    many = "&".join(f"p{n}=1" for n in range(101))
    assert call(f"/flags/?token=phc_2&{many}", CLOSED).by_head(b"POST") is None
