"""Settings read again: what is taken over, what is named, and what an error changes."""

import logging

import msgspec
import pytest

from penstock.config import Project, RemoteConfig, Settings
from penstock.errors import ConfigError
from penstock.reload import RELOADED, read_again

OLD = {"shop": Project(tokens=["phc_old"])}
NEW = {"store": Project(tokens=["phc_new"])}


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.INFO)


def fields(caplog, event):
    return [record.penstock_fields for record in caplog.records if record.getMessage() == event]


def test_projects_and_remote_config_are_taken_over_and_all_else_stays(caplog):
    current = Settings(projects=OLD, trusted_proxies=1)
    wanted = Settings(projects=NEW, remote_config=RemoteConfig(heatmaps=True), trusted_proxies=2)
    taken = read_again(current, lambda: wanted)
    assert taken == msgspec.structs.replace(wanted, trusted_proxies=1)
    assert fields(caplog, "setting_needs_restart") == [{"key": "trusted_proxies"}]


def test_nothing_is_named_when_only_what_may_change_has_changed(caplog):
    assert read_again(Settings(projects=OLD), lambda: Settings(projects=NEW)) is not None
    assert not caplog.records


def test_an_error_takes_nothing_over_and_names_its_key(caplog):
    def load():
        raise ConfigError("max_wal_bytes", "file penstock.toml", "must be a size")

    assert read_again(Settings(projects=OLD), load) is None
    (said,) = fields(caplog, "reload_failed")
    assert said["key"] == "max_wal_bytes"


def test_only_settings_that_exist_are_reloaded():
    assert set(RELOADED) <= set(Settings.__struct_fields__)
