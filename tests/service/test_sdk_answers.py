"""What SDKs call besides capture, with the real core behind it."""

import base64
import gzip
import json
import zlib
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.service

PROJECTS = {
    "shop": {"tokens": ["phc_1", "phc_2"], "remote_config": {"session_recording": True}},
    "app": {"tokens": ["phc_3"]},
}
FLAGS = json.dumps({"token": "phc_1", "distinct_id": "ada", "groups": {}}).encode()
# The same with another's token.
STRANGERS = FLAGS.replace(b"phc_1", b"phc_9")


@pytest.fixture(scope="module")
def static_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    dist = folder / "package" / "dist"
    dist.mkdir(parents=True)
    (dist / "array.js").write_bytes(b"/*array*/" * 100_000)
    (dist / "lazy-recorder.js").write_bytes(b"/*recorder*/")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, static_dir):
    from support.server import start_server  # noqa: PLC0415 - one for the module, of its own

    folder = tmp_path_factory.mktemp("sdk-answers")
    server = start_server(
        folder / "data",
        folder,
        projects=json.dumps(PROJECTS),
        remote_config=json.dumps({"heatmaps": True, "capture_endpoint": "/e/"}),
        static_dir=static_dir,
        prefix="/ingest",
    )
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("prefix", ["", "/ingest"])
def test_each_project_has_its_remote_config(server, prefix):
    shop = server.request("GET", f"{prefix}/array/phc_2/config").json()
    app = server.request("GET", f"{prefix}/array/phc_3/config").json()
    assert (shop["sessionRecording"], app["sessionRecording"]) == ({"endpoint": "/s/"}, False)
    for config in (shop, app):
        assert (config["heatmaps"], config["analytics"]) == (True, {"endpoint": "/e/"})
    assert server.request("GET", f"{prefix}/array/phc_9/config.js").status == 404


FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.mark.parametrize("path", ["/flags/?v=2", "/flags?v=2", "/decide/?v=3&ip=1&_=1&ver=1.96"])
@pytest.mark.parametrize(
    ("code", "query", "headers"),
    [
        (bytes, "", []),
        (gzip.compress, "", []),
        (gzip.compress, "", [("Content-Encoding", "gzip")]),
        (gzip.compress, "&compression=gzip-js", []),
        (zlib.compress, "", [("Content-Encoding", "deflate")]),
        (base64.b64encode, "&compression=base64", []),
        (lambda body: b"data=" + quote(base64.b64encode(body)).encode(), "", [FORM]),
        (lambda body: b"data=" + quote(body).encode(), "", [FORM]),
        (
            lambda body: b"data=" + quote(base64.b64encode(body)).encode(),
            "&compression=base64",
            [FORM],
        ),
    ],
)
def test_the_token_of_flags_is_found_in_every_coding(server, path, code, query, headers):
    ours = server.request("POST", path + query, body=code(FLAGS), headers=headers)
    theirs = server.request("POST", path + query, body=code(STRANGERS), headers=headers)
    assert (ours.status, theirs.status) == (200, 401)
    assert ours.json()["featureFlags"] == {}
    assert theirs.body == b"API key is not valid: unknown to this server"


@pytest.mark.parametrize(
    ("body", "status", "start"),
    [
        (b"", 400, "request missing data payload"),
        (b"{", 400, "failed to parse request"),
        (b"\x1f\x8b\x08garbage", 400, "failed to decode request: invalid GZIP data"),
        (b"{}", 401, "event submitted without an api_key"),
        (b'{"api_key":"phx_x"}', 401, "API key is not valid"),
        (gzip.compress(b" " * (2 << 20)), 413, "maximum event size exceeded"),
    ],
)
def test_flags_without_a_readable_token_are_refused_in_the_protocols_words(
    server, body, status, start
):
    origin = ("Origin", "https://shop.example")
    response = server.request("POST", "/flags/?v=2", body=body, headers=[origin])
    assert response.status == status
    assert response.body.decode().startswith(start)
    assert response.header("access-control-allow-origin") == origin[1]


@pytest.mark.parametrize("key", ["token", "api_key"])
def test_every_spelling_of_a_token_is_read(server, key):
    body = json.dumps({key: "phc_1", "distinct_id": None, "person_properties": {"a": 1}}).encode()
    assert server.request("POST", "/flags/?v=2", body=body).status == 200


def test_scripts_are_served_from_the_unpacked_package(server, static_dir):
    array = (static_dir / "package" / "dist" / "array.js").read_bytes()
    response = server.request("GET", "/static/array.js", headers=[("Origin", "https://a.example")])
    assert (response.status, response.body) == (200, array)
    assert (response.header("content-type") or "").startswith("text/javascript")
    assert response.header("access-control-allow-origin") == "https://a.example"
    again = [("If-None-Match", response.header("etag") or "")]
    assert server.request("GET", "/static/array.js", headers=again).status == 304
    assert server.request("GET", "/ingest/static/lazy-recorder.js?v=1").body == b"/*recorder*/"
    assert server.request("GET", "/static/1.449.2/lazy-recorder.js").status == 404
    with_config = server.request("GET", "/array/phc_1/array.js").body
    assert with_config.endswith(array)
    assert b'"sessionRecording":{"endpoint":"/s/"}' in with_config.removesuffix(array)


def test_nothing_outside_of_the_folder_is_served(server):
    for path in (
        "/static/../package.json",
        "/static/../../../../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static//etc/passwd",
    ):
        assert server.request("GET", path).status == 404


def test_a_folder_that_is_none_is_named_before_anything_is_opened(tmp_path):
    from penstock.cli import main  # noqa: PLC0415 - of this test only

    assert main(["config", "check", "--static-dir", str(tmp_path / "none")]) == 2
    assert main(["config", "check", "--static-dir", str(tmp_path)]) == 0
