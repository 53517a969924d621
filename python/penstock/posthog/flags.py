"""`/flags` and `/decide`: there are no flags here, said in the form that each SDK reads.

A body is looked into only for its token, and only where unknown ones are refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from penstock.outcomes import outcome_of
from penstock.posthog.calls import GET_AND_POST, TEXT, Answer, Call, refused
from penstock.posthog.remote_config import SUPPORTED_COMPRESSION

if TYPE_CHECKING:
    from penstock.posthog.projects import ProjectConfigs
    from penstock.posthog.remote_config import ProjectConfig

# Properties of a person and his groups go with a request for flags; the largest seen are 30 kB.
# Also what such a body may become when its coding is undone.
MAX_FLAGS_BODY_BYTES: Final = 1 << 20

# The answer of `/decide` at its first two versions, which named flags that are on; later ones have
# values and payloads. `flags` is the form of `/flags?v=2`, and old readers pass over it.
_FIRST_VERSION: Final[dict[str, Any]] = {"featureFlags": []}
_SECOND_VERSION: Final[dict[str, Any]] = {"featureFlags": {}}
_LATER_VERSIONS: Final[dict[str, Any]] = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
}


class NoToken(Protocol):
    """Why a body names no token: `_core.Refusal`, as far as it is read here."""

    @property
    def code(self) -> str:
        """Code of the table."""

    @property
    def text(self) -> str:
        """What the client reads."""


TokenOf = Callable[[bytes, int, int], str | NoToken]


class FlagsCall(Call):
    """One request for flags."""

    methods = GET_AND_POST
    # As PostHog's own service has it.
    options_status = 204
    max_body_bytes = MAX_FLAGS_BODY_BYTES

    def __init__(
        self, name: str, parameters: dict[str, str], projects: ProjectConfigs, token_of: TokenOf
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._projects = projects
        self._token_of = token_of

    def by_head(self, method: bytes) -> Answer | None:
        """Answer all but a POST whose token must be known and stands in the body."""
        if self._projects.open or method == b"HEAD":
            return self._flags(self._projects.default, asked=method != b"POST")
        token = self._parameters.get("token") or self._parameters.get("api_key")
        if token is not None:
            return self._of_token(token, asked=method != b"POST")
        return None if method == b"POST" else refused("missing_token")

    def answer(self, body: bytes, coding: int) -> Answer:
        """Answer by the body's token."""
        token = self._token_of(body, coding, MAX_FLAGS_BODY_BYTES)
        if isinstance(token, str):
            return self._of_token(token, asked=False)
        return Answer(outcome_of(token.code).http_status, token.text.encode(), TEXT)

    def _of_token(self, token: str, *, asked: bool) -> Answer:
        config = self._projects.find(token)
        if config is None:
            return refused("unknown_token")
        return self._flags(config, asked=asked)

    def _flags(self, config: ProjectConfig, *, asked: bool) -> Answer:
        """Write the answer; `asked` by GET it says what bodies may be compressed with."""
        decides = self.name == "decide"
        answer: dict[str, Any] = {}
        if decides or self._parameters.get("config") in {"true", "1"}:
            answer |= config.content
        elif asked:
            answer["supportedCompression"] = SUPPORTED_COMPRESSION
        version = self._parameters.get("v", "1") if decides else "2"
        if decides and version == "1":
            answer |= _FIRST_VERSION
        elif decides and version == "2":
            answer |= _SECOND_VERSION
        else:
            answer |= _LATER_VERSIONS
            answer["requestId"] = str(uuid.uuid4())
        return Answer(200, msgspec.json.encode(answer))
