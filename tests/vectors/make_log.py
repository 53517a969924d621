"""Makes `log/<format>`: a log as a server of today leaves it, with what is to be read out of it.

    python tests/vectors/make_log.py tests/vectors/log/format-1
    python tests/vectors/make_log.py tests/vectors/log/format-1-ai ai
    python tests/vectors/make_log.py tests/vectors/log/format-1-v1 v1
    python tests/vectors/make_log.py tests/vectors/log/format-1-cookieless cookieless

The others have records of forms and spans, of capture v1 and of cookieless mode, whose contexts
have layouts of their own. Run once for each format that was ever released; what it made is never
made again, since all later releases have to read it as it is.
"""

import gzip
import json
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grpc
import pyarrow as pa

from penstock._pb.penstock.v1 import ingest_pb2 as pb
from penstock.transport.grpc import METHOD
from support import otlp
from support.server import RunningServer, clean_environment, start_server

SETTINGS: dict[str, Any] = {
    "flush_interval_seconds": 3600,
    "disk_reserve_bytes": 0,
    "wal_file_bytes": 64 * 1024,
    "projects": json.dumps(
        {"website": {"tokens": ["phc_web"]}, "shop/1": {"tokens": ["phc_shop"]}}
    ),
}


def event(name: str, **more: object) -> dict[str, object]:
    return {"event": name, "distinct_id": "ada", "properties": {"n": 1, "text": "é\n"}} | more


def fill(server: RunningServer) -> None:
    known = str(uuid.UUID(int=7))
    batch = {
        "api_key": "phc_web",
        "batch": [
            event("given id", uuid=known, timestamp="2026-01-02T03:04:05.678Z"),
            event("made id"),
            {"event": "no distinct_id"},
        ],
        "sent_at": "2026-01-02T03:04:06Z",
    }
    assert server.post_json("/batch", batch).status == 200
    body = json.dumps({"api_key": "phc_shop", "batch": [event("gzip"), event("")]}).encode()
    assert server.request("POST", "/e", body=gzip.compress(body)).status == 200
    body = json.dumps(event("zstd", token="phc_shop")).encode()
    assert (
        server.request("POST", "/i/v0/e", body=pa.compress(body, codec="zstd", asbytes=True)).status
        == 200
    )
    # A duplicate of the first, and a record of nothing but refusals.
    assert server.post_json("/batch", batch | {"batch": batch["batch"][:1]}).status == 200
    assert (
        server.post_json("/batch", {"api_key": "phc_web", "batch": [{"event": "bad"}]}).status
        == 400
    )
    append(server, event("by gRPC", uuid=str(uuid.UUID(int=8))))
    padding = "x" * 40_000
    for number in range(3):
        # Over the end of a file of the log.
        large = event(f"large {number}", properties={"padding": padding})
        assert server.post_json("/capture", large | {"api_key": "phc_web"}).status == 200


BOUNDARY = "----of a log"
FORM = ("Content-Type", f'multipart/form-data; boundary="{BOUNDARY}"')
BEARER = ("Authorization", "Bearer phc_web")


def fill_ai(server: RunningServer) -> None:
    described = {"$ai_model": "m", "n": 1}
    good = event("$ai_generation", uuid=str(uuid.UUID(int=9)), properties=described)
    for body in (form(good | {"sent_at": "2026-01-02T03:04:06Z"}), form(event("no AI"))):
        answer = server.request("POST", "/i/v0/ai", body=body, headers=[FORM, BEARER])
        assert answer.status in {200, 400}
    nameless = otlp.chat(3) | {"trace_id": b"", "span_id": b""}
    spans = [otlp.chat(1, n=1), otlp.span(2, "GET /"), nameless]
    for kind, body in (
        ("application/x-protobuf", gzip.compress(otlp.as_protobuf(*spans))),
        ("application/json", otlp.as_json(*spans, otlp.chat(4))),
    ):
        headers = [("Content-Type", kind), BEARER]
        assert server.request("POST", "/i/v0/ai/otel", body=body, headers=headers).status == 200


NOW = "2026-01-02T03:04:05Z"


