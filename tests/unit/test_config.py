"""Settings: precedence, units, and messages that name key and place."""

import json

import pytest

from penstock.config import (
    MIB,
    RemoteConfig,
    Settings,
    engine_options,
    listing,
    specs,
    split_address,
    value_text,
)
from penstock.config_loading import check_ready_file, check_static_dir, load_settings
from penstock.errors import ConfigError


def load(tmp_path=None, file=None, environment=None, **flags):
    path = None
    if file is not None:
        path = tmp_path / "penstock.toml"
        path.write_text(file)
    return load_settings(flags=flags, environment=environment or {}, config_path=path)


def test_without_anything_the_defaults_hold():
    assert load() == Settings()


def test_every_default_passes_its_own_check():
    for name, spec in specs().items():
        text = value_text(getattr(Settings(), name), spec.kind)
        if text:
            load(environment={f"PENSTOCK_{name.upper()}": text})


def test_flags_win_over_environment_over_file_over_defaults(tmp_path):
    file = 'http = "127.0.0.1:1"\ngrpc = "127.0.0.1:1"\nadmin = "127.0.0.1:1"'
    environment = {"PENSTOCK_GRPC": "127.0.0.1:2", "PENSTOCK_ADMIN": "127.0.0.1:2"}
    settings = load(tmp_path, file, environment, admin="127.0.0.1:3", http=None)
    ports = [address[-1] for address in (settings.http, settings.grpc, settings.admin)]
    assert ports == ["1", "2", "3"]
    assert settings.flush_interval_seconds == 5.0


def test_the_environment_may_name_the_file(tmp_path):
    path = tmp_path / "named.toml"
    path.write_text("trusted_proxies = 2")
    assert load(environment={"PENSTOCK_CONFIG": str(path)}).trusted_proxies == 2


def test_variables_that_are_no_setting_are_left_alone():
    # Orchestrators make such names from a service called "penstock".
    assert load(environment={"PENSTOCK_SERVICE_HOST": "10.0.0.1"}) == Settings()


@pytest.mark.parametrize(
    ("text", "size"),
    [("20971520", 20 * MIB), ("20MiB", 20 * MIB), ("1 GiB", 1024 * MIB), ("1024KiB", MIB)],
)
def test_sizes_are_numbers_or_text_with_a_unit(text, size):
    assert load(max_in_flight_bytes="2GiB", max_request_bytes=text).max_request_bytes == size


def test_a_file_holds_sizes_as_numbers_too(tmp_path):
    assert load(tmp_path, "max_request_bytes = 1000").max_request_bytes == 1000


PROJECTS = """
[projects.shop]
tokens = ["phc_a", "phc_b"]
[projects.app]
tokens = ["phc_c"]
ack = "table"
"""


def test_the_longest_project_name_that_a_folder_takes_is_taken():
    name = "日" * 27
    text = json.dumps({name: {"tokens": ["x"]}})
    assert list(load(environment={"PENSTOCK_PROJECTS": text}).projects) == [name]


