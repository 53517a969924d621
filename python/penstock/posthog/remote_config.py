"""Remote config: what browsers and phones are told to do.

Keys and their effect on each SDK: `sdk-wire.md` §2 and §15, `posthog-protocol.md` §6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from penstock.posthog.calls import JAVASCRIPT, Answer, etag_of

if TYPE_CHECKING:
    from penstock.config import RemoteConfig

# A page that was loaded within it does not ask again; a change is seen everywhere after it.
CACHE_CONTROL: Final = b"public, max-age=60"

# Without them browsers send plain JSON as soon as they have read the answer, at many times the
# bytes and with a preflight before each request.
SUPPORTED_COMPRESSION: Final = ("gzip", "gzip-js")

# Where nothing else is said. Clicks are captured, as in a new project of PostHog; all that costs
# more requests is off.
_CAPTURE_ENDPOINT: Final = "/i/v0/e/"
_PERSON_PROFILES: Final = "identified_only"


class ProjectConfig:
    """The remote config of one project.

    Attributes:
        content: The object, for `/flags` and `/decide`.
        json: The same as text.
        answer: To whoever asks for the text.
    """

    __slots__ = ("answer", "content", "json")

    def __init__(self, own: RemoteConfig, servers: RemoteConfig) -> None:
        self.content = content_of(own, servers)
        self.json = msgspec.json.encode(self.content)
        self.answer = Answer(200, self.json, etag=etag_of(self.json), cache_control=CACHE_CONTROL)

    def script(self, token: str) -> bytes:
        """Write the script that hands the config to posthog-js before it starts."""
        # As a literal of JSON, whatever a stranger puts into the path stays text.
        name = msgspec.json.encode(token)
        return (
            b"(function(){var c=window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};"
            b'c[%s]={"config":%s,"siteApps":[]}})();\n'
        ) % (name, self.json)

    def script_answer(self, token: str) -> Answer:
        """Answer with that script."""
        script = self.script(token)
        return Answer(200, script, JAVASCRIPT, etag_of(script), CACHE_CONTROL)


def content_of(own: RemoteConfig, servers: RemoteConfig) -> dict[str, Any]:
    """Build the object that SDKs read.

    Args:
        own: What the project says.
        servers: What holds where it says nothing.
    """

    def said(key: str, otherwise: object) -> Any:  # noqa: ANN401 - of the key's type
        for config in (own, servers):
            value = getattr(config, key)
            if value is not None:
                return value
        return otherwise

    autocapture = said("autocapture", otherwise=True)
    exceptions = said("exceptions", otherwise=False)
    performance = said("performance", otherwise=False)
    return {
        # Must be there: with the key missing, posthog-js captures no clicks.
        "autocapture_opt_out": not autocapture,
        "supportedCompression": SUPPORTED_COMPRESSION,
        "analytics": {"endpoint": said("capture_endpoint", _CAPTURE_ENDPOINT)},
        "defaultIdentifiedOnly": said("person_profiles", _PERSON_PROFILES) == _PERSON_PROFILES,
        "elementsChainAsString": True,
        "sessionRecording": (
            {"endpoint": "/s/"} if said("session_recording", otherwise=False) else False
        ),
        "heatmaps": said("heatmaps", otherwise=False),
        "captureDeadClicks": said("dead_clicks", otherwise=False),
        "autocaptureExceptions": exceptions,
        "errorTracking": {"autocaptureExceptions": exceptions, "suppressionRules": []},
        "capturePerformance": {"web_vitals": performance, "network_timing": performance},
        "hasFeatureFlags": False,
        "surveys": False,
        "siteApps": [],
        "isAuthenticated": False,
        "toolbarParams": {},
        # What posthog-js read before `autocapture_opt_out`.
        "config": {"enable_collect_everything": autocapture},
        **servers.extra,
        **own.extra,
    }
