"""What SDKs were recorded to ask besides capturing, byte for byte, against a real server."""

import json

import pytest

from support.http import Response, send_raw
from support.recordings import RecordedRequest, load
from support.server import RunningServer, start_server

pytestmark = pytest.mark.sdk

SDKS = (
    *("android-core", "go", "java-server", "node", "php", "python", "react", "react-native", "web"),
    *("derived/posthog-dotnet", "derived/posthog-ios", "derived/posthog-rs"),
)
# The token of all recordings.
TOKEN = "phc_sdktest"
ASKED = ("/flags", "/decide", "/array/", "/api/", "/static/", "/i/v1/logs", "/i/v1/metrics")


def asked_by(sdk: str) -> list[RecordedRequest]:
    return [request for request in load(sdk).requests if request.path.startswith(ASKED)]


def names_it(request: RecordedRequest) -> bool:
    """Tell whether the token is there in the clear, and whether it matters."""
    matters = request.path.rstrip("/") == "/flags" or request.path.startswith("/array/")
    return matters and TOKEN.encode() in request.target.encode() + request.body


BY_ID = {
    f"{sdk}-{request.label}-{request.seq}".replace(" ", "-"): request
    for sdk in SDKS
    for request in asked_by(sdk)
}
REQUESTS = [pytest.param(request, id=name) for name, request in BY_ID.items()]
NAMING_IT = [pytest.param(request, id=name) for name, request in BY_ID.items() if names_it(request)]


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server that looks for the token wherever the SDK put it."""
    folder = tmp_path_factory.mktemp("asked")
    projects = json.dumps({"sdks": {"tokens": [TOKEN]}})
    return start_server(folder / "data", folder, projects=projects)


@pytest.fixture(scope="module", autouse=True)
def stopped(strict_server: RunningServer):
    yield
    assert strict_server.stop() == 0


def check(request: RecordedRequest, answer: Response) -> None:
    path = request.path.rstrip("/")
    if request.method == "OPTIONS":
        assert answer.status in {200, 204}
    elif path.startswith("/static") or path.endswith("/remote_config"):
        # Nothing is there, and each SDK goes on without.
        assert answer.status == 404
    elif path.endswith(".js"):
        assert answer.status == 200
        assert f'c["{TOKEN}"]='.encode() in answer.body
    else:
        assert answer.status == 200
        assert isinstance(answer.json(), dict)
    if path == "/flags" and request.method == "POST":
        assert answer.json()["featureFlags"] == answer.json()["flags"] == {}
    sent = {name.lower(): value for name, value in request.headers}
    if "origin" in sent:
        assert answer.header("access-control-allow-origin") == sent["origin"]


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_an_sdk_asks_for_is_answered(
    request_: RecordedRequest, running_server: RunningServer
) -> None:
    check(request_, send_raw(running_server.http, request_.raw()))


@pytest.mark.parametrize("request_", REQUESTS)
def test_its_token_is_found_where_unknown_ones_are_refused(
    request_: RecordedRequest, strict_server: RunningServer
) -> None:
    check(request_, send_raw(strict_server.http, request_.raw()))


@pytest.mark.parametrize("request_", NAMING_IT)
def test_another_token_is_refused_where_the_config_and_flags_are_asked_for(
    request_: RecordedRequest, strict_server: RunningServer
) -> None:
    answer = send_raw(strict_server.http, request_.raw().replace(TOKEN.encode(), b"phc_another"))
    assert answer.status == (404 if request_.path.startswith("/array") else 401)