def test_projects_come_from_the_file_or_as_json(tmp_path):
    from_file = load(tmp_path, PROJECTS).projects
    assert from_file["shop"].tokens == ["phc_a", "phc_b"]
    assert (from_file["shop"].ack, from_file["app"].ack) == (None, "table")
    text = '{"shop": {"tokens": ["phc_a", "phc_b"]}, "app": {"tokens": ["phc_c"], "ack": "table"}}'
    assert load(environment={"PENSTOCK_PROJECTS": text}).projects == from_file


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("http", "8000", "must be host:port"),
        ("http", "127.0.0.1:http", "must be host:port"),
        ("http", "127.0.0.1:65536", "must be host:port"),
        ("http", "::1:8000", "brackets"),
        ("http", "", "must not be empty"),
        ("max_request_bytes", "20MB", "must be a size"),
        ("max_request_bytes", "-1", "must be a size"),
        ("max_request_bytes", "0", "must be between"),
        ("max_json_depth", "1", "must be between"),
        ("max_connections", "9" * 400, "must be between 1 and 1000000"),
        ("max_request_bytes", "9" * 400, "must be between 1 and 1073741824"),
        ("drain_timeout_seconds", "1e400", "must be a finite number"),
        ("max_decompressed_bytes", "513MiB", "must be between 1 and 536870912"),
        ("max_json_depth", "2.5", "must be a whole number"),
        ("dedup_window_seconds", "1.5", "must be a whole number"),
        ("flush_interval_seconds", "soon", "must be a number"),
        ("flush_interval_seconds", "nan", "must be a finite number"),
        ("flush_interval_seconds", "0", "must be between"),
        ("ack", "moon", "must be one of memory, disk, table"),
        ("allowed_ack", "disk,moon", "must be a list of"),
        ("log_format", "xml", "must be one of logfmt, json"),
        ("prefix", "ingest", "must be a path of at most 200 bytes"),
        ("prefix", "/", "must be a path"),
        ("prefix", "/a?b", "must be a path"),
        ("prefix", "/a//b", "must be a path"),
        ("prefix", "/a,,/b", "must be a path"),
        ("prefix", "/" + "x" * 200, "must be a path of at most 200 bytes"),
        ("prefix", ",".join(f"/{n}" for n in range(17)), "must be at most 16 paths"),
        ("projects", "[", "must be JSON"),
        ("projects", '{"a": {"tokens": []}}', "needs at least one token"),
        ("projects", '{"a": {"tokens": ["x"], "color": 1}}', "color"),
        ("projects", '{"a": {"tokens": ["x"]}, "b": {"tokens": ["x"]}}', "share a token"),
        ("projects", '{"": {"tokens": ["x"]}}', "name"),
        # 28 characters of three bytes, each of three characters: one over what a folder takes.
        (
            "projects",
            '{"%s": {"tokens": ["x"]}}' % ("日" * 28),
            "too long for the name of a folder",
        ),
        ("projects", '{"a": {"tokens": [" "]}}', "1 to 64 bytes of ASCII"),
        ("projects", '{"a": {"tokens": ["\\u0000"]}}', "1 to 64 bytes of ASCII"),
        ("projects", '{"a": {"tokens": ["é"]}}', "1 to 64 bytes of ASCII"),
        ("projects", json.dumps({"a": {"tokens": ["x" * 65]}}), "1 to 64 bytes of ASCII"),
        ("projects", '{"a": {"tokens": ["phx_1"]}}', "personal API key"),
        ("projects", '{"a": {"tokens": ["x "]}, "b": {"tokens": ["x"]}}', "share a token"),
        ("projects", '{"a": {"tokens": ["x"], "ack": "moon"}}', "must be one of"),
        ("projects", '{"a": {"tokens": ["x"], "client_ip": "hash"}}', "one of store, discard"),
        ("client_ip", "hash", "must be one of store, discard"),
        (
            "projects",
            '{"a": {"tokens": ["x"], "remote_config": {"capture_endpoint": "/typo/"}}}',
            "remote_config of project a: capture_endpoint must be a path that takes events",
        ),
        ("remote_config", "[", "must be JSON"),
        ("remote_config", '{"color": 1}', "color"),
        ("remote_config", '{"autocapture": "yes"}', "autocapture"),
        ("remote_config", '{"person_profiles": "never"}', "person_profiles"),
        ("remote_config", '{"capture_endpoint": "/e/?a=b"}', "must be a path that takes events"),
        ("remote_config", '{"capture_endpoint": "e/"}', "must be a path that takes events"),
        (
            "remote_config",
            json.dumps({"capture_endpoint": "/" + "x" * 200 + "/e/"}),
            "must be a path that takes events",
        ),
        ("remote_config", json.dumps({"extra": {"a": "x" * (64 << 10)}}), "at most 65536 bytes"),
    ],
)
def test_bad_values_name_key_source_and_problem(key, value, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        load(environment={f"PENSTOCK_{key.upper()}": value})
    assert caught.value.key == key
    assert f"{key} (environment PENSTOCK_{key.upper()})" in str(caught.value)
    with pytest.raises(ConfigError, match=f"flag --{key.replace('_', '-')}"):
        load(**{key: value})


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("max_events = 5", "max_events"),
        ("max-request-bytes = 5", "did you mean max_request_bytes"),
        ("http = 8000", "must be text, not int"),
        ("trusted_proxies = true", "must be a number, not bool"),
        ("trusted_proxies = 1.5", "must be a whole number"),
        ("http = ", "is not TOML"),
    ],
)
def test_bad_files_name_the_file(tmp_path, file, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        load(tmp_path, file)
    assert "penstock.toml" in caught.value.source


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_settings(flags={}, environment={}, config_path=tmp_path / "nowhere.toml")


def test_settings_are_checked_together():
    with pytest.raises(ConfigError, match="max_wal_bytes"):
        load(max_wal_bytes="64MiB")
    with pytest.raises(ConfigError, match="max_in_flight_bytes"):
        load(max_in_flight_bytes="10MiB")
    small = {
        "wal_file_bytes": "1MiB",
        "max_request_bytes": "8MiB",
        "max_recording_bytes": "8MiB",
    }
    assert load(max_wal_bytes="8MiB", **small).max_wal_bytes == 8 * MIB
    with pytest.raises(ConfigError, match=r"max_wal_bytes .*at least max_request"):
        load(max_wal_bytes="8388607", **small)
    with pytest.raises(ConfigError, match=r"max_wal_bytes .*at least max_recording"):
        load(max_wal_bytes="8MiB", **small | {"max_recording_bytes": "8388609"})
    with pytest.raises(ConfigError, match=r"max_in_flight_bytes .*at least max_recording"):
        load(max_in_flight_bytes="20MiB")


def test_tokens_are_taken_as_requests_name_them():
    token = "x" * 64
    projects = load(projects=json.dumps({"shop": {"tokens": [f" {token}\n"]}})).projects
    assert projects["shop"].tokens == [token]


REMOTE_CONFIG = """
[remote_config]
heatmaps = true
capture_endpoint = "/relay/e/"
[remote_config.extra]
siteApps = [1]
[projects.shop]
tokens = ["phc_a"]
[projects.shop.remote_config]
autocapture = false
"""


def test_remote_config_comes_from_the_file_or_as_json(tmp_path):
    settings = load(tmp_path, REMOTE_CONFIG)
    said = RemoteConfig(heatmaps=True, capture_endpoint="/relay/e/", extra={"siteApps": [1]})
    assert settings.remote_config == said
    assert settings.projects["shop"].remote_config == RemoteConfig(autocapture=False)
    shown = value_text(settings.remote_config, specs()["remote_config"].kind)
    assert load(environment={"PENSTOCK_REMOTE_CONFIG": shown}).remote_config == said


def test_a_folder_that_is_served_must_exist(tmp_path):
    check_static_dir(Settings())
    check_static_dir(Settings(static_dir=tmp_path))
    with pytest.raises(ConfigError, match="static_dir"):
        check_static_dir(Settings(static_dir=tmp_path / "missing"))


def test_a_ready_file_that_cannot_be_written_is_named(tmp_path):
    check_ready_file(Settings())
    check_ready_file(Settings(ready_file=tmp_path / "ready.json"))
    for path in (tmp_path / "missing" / "ready.json", tmp_path):
        with pytest.raises(ConfigError, match="ready_file"):
            check_ready_file(Settings(ready_file=path))


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("host:65535", ("host", 65535))],
)
def test_addresses_are_split(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("/ingest", ("/ingest",)),
        ("/ingest/, /a/b.c ,/ingest", ("/ingest", "/a/b.c")),
        ("/" + "x" * 199, ("/" + "x" * 199,)),
        (",".join(f"/{n}" for n in range(16)), tuple(f"/{n}" for n in range(16))),
    ],
)
def test_prefixes_are_paths(text, prefixes):
    assert load(prefix=text).prefix == prefixes


