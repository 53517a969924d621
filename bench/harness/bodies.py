"""Request bodies for the boundary benches; the same shape as the Rust corpus, from a seed."""

import gzip
import json
import random
import uuid

TOKEN = "phc_benchBenchBenchBenchBenchBenchBenchBenchBen"
_PATHS = ["/", "/pricing", "/docs/start", "/checkout/payment", "/search", "/login"]
_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)


def _uuid(source: random.Random) -> str:
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def event(source: random.Random) -> dict[str, object]:
    """Make one web event of about 1 kB with an id that is its own."""
    path = source.choice(_PATHS)
    distinct_id = _uuid(source)
    second = source.randrange(60)
    return {
        "uuid": _uuid(source),
        "event": source.choice(["$pageview", "$pageleave", "$autocapture", "item_added"]),
        "distinct_id": distinct_id,
        "timestamp": f"2026-01-15T12:00:{second:02}.000Z",
        "properties": {
            "$os": "Windows",
            "$os_version": "10.0",
            "$browser": "Chrome",
            "$browser_version": 142,
            "$device_type": "Desktop",
            "$current_url": f"https://app.acme.io{path}",
            "$host": "app.acme.io",
            "$pathname": path,
            "$raw_user_agent": _AGENT,
            "$browser_language": "en-US",
            "$screen_height": 1080,
            "$screen_width": 1920,
            "$viewport_height": source.randrange(800, 980),
            "$viewport_width": 1920,
            "$lib": "web",
            "$lib_version": "1.298.0",
            "$insert_id": f"{source.getrandbits(52):013x}",
            "$time": 1768478400 + second,
            "$device_id": _uuid(source),
            "$session_id": _uuid(source),
            "$window_id": _uuid(source),
            "$pageview_id": _uuid(source),
            "$referrer": "$direct",
            "$timezone": "Europe/Berlin",
            "$is_identified": True,
            "$process_person_profile": True,
            "$prev_id": _uuid(source),
        },
    }


def body(events: int, seed: int) -> bytes:
    """Make a plain body for `/batch/`; no id comes twice, also not with another seed."""
    source = random.Random(seed)
    envelope = {
        "api_key": TOKEN,
        "historical_migration": False,
        "sent_at": "2026-01-15T13:00:00.000Z",
        "batch": [event(source) for _ in range(events)],
    }
    return json.dumps(envelope, separators=(",", ":")).encode()


def gzipped(plain: bytes) -> bytes:
    """Compress as SDKs do."""
    return gzip.compress(plain, compresslevel=6, mtime=0)
