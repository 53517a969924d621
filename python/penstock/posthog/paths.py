"""Which URL leads to which call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote

from penstock.logs import logger
from penstock.posthog.calls import (
    GET,
    JSON,
    POST,
    POST_AND_DELETE,
    Answer,
    Call,
    FixedCall,
    etag_of,
    refused,
)
from penstock.posthog.flags import FlagsCall, TokenOf
from penstock.posthog.projects import ProjectConfigs
from penstock.posthog.static_files import ARRAY_JS, StaticCall, StaticFiles

if TYPE_CHECKING:
    from penstock.config import Settings

_log = logger("posthog")

# More than any SDK sends; a query of more is not looked at.
_MAX_PARAMETERS: Final = 100

_DEFINITIONS: Final = b'{"flags":[],"group_type_mapping":{},"cohorts":{}}'
_DEFINITIONS_ANSWER: Final = Answer(
    200,
    _DEFINITIONS,
    JSON,
    etag_of(_DEFINITIONS),
    # Asked for with a secret key: nobody else may keep it, and the SDK asks again each time.
    b"private, must-revalidate",
)
_NOTHING: Final = Answer(200, b"{}")

# Without their final slash. None of these depends on who asks: there is nothing to be had.
_FIXED: Final[dict[bytes, Call]] = {
    b"/flags/definitions": FixedCall("flags/definitions", GET, _DEFINITIONS_ANSWER),
    b"/api/feature_flag/local_evaluation": FixedCall("flags/definitions", GET, _DEFINITIONS_ANSWER),
    b"/api/surveys": FixedCall("surveys", GET, Answer(200, b'{"surveys":[]}')),
    b"/api/early_access_features": FixedCall(
        "early_access_features", GET, Answer(200, b'{"earlyAccessFeatures":[]}')
    ),
    b"/api/web_experiments": FixedCall("web_experiments", GET, Answer(200, b'{"experiments":[]}')),
    b"/api/push_subscriptions": FixedCall("push_subscriptions", POST_AND_DELETE, _NOTHING),
}

# Signals, and below what they are sent. An exporter that is told the base of AI spans sends all
# that it has there; its traces are taken, by a route of their own.
_SIGNALS: Final = {
    "logs": ("/v1", "/i/v1", "/i/v0/ai/otel/v1"),
    "metrics": ("/v1", "/i/v1", "/i/v0/ai/otel/v1"),
    "traces": ("/v1", "/i/v1"),
}
# The only two below which a path holds something of its own.
_ARRAY: Final = b"/array/"
_STATIC: Final = b"/static/"


class DroppedSignals(Call):
    """Telemetry that is no event: taken, so that its SDK does not send it again, and dropped."""

    methods = POST

    def __init__(self, signal: str) -> None:
        self.name = signal
        self._told = False

    def by_head(self, method: bytes) -> Answer:  # noqa: ARG002 - POST is all there is
        """Answer, and say once that nothing is kept."""
        if not self._told:
            self._told = True
            _log.warning(
                "telemetry_dropped",
                signal=self.name,
                advice="only events are stored: turn it off in the SDK, or send it elsewhere",
            )
        return _NOTHING


class SdkAnswers:
    """Answers what SDKs call besides capture."""

    def __init__(self, settings: Settings, token_of: TokenOf) -> None:
        self._projects = ProjectConfigs(settings)
        self._token_of = token_of
        folder = settings.static_dir
        self._files = None if folder is None else StaticFiles(folder)
        self._warn_without_recorder()
        self._fixed = _FIXED.copy()
        for signal, bases in _SIGNALS.items():
            call = DroppedSignals(signal)
            self._fixed |= {f"{base}/{signal}".encode(): call for base in bases}

    def replace_projects(self, settings: Settings) -> None:
        """Take over other projects and remote configs: all of them at once."""
        self._projects = ProjectConfigs(settings)
        self._warn_without_recorder()

    def _warn_without_recorder(self) -> None:
        """Say it if pages are told to record, and won't find what does it.

        It is no error of the settings: apps, and pages that bundle the recorder, need no file.
        """
        if self._projects.record_sessions and not (self._files and self._files.has_recorder):
            _log.warning(
                "no_recorder",
                advice="sessionRecording is on: web pages load lazy-recorder.js from /static/, so "
                "name static_dir, with the npm package posthog-js unpacked there",
            )

    def find(self, path: bytes, query: bytes) -> Call | None:
        """Find the call of a URL; None: it leads nowhere.

        Args:
            path: Raw, without the prefix that it may have been mounted under.
            query: Raw, without its mark.
        """
        bare = path.removesuffix(b"/")
        if bare in {b"/flags", b"/decide"}:
            name = bare[1:].decode()
            return FlagsCall(name, _parameters(query), self._projects, self._token_of)
        if path.startswith(_ARRAY):
            return self._find_array(bare[len(_ARRAY) :])
        if path.startswith(_STATIC) and self._files is not None:
            return StaticCall("static", self._files, path[len(_STATIC) :])
        return self._fixed.get(bare)

    def _find_array(self, rest: bytes) -> Call | None:
        raw_token, _, name = rest.partition(b"/")
        token = unquote(raw_token.decode("latin-1"), errors="replace")
        config = self._projects.find(token)
        if name not in {b"config", b"config.js", ARRAY_JS}:
            return None
        if config is None:
            # Here it is 404 (`posthog-protocol.md` §3.3): browsers go on without.
            label = f"array/{name.decode()}"
            return FixedCall(label, GET, refused("unknown_token", status=404))
        if name == b"config":
            return FixedCall("array/config", GET, config.answer)
        if name == b"config.js":
            return FixedCall("array/config.js", GET, config.script_answer(token))
        if self._files is None:
            return None
        return StaticCall("array/array.js", self._files, ARRAY_JS, config.script(token))


def _parameters(query: bytes) -> dict[str, str]:
    """Read a query; of a name that comes twice the first counts."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return {}
    return dict(reversed(pairs))