def test_a_file_holds_prefixes_as_a_list(tmp_path):
    assert load(tmp_path, 'prefix = ["/a", "/b/"]').prefix == ("/a", "/b")
    with pytest.raises(ConfigError, match="must be a path such as"):
        load(tmp_path, "prefix = [1]")


def test_engine_options_are_flat_and_of_plain_types():
    text = '{"shop": {"tokens": ["phc_a"]}}'
    options = engine_options(load(data_dir="/tmp/x", projects=text, flush_interval_seconds="0.2"))  # noqa: S108
    assert {type(value) for value in options.values()} <= {str, int, bool, type(None)}
    assert options["data_dir"] == "/tmp/x"  # noqa: S108
    assert options["flush_interval_ms"] == 200
    assert options["dedup_window_ms"] == 86_400_000
    assert options["allowed_ack"] == "disk,table"
    shop = {"tokens": ["phc_a"], "ack": None, "client_ip": None}
    assert json.loads(str(options["projects_json"])) == {"shop": shop}
    assert "http" not in options
    assert "prefix" not in options


def test_the_listing_has_a_reason_for_each_setting():
    rows = listing()
    assert [row.name for row in rows] == list(Settings.__struct_fields__)
    assert all(row.reason and row.unit for row in rows)
    assert {row.default for row in rows if row.name == "max_request_bytes"} == {"20MiB"}


def test_tokens_are_not_shown():
    settings = load(projects='{"shop": {"tokens": ["phc_secret"]}}')
    assert value_text(settings.projects, specs()["projects"].kind) == "shop"
