"""Which URL leads to which answer, and which leads nowhere."""

import json
import logging
from typing import Any

import msgspec
import pytest

from penstock.config import Project, RemoteConfig, Settings
from penstock.posthog.calls import GET, GET_AND_POST, POST, POST_AND_DELETE
from penstock.posthog.paths import SdkAnswers


def answers_of(settings):
    return SdkAnswers(settings, lambda *_: "phc_1")


def find(path: str, settings: Settings | None = None) -> Any:
    return answers_of(settings or Settings()).find(path.encode(), b"")


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("path", "name", "methods", "body"),
    [
        (
            "/flags/definitions",
            "flags/definitions",
            GET,
            {"flags": [], "group_type_mapping": {}, "cohorts": {}},
        ),
        (
            "/api/feature_flag/local_evaluation",
            "flags/definitions",
            GET,
            {"flags": [], "group_type_mapping": {}, "cohorts": {}},
        ),
        ("/api/surveys", "surveys", GET, {"surveys": []}),
        (
            "/api/early_access_features",
            "early_access_features",
            GET,
            {"earlyAccessFeatures": []},
        ),
        ("/api/web_experiments", "web_experiments", GET, {"experiments": []}),
        ("/api/push_subscriptions", "push_subscriptions", POST_AND_DELETE, {}),
        ("/i/v1/logs", "logs", POST, {}),
        ("/v1/logs", "logs", POST, {}),
        ("/i/v1/metrics", "metrics", POST, {}),
        ("/v1/metrics", "metrics", POST, {}),
        # Of an exporter that is told to send its traces there, and sends all that it has.
        ("/i/v0/ai/otel/v1/logs", "logs", POST, {}),
        ("/i/v0/ai/otel/v1/metrics", "metrics", POST, {}),
        ("/i/v1/traces", "traces", POST, {}),
        ("/v1/traces", "traces", POST, {}),
    ],
)
def test_what_there_is_none_of_is_said_in_its_own_form(path, name, methods, body, slash):
    call = find(path + slash)
    assert (call.name, call.methods) == (name, methods)
    answer = call.by_head(methods[0])
    assert (answer.status, json.loads(answer.body)) == (200, body)


@pytest.mark.parametrize("path", ["/flags", "/flags/", "/decide", "/decide/"])
def test_flags_take_every_method(path):
    assert find(path).methods == GET_AND_POST


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/flagsx",
        "/api",
        "/api/user",
        "/api/projects/@current/feature_flags/key/remote_config",
        "/array",
        "/array/phc_1",
        "/array/phc_1/other",
        "/array/phc_1/config/x",
        "/array/phc_1/array.js",
        "/static/array.js",
        "/i/v1",
        "/v1/other",
    ],
)
def test_other_paths_lead_nowhere(path):
    assert find(path) is None


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_config_is_told_as_json_and_as_a_script(slash):
    answer = find(f"/array/phc_1/config{slash}").by_head(b"GET")
    assert json.loads(answer.body)["autocapture_opt_out"] is False
    script = find(f"/array/phc_1/config.js{slash}").by_head(b"GET")
    assert b'"phc_1"' in script.body
    assert script.content_type.startswith(b"text/javascript")
    for one in (answer, script):
        assert (one.status, one.cache_control) == (200, b"public, max-age=60")
        assert one.etag


def test_a_token_may_come_with_percent_escapes():
    assert b'"a b/c"' in find("/array/a%20b%2Fc/config.js").by_head(b"GET").body


@pytest.mark.parametrize("path", ["config", "config.js"])
@pytest.mark.parametrize(
    ("token", "settings"),
    [
        ("phx_secret", Settings()),
        ("%00", Settings()),
        ("phc_2", Settings(projects={"shop": Project(tokens=["phc_1"])})),
    ],
)
def test_an_unknown_token_is_404_and_says_why(path, token, settings):
    answer = find(f"/array/{token}/{path}", settings).by_head(b"GET")
    assert (answer.status, answer.body) == (404, b"API key is not valid: unknown to this server")


def test_other_projects_are_taken_over_at_once():
    answers = answers_of(Settings(projects={"shop": Project(tokens=["phc_1"])}))
    answers.replace_projects(
        Settings(
            projects={"shop": Project(tokens=["phc_2"])}, remote_config=RemoteConfig(heatmaps=True)
        )
    )

    def config(token: bytes) -> Any:
        call = answers.find(b"/array/" + token + b"/config", b"")
        return None if call is None else call.by_head(b"GET")

    assert config(b"phc_1").status == 404
    answer = config(b"phc_2")
    assert json.loads(answer.body)["heatmaps"] is True


def test_that_telemetry_is_dropped_is_said_once(caplog):
    answers = answers_of(Settings())
    with caplog.at_level(logging.WARNING):
        for path in (b"/i/v1/logs", b"/v1/logs/", b"/i/v1/logs"):
            call = answers.find(path, b"")
            assert call is not None
            assert call.by_head(b"POST") is not None
    assert len(caplog.records) == 1


RECORDS = RemoteConfig(session_recording=True)


@pytest.mark.parametrize(
    ("settings", "file", "warned"),
    [
        (Settings(), None, False),
        (Settings(remote_config=RECORDS), None, True),
        (Settings(remote_config=RECORDS), "array.js", True),
        (Settings(remote_config=RECORDS), "lazy-recorder.js", False),
        (Settings(projects={"a": Project(tokens=["t"], remote_config=RECORDS)}), None, True),
        (
            Settings(remote_config=RemoteConfig(extra={"sessionRecording": {"endpoint": "/s/"}})),
            None,
            True,
        ),
        # Nobody is told what holds where a project says nothing.
        (
            Settings(
                remote_config=RECORDS,
                projects={
                    "a": Project(tokens=["t"], remote_config=RemoteConfig(session_recording=False))
                },
            ),
            None,
            False,
        ),
    ],
)
def test_recording_without_a_recorder_is_said_at_the_start(
    settings, file, warned, tmp_path, caplog
):
    if file is not None:
        (tmp_path / file).write_bytes(b"")
        settings = msgspec.structs.replace(settings, static_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
        answers = answers_of(settings)
        first = [record.message for record in caplog.records].count("no_recorder")
        answers.replace_projects(settings)
    assert [record.message for record in caplog.records].count("no_recorder") == 2 * first
    assert first == warned
