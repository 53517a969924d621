"""Projects with their tokens, and what their SDKs are told: read from the file's tables or JSON."""

from __future__ import annotations

import json
import re
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from penstock.config import (
    ACK_LEVELS,
    CLIENT_IP_CHOICES,
    KIB,
    MAX_TOKEN_BYTES,
    PERSONAL_KEY_PREFIX,
    Project,
    RemoteConfig,
    is_token_text,
)

# File systems take 255 bytes, of which `project=` takes 8.
MAX_PROJECT_DIRECTORY_BYTES: Final = 247

# Sent to every page and phone at its start, and kept for each project.
MAX_EXTRA_BYTES: Final = 64 * KIB

# Where events are taken: a typo here would have browsers drop all of them.
_CAPTURE_ENDPOINT: Final = re.compile(
    r"(?:/[\w.~!$&'()*+;=:@%-]+)*/(?:e|i/v0/e|capture|track|batch)/?", re.ASCII
)
_MAX_CAPTURE_ENDPOINT_BYTES: Final = 200

_T = TypeVar("_T")


def read_projects(value: object) -> dict[str, Project]:
    """Read and check the setting `projects`.

    Raises:
        ValueError: Says what is wrong, and with which project.
    """
    projects = _convert(value, dict[str, Project])
    owners: dict[str, str] = {}
    for name, project in projects.items():
        _check_name(name)
        if not project.tokens:
            raise ValueError(f"project {name} needs at least one token")
        # As requests are read: a token that none of them can name would be closed out unseen.
        project.tokens[:] = [_token(name, token) for token in project.tokens]
        if project.ack is not None and project.ack not in ACK_LEVELS:
            raise ValueError(f"ack of project {name} must be one of {', '.join(ACK_LEVELS)}")
        if project.client_ip is not None and project.client_ip not in CLIENT_IP_CHOICES:
            choices = ", ".join(CLIENT_IP_CHOICES)
            raise ValueError(f"client_ip of project {name} must be one of {choices}")
        for token in project.tokens:
            if owners.setdefault(token, name) != name:
                raise ValueError(f"projects {owners[token]} and {name} share a token")
        _check_remote_config(project.remote_config, f"remote_config of project {name}: ")
    return projects


def read_remote_config(value: object) -> RemoteConfig:
    """Read and check the setting `remote_config`.

    Raises:
        ValueError: Says what is wrong.
    """
    remote_config = _convert(value, RemoteConfig)
    _check_remote_config(remote_config, "")
    return remote_config


def _convert(value: object, into: type[_T]) -> _T:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"must be JSON: {error.msg}") from None
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def _check_name(name: str) -> None:
    if not name or len(name.encode()) > 200 or not name.isprintable():
        raise ValueError("a project's name is 1 to 200 bytes of printable text")
    if len(quote(name, safe="")) > MAX_PROJECT_DIRECTORY_BYTES:
        raise ValueError(
            f"project {name} is too long for the name of a folder: letters, digits, '.', '_' and "
            f"'-' count once, other bytes three times; at most {MAX_PROJECT_DIRECTORY_BYTES}"
        )


def _token(project: str, token: str) -> str:
    token = token.strip()
    if not is_token_text(token):
        words = f"is not 1 to {MAX_TOKEN_BYTES} bytes of ASCII"
        raise ValueError(f"a token of project {project} {words}")
    if token.startswith(PERSONAL_KEY_PREFIX):
        raise ValueError(
            f"a token of project {project} is a personal API key: {PERSONAL_KEY_PREFIX}…"
        )
    return token


def _check_remote_config(remote_config: RemoteConfig, whose: str) -> None:
    endpoint = remote_config.capture_endpoint
    if endpoint is not None and (
        len(endpoint) > _MAX_CAPTURE_ENDPOINT_BYTES or not _CAPTURE_ENDPOINT.fullmatch(endpoint)
    ):
        raise ValueError(
            f"{whose}capture_endpoint must be a path that takes events, such as /i/v0/e/"
        )
    try:
        size = len(msgspec.json.encode(remote_config.extra))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{whose}extra can't be written as JSON: {error}") from None
    if size > MAX_EXTRA_BYTES:
        raise ValueError(f"{whose}extra must be at most {MAX_EXTRA_BYTES} bytes of JSON")
