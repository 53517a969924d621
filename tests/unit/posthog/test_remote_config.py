"""What SDKs are told to do: defaults, what projects say themselves, and the script of it."""

import json
import re

import pytest

from penstock.config import Project, RemoteConfig, Settings
from penstock.posthog.projects import ProjectConfigs
from penstock.posthog.remote_config import ProjectConfig, content_of

NOTHING = RemoteConfig()


def test_by_default_clicks_are_captured_compressed_and_nothing_else_is_asked_for():
    content = content_of(NOTHING, NOTHING)
    # With the key missing posthog-js captures no clicks, so that false must be said.
    assert content["autocapture_opt_out"] is False
    assert set(content["supportedCompression"]) == {"gzip", "gzip-js"}
    assert content["analytics"] == {"endpoint": "/i/v0/e/"}
    assert content["defaultIdentifiedOnly"] is True
    for key in ("sessionRecording", "surveys", "heatmaps", "hasFeatureFlags", "captureDeadClicks"):
        assert content[key] is False, key


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        ({"autocapture": False}, "autocapture_opt_out", True),
        ({"autocapture": False}, "config", {"enable_collect_everything": False}),
        ({"person_profiles": "always"}, "defaultIdentifiedOnly", False),
        ({"capture_endpoint": "/e/"}, "analytics", {"endpoint": "/e/"}),
        ({"session_recording": True}, "sessionRecording", {"endpoint": "/s/"}),
        ({"heatmaps": True}, "heatmaps", True),
        ({"dead_clicks": True}, "captureDeadClicks", True),
        ({"exceptions": True}, "autocaptureExceptions", True),
        ({"performance": True}, "capturePerformance", {"web_vitals": True, "network_timing": True}),
        ({"extra": {"siteApps": [1]}}, "siteApps", [1]),
        ({"extra": {"own": {"a": None}}}, "own", {"a": None}),
    ],
)
def test_each_setting_is_told_as_sdks_read_it(said, key, value):
    assert content_of(RemoteConfig(**said), NOTHING)[key] == value
    # Of the server's it holds as well, until a project says otherwise.
    assert content_of(NOTHING, RemoteConfig(**said))[key] == value


def test_what_a_project_says_wins_also_where_it_says_no():
    servers = RemoteConfig(heatmaps=True, autocapture=False, extra={"a": 1, "b": 1})
    own = RemoteConfig(heatmaps=False, autocapture=True, extra={"b": 2})
    content = content_of(own, servers)
    assert (content["heatmaps"], content["autocapture_opt_out"]) == (False, False)
    assert (content["a"], content["b"]) == (1, 2)


def test_the_script_sets_what_posthog_js_looks_for():
    config = ProjectConfig(NOTHING, NOTHING)
    script = config.script("phc_1").decode()
    assert "window._POSTHOG_REMOTE_CONFIG" in script
    found = re.fullmatch(r".*c\[(.*?)\]=(\{.*\})\}\)\(\);\n", script)
    assert found is not None
    name, said = found.groups()
    assert json.loads(name) == "phc_1"
    assert json.loads(said) == {"config": json.loads(config.json), "siteApps": []}


def test_a_token_stays_text_in_the_script():
    script = ProjectConfig(NOTHING, NOTHING).script('"]=0;alert(1);//\\').decode()
    literal = re.search(r'c\[("(?:[^"\\]|\\.)*")\]=\{"config"', script)
    assert literal is not None
    assert json.loads(literal[1]) == '"]=0;alert(1);//\\'


def test_another_config_has_another_tag():
    tags = {
        ProjectConfig(RemoteConfig(heatmaps=heatmaps), NOTHING).answer.etag
        for heatmaps in (True, False)
    }
    assert len(tags) == 2


def test_without_projects_any_token_that_can_be_one_is_known():
    configs = ProjectConfigs(Settings())
    assert configs.open
    assert configs.find("phc_1") is configs.default
    assert configs.find("x" * 64) is configs.default
    for token in ("", " ", "x" * 65, "é", "a\0b", "phx_secret"):
        assert configs.find(token) is None


def test_with_projects_only_their_tokens_are_known():
    projects = {
        "shop": Project(tokens=["a", "b"], remote_config=RemoteConfig(heatmaps=True)),
        "app": Project(tokens=["c"]),
    }
    configs = ProjectConfigs(Settings(projects=projects))
    assert not configs.open
    assert configs.find("a") is configs.find(" b ")
    shop, app = configs.find("a"), configs.find("c")
    assert shop is not None
    assert app is not None
    assert (shop.content["heatmaps"], app.content["heatmaps"]) == (True, False)
    assert configs.find("d") is None
