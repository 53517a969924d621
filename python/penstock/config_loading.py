"""Where settings come from: defaults < TOML file < environment < flags, checked once.

Environment variables that are no setting are left alone: orchestrators make names of their own
from a service called `penstock`. Unknown keys of the file and unknown flags are errors.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from penstock.config import (
    ACK_LEVELS,
    GIB,
    KIB,
    MAX_TOKEN_BYTES,
    MIB,
    PERSONAL_KEY_PREFIX,
    Kind,
    Project,
    Settings,
    Spec,
    specs,
    split_address,
)
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
    if spec.kind is Kind.PROJECTS:
        return _projects(value)
    if spec.kind is Kind.CHOICES:
        return _choices(spec, value)
    if spec.kind is Kind.PATHS:
        return _prefixes(value)
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


# File systems take 255 bytes, of which `project=` takes 8.
MAX_PROJECT_DIRECTORY_BYTES: Final = 247


def _projects(value: object) -> dict[str, Project]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"must be JSON: {error.msg}") from None
    try:
        projects = msgspec.convert(value, dict[str, Project])
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    owners: dict[str, str] = {}
    for name, project in projects.items():
        _check_project_name(name)
        if not project.tokens:
            raise ValueError(f"project {name} needs at least one token")
        # As requests are read: a token that none of them can name would be closed out unseen.
        project.tokens[:] = [_token(name, token) for token in project.tokens]
        if project.ack is not None and project.ack not in ACK_LEVELS:
            raise ValueError(f"ack of project {name} must be one of {', '.join(ACK_LEVELS)}")
        for token in project.tokens:
            if owners.setdefault(token, name) != name:
                raise ValueError(f"projects {owners[token]} and {name} share a token")
    return projects


def _check_project_name(name: str) -> None:
    if not name or len(name.encode()) > 200 or not name.isprintable():
        raise ValueError("a project's name is 1 to 200 bytes of printable text")
    if len(quote(name, safe="")) > MAX_PROJECT_DIRECTORY_BYTES:
        raise ValueError(
            f"project {name} is too long for the name of a folder: letters, digits, '.', '_' and "
            f"'-' count once, other bytes three times; at most {MAX_PROJECT_DIRECTORY_BYTES}"
        )


def _token(project: str, token: str) -> str:
    token = token.strip()
    if not 1 <= len(token) <= MAX_TOKEN_BYTES or not token.isascii() or "\0" in token:
        words = f"is not 1 to {MAX_TOKEN_BYTES} bytes of ASCII"
        raise ValueError(f"a token of project {project} {words}")
    if token.startswith(PERSONAL_KEY_PREFIX):
        raise ValueError(
            f"a token of project {project} is a personal API key: {PERSONAL_KEY_PREFIX}…"
        )
    return token


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
