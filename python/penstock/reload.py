"""Settings read again while the service runs: what may change at once, and what waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from penstock.config import Settings
from penstock.errors import ConfigError
from penstock.logs import logger

_log = logger("reload")

RELOADED: Final = ("projects", "remote_config")
"""Settings that change while the service runs. All others are fixed when it starts: threads,
buffers and files were made by them."""

LoadSettings = Callable[[], Settings]


def read_again(current: Settings, load: LoadSettings) -> Settings | None:
    """Read all settings anew, and give those that hold from now on; blocks on the file.

    Nothing is taken over of settings with an error in them, wherever it is: the log line names the
    key. What needs a restart is named too, and stays as it is.

    Args:
        current: The settings in force.
        load: Reads file, environment and flags as at the start.

    Returns:
        None: those in force stay, since the new ones can't be read.
    """
    try:
        wanted = load()
    except ConfigError as error:
        _log.error("reload_failed", key=error.key, error=str(error), advice="the old ones hold")
        return None
    for name in Settings.__struct_fields__:
        if name not in RELOADED and getattr(wanted, name) != getattr(current, name):
            _log.warning("setting_needs_restart", key=name)
    changes = {name: getattr(wanted, name) for name in RELOADED}
    return msgspec.structs.replace(current, **changes)
