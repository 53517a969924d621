"""Where settings come from: defaults < TOML file < environment < flags, checked once.

Environment variables that are no setting are left alone: orchestrators make names of their own
from a service called `penstock`. Unknown keys of the file and unknown flags are errors.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from penstock.config import (
    GIB,
    KIB,
    MIB,
    Kind,
    Settings,
    Spec,
    specs,
    split_address,
)
from penstock.config_projects import read_projects, read_remote_config
from penstock.errors import ConfigError

_MAX_NUMBER: Final = (1 << 63) - 1
_SIZE: Final = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?", re.ASCII)
_FACTORS: Final = {None: 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_ENVIRONMENT_PREFIX: Final = "PENSTOCK_"


def load_settings(
    *,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    config_path: Path | None = None,
) -> Settings:
    """Read, merge and check all settings.

    Args:
        flags: Setting to text; None where the flag was not given.
        environment: As `os.environ`.
        config_path: The TOML file; None: the one that PENSTOCK_CONFIG names, if it names one.

    Raises:
        ConfigError: Names the key and where its value came from.
    """
    known = specs()
    values: dict[str, Any] = {}
    if config_path is None and environment.get("PENSTOCK_CONFIG"):
        config_path = Path(environment["PENSTOCK_CONFIG"])
    if config_path is not None:
        for name, value in _read_file(config_path).items():
            source = f"file {config_path}"
            if name not in known:
                raise ConfigError(name, source, _unknown(name, known))
            values[name] = _checked(name, known[name], value, source)
    for name, spec in known.items():
        variable = _ENVIRONMENT_PREFIX + name.upper()
        if variable in environment:
            values[name] = _checked(name, spec, environment[variable], f"environment {variable}")
        text = flags.get(name)
        if text is not None:
            values[name] = _checked(name, spec, text, f"flag --{name.replace('_', '-')}")
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", f"file {path}", error.strerror or "cannot be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", f"file {path}", f"is not TOML: {error}") from error


def _unknown(name: str, known: Mapping[str, Spec]) -> str:
    near = [
        key
        for key in known
        if key.replace("_", "") == name.lower().replace("-", "").replace("_", "")
    ]
    return f"no such setting; did you mean {near[0]}?" if near else "no such setting"


def _checked(name: str, spec: Spec, value: object, source: str) -> object:
    """Turn a value of a file (typed) or of environment and flags (text) into the setting's type."""
    try:
        return _convert(name, spec, value)
    except ValueError as error:
        raise ConfigError(name, source, str(error)) from error


def _convert(name: str, spec: Spec, value: object) -> object:
    reader = _READERS.get(spec.kind)
    if reader is not None:
        return reader(value)
    if spec.kind is Kind.CHOICES:
        return _choices(spec, value)
    if spec.kind in {Kind.BYTES, Kind.COUNT, Kind.SECONDS}:
        return _number(name, spec, value)
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")  # noqa: TRY004 - caught as such above
    if not value:
        raise ValueError("must not be empty")
    if spec.kind is Kind.PATH:
        return Path(value)
    if spec.kind is Kind.ADDRESS:
        split_address(value)
    elif value not in spec.choices:
        raise ValueError(f"must be one of {', '.join(spec.choices)}")
    return value


def _number(name: str, spec: Spec, value: object) -> int | float:
    whole = spec.kind is not Kind.SECONDS or isinstance(getattr(Settings(), name), int)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"must be a number, not {type(value).__name__}")  # noqa: TRY004 - caught as such above
    if isinstance(value, str):
        value = _number_of_text(value.strip(), spec, whole=whole)
    # An int of hundreds of digits does not fit into a float.
    if type(value) is float and (not math.isfinite(value) or (whole and value != int(value))):
        raise ValueError("must be a whole number" if whole else "must be a finite number")
    maximum = _MAX_NUMBER if spec.maximum is None else spec.maximum
    if not spec.minimum <= value <= maximum:
        raise ValueError(f"must be between {_shown(spec.minimum)} and {_shown(maximum)}")
    return int(value) if whole else float(value)


def _shown(bound: float) -> str:
    return f"{bound:g}" if bound != int(bound) else str(int(bound))


def _number_of_text(text: str, spec: Spec, *, whole: bool) -> int | float:
    if spec.kind is Kind.BYTES:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("must be a size such as 20971520 or 20MiB")
        return int(match[1]) * _FACTORS[match[2]]
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise ValueError("must be a whole number" if whole else "must be a number") from None


def _choices(spec: Spec, value: object) -> tuple[str, ...]:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"must be a list of {', '.join(spec.choices)}")
    if not all(part in spec.choices for part in parts):
        raise ValueError(f"must be a list of {', '.join(spec.choices)}")
    return tuple(choice for choice in spec.choices if choice in parts)


# Every route stands in a table once for each, and looking one up costs nothing; a service behind
# more proxies than these is not known.
MAX_PREFIXES: Final = 16
MAX_PREFIX_BYTES: Final = 200
_PREFIX: Final = re.compile(r"(?:/[\w.~!$&'()*+;=:@%-]+)+", re.ASCII)


def _prefixes(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be a path such as /ingest, or a list of them")
    # The slash at the end is how some write it, and says nothing.
    prefixes = tuple(dict.fromkeys(part.strip().rstrip("/") for part in parts))
    for prefix in prefixes:
        if not _PREFIX.fullmatch(prefix) or len(prefix) > MAX_PREFIX_BYTES:
            raise ValueError(f"must be a path of at most {MAX_PREFIX_BYTES} bytes such as /ingest")
    if len(prefixes) > MAX_PREFIXES:
        raise ValueError(f"must be at most {MAX_PREFIXES} paths")
    return prefixes


# Of kinds that have a form of their own.
_READERS: Final[Mapping[Kind, Callable[[object], object]]] = {
    Kind.PROJECTS: read_projects,
    Kind.REMOTE_CONFIG: read_remote_config,
    Kind.PATHS: _prefixes,
}


def check_ready_file(settings: Settings) -> None:
    """Check that the ready file can be written, before anything is opened.

    Raises:
        ConfigError: It can't.
    """
    path = settings.ready_file
    if path is None:
        return
    if not path.parent.is_dir():
        raise ConfigError("ready_file", str(path), "its folder does not exist")
    if path.is_dir():
        raise ConfigError("ready_file", str(path), "is a folder")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError("ready_file", str(path), "its folder can't be written to")


def check_static_dir(settings: Settings) -> None:
    """Check that there is a folder to serve, before anything is opened.

    Raises:
        ConfigError: There is none.
    """
    path = settings.static_dir
    if path is not None and not path.is_dir():
        raise ConfigError("static_dir", str(path), "is not a folder that can be read")


def _check_together(settings: Settings) -> None:
    """Check what no setting can say alone."""
    together = "with the other settings"
    if settings.max_wal_bytes < 2 * settings.wal_file_bytes:
        raise ConfigError("max_wal_bytes", together, "must hold at least two wal_file_bytes")
    for name in ("max_request_bytes", "max_recording_bytes"):
        body_bytes = getattr(settings, name)
        if settings.max_wal_bytes < body_bytes:
            raise ConfigError(
                "max_wal_bytes", together, f"must be at least {name}: the log must hold one"
            )
        if settings.max_in_flight_bytes < body_bytes:
            raise ConfigError(
                "max_in_flight_bytes", together, f"must be at least {name}: none would fit"
            )