def fill_v1(server: RunningServer) -> None:
    headers = {
        "Authorization": "Bearer phc_web",
        "Content-Type": "application/json",
        "User-Agent": "recorder/1.0",
        "PostHog-Sdk-Info": "recorder/1.0",
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": str(uuid.UUID(int=1)),
        "PostHog-Request-Timestamp": NOW,
    }
    options = {"process_person_profile": False, "product_tour_id": 7, "cookieless_mode": False}
    events = [
        event("known", uuid=str(uuid.UUID(int=10)), session_id="s", window_id="w"),
        event("own", uuid=str(uuid.uuid4()), options=options),
        event("undefined", uuid=str(uuid.uuid4()), distinct_id="undefined"),
        event("", uuid=str(uuid.uuid4())),
    ]
    events = [one | {"timestamp": NOW} for one in events]
    body = json.dumps({"created_at": NOW, "batch": events}).encode()
    for path in ("/i/v1/analytics/events", "/i/v1/ai/events"):
        assert server.request("POST", path, body=body, headers=[*headers.items()]).status == 200
    zipped = [*headers.items(), ("Content-Encoding", "gzip")]
    body = gzip.compress(body.replace(b'"known"', b'"zipped"'))
    assert server.request("POST", "/i/v1/analytics/events", body=body, headers=zipped).status == 200


def fill_cookieless(server: RunningServer) -> None:
    said = {
        "$cookieless_mode": True,
        "$raw_user_agent": "recorder/1.0",
        "$host": "www.example.com",
        "$timezone": "Europe/Berlin",
        "$device_id": None,
    }

    def visit(name: str, **more: object) -> dict[str, object]:
        return event(name, properties=said) | {"distinct_id": "$posthog_cookieless"} | more

    known = visit("known", uuid=str(uuid.UUID(int=11)))
    named = visit("$identify", distinct_id="ada")
    alias = visit("$create_alias")
    for batch in ([known, visit("made id"), named, alias], [known, event("other")]):
        body = gzip.compress(json.dumps({"api_key": "phc_web", "batch": batch}).encode())
        assert server.request("POST", "/e/", body=body).status == 200


def form(described: dict[str, object]) -> bytes:
    parts = {
        "event": b"\r\n" + json.dumps(described).encode(),
        "event.properties.blob": b"Content-Type: application/octet-stream\r\n\r\n\x00\r\n--\xff",
        "event.properties.said": b'Content-Type: application/json\r\n\r\n[{"role":"user"}]',
    }
    body = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n'.encode()
        + part
        + b"\r\n"
        for name, part in parts.items()
    )
    return body + f"--{BOUNDARY}--\r\n".encode()


def append(server: RunningServer, value: dict[str, object]) -> None:
    with grpc.insecure_channel(server.grpc_target) as channel:
        request = pb.AppendRequest(
            token="phc_web", body=json.dumps([value]).encode(), sent_at_unix_ms=1_767_323_045_000
        )
        answer = channel.unary_unary(METHOD)(request.SerializeToString(), timeout=30)
    # Known to the second opening.
    response = pb.AppendResponse.FromString(answer)
    assert response.accepted + response.duplicates == 1


FILLS = {"": fill, "ai": fill_ai, "v1": fill_v1, "cookieless": fill_cookieless}


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        # Two lanes: one for each opening.
        for _ in range(2):
            server = start_server(data_dir, Path(folder), **SETTINGS)
            FILLS[sys.argv[2] if sys.argv[2:] else ""](server)
            server.kill()
        (target / "format.json").write_bytes((data_dir / "format.json").read_bytes())
        for path in sorted((data_dir / "wal").glob("*.wal")):
            # Preallocated: the zeros behind its end are nothing when packed.
            (target / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        shown = command("wal", "cat", "--json", "--data-dir", data_dir)
        keep(target / "records.ndjson.gz", shown)
        for table in ("events", "rejected"):
            sql = f"SELECT * FROM {table} ORDER BY log_position, batch_index"
            rows = command("query", sql, "--format", "ndjson", "--data-dir", data_dir)
            keep(target / f"{table}.ndjson.gz", rows)


def keep(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def command(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", *map(str, arguments)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
