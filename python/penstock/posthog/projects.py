"""Which tokens are known, and the remote config of each: one table, made anew on a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config import PERSONAL_KEY_PREFIX, is_token_text
from penstock.posthog.remote_config import ProjectConfig

if TYPE_CHECKING:
    from penstock.config import Settings


class ProjectConfigs:
    """Looks the config of a token's project up.

    Attributes:
        open: Whether any token is taken, since no project is named.
        default: The config of whoever has none of his own.
        record_sessions: Whether anybody is told to.
    """

    __slots__ = ("_by_token", "default", "open", "record_sessions")

    def __init__(self, settings: Settings) -> None:
        servers = settings.remote_config
        self.open = not settings.projects
        self.default = ProjectConfig(servers, servers)
        self._by_token: dict[str, ProjectConfig] = {}
        for project in settings.projects.values():
            config = ProjectConfig(project.remote_config, servers)
            self._by_token |= dict.fromkeys(project.tokens, config)
        told = self._by_token.values() if settings.projects else (self.default,)
        self.record_sessions = any(config.content["sessionRecording"] for config in told)

    def find(self, token: str) -> ProjectConfig | None:
        """Find the config of a token; None: it is not known here, or can be no token."""
        token = token.strip()
        if not self.open:
            return self._by_token.get(token)
        may_be_token = is_token_text(token) and not token.startswith(PERSONAL_KEY_PREFIX)
        return self.default if may_be_token else None
