"""Every setting of the service: one frozen struct, with the unit and the reason of each default.

Where values come from (defaults, file, environment, flags) and how they are checked stands in
`config_loading`. `listing` is what documentation and `penstock config` are made from.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_type_hints

import msgspec

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30


class Kind(StrEnum):
    """How the text of a setting is read."""

    ADDRESS = "host:port"
    PATH = "path"
    SECONDS = "seconds"
    BYTES = "bytes"
    COUNT = "count"
    CHOICE = "choice"
    CHOICES = "choices"
    PROJECTS = "projects"
    REMOTE_CONFIG = "remote config"
    PATHS = "paths"


class Spec(NamedTuple):
    """What is known of a setting besides its type and default.

    Attributes:
        kind: How its text is read, and its unit.
        reason: What it is for and why the default is what it is.
        minimum: Smallest value that is taken.
        maximum: Largest value that is taken; None: what a 64-bit number holds.
        choices: The values of a choice.
    """

    kind: Kind
    reason: str
    minimum: float = 0
    maximum: float | None = None
    choices: tuple[str, ...] = ()


class RemoteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What browsers and phones are told to do. None: as the server's `remote_config` says.

    Attributes:
        autocapture: Clicks and the like are captured without a line of code.
        person_profiles: `identified_only` or `always`, where a page does not say itself.
        capture_endpoint: The path that browsers send events to.
        session_recording: Recordings are sent.
        heatmaps: Where pages are clicked and scrolled.
        dead_clicks: Clicks that change nothing.
        exceptions: Errors that nobody catches become events.
        performance: Web vitals and timings of requests.
        extra: More of the protocol's keys, sent as they are; they win over all others.
    """

    autocapture: bool | None = None
    person_profiles: Literal["identified_only", "always"] | None = None
    capture_endpoint: str | None = None
    session_recording: bool | None = None
    heatmaps: bool | None = None
    dead_clicks: bool | None = None
    exceptions: bool | None = None
    performance: bool | None = None
    extra: dict[str, Any] = {}


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tenant.

    Attributes:
        tokens: The API keys whose events are this project's.
        ack: Ack level of its HTTP requests; None: the server's.
        client_ip: `store` or `discard`; None: as the server does.
        remote_config: Where its SDKs are told something else than others.
    """

    tokens: list[str]
    ack: str | None = None
    remote_config: RemoteConfig = RemoteConfig()
    client_ip: str | None = None


CLIENT_IP_CHOICES: Final = ("store", "discard")
ACK_LEVELS: Final = ("memory", "disk", "table")

# What the core takes as a token (`rust_core/decode/src/token.rs`).
MAX_TOKEN_BYTES: Final = 64
PERSONAL_KEY_PREFIX: Final = "phx_"


def is_token_text(token: str) -> bool:
    """Tell whether a text has the length and the letters of a token; a personal key has too."""
    return 1 <= len(token) <= MAX_TOKEN_BYTES and token.isascii() and "\0" not in token


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process, checked. MiB and GiB are powers of two."""

    data_dir: Annotated[Path, Spec(Kind.PATH, "Everything that is stored is below it.")] = Path(
        "penstock-data"
    )
    http: Annotated[
        str,
        Spec(
            Kind.ADDRESS,
            "Where SDKs send to. Loopback: safe until projects are named. Port 0 picks a free one.",
        ),
    ] = "127.0.0.1:8000"
    grpc: Annotated[str, Spec(Kind.ADDRESS, "Where internal services append.")] = "127.0.0.1:8001"
    admin: Annotated[
        str, Spec(Kind.ADDRESS, "Health and metrics, apart so that it need not be public.")
    ] = "127.0.0.1:8002"
    prefix: Annotated[
        tuple[str, ...],
        Spec(
            Kind.PATHS,
            "Paths under which every HTTP route is found as well, for proxies that keep theirs. "
            "The flag may be repeated.",
        ),
    ] = ()
    ready_file: Annotated[
        Path | None,
        Spec(Kind.PATH, "JSON with the real addresses, written once all listeners are up."),
    ] = None
    projects: Annotated[
        dict[str, Project],
        Spec(
            Kind.PROJECTS,
            "Name to tokens (and ack, client_ip, remote_config). Naming any closes the door to "
            "unknown tokens: 401. Read again on SIGHUP.",
        ),
    ] = {}
    remote_config: Annotated[
        RemoteConfig,
        Spec(
            Kind.REMOTE_CONFIG,
            "What SDKs are told to do, where a project does not say otherwise. Read again on "
            "SIGHUP.",
        ),
    ] = RemoteConfig()
    static_dir: Annotated[
        Path | None,
        Spec(
            Kind.PATH,
            "Served as `/static/`: the npm package posthog-js unpacked there makes the HTML "
            "snippet work.",
        ),
    ] = None
    max_unnamed_projects: Annotated[
        int,
        Spec(Kind.COUNT, "Tokens taken as projects while none is named; partitions cost memory."),
    ] = 1000
    ack: Annotated[
        str,
        Spec(
            Kind.CHOICE,
            "What an answer over HTTP waits for. disk: written and synced, survives a power cut.",
            choices=ACK_LEVELS,
        ),
    ] = "disk"
    allowed_ack: Annotated[
        tuple[str, ...],
        Spec(
            Kind.CHOICES,
            "Levels that a gRPC request may ask for. memory is left out: it loses events.",
            choices=ACK_LEVELS,
        ),
    ] = ("disk", "table")
    table_ack_timeout_seconds: Annotated[
        float,
        Spec(
            Kind.SECONDS,
            "How long an answer at `table` waits; six flush intervals.",
            minimum=1,
            maximum=3600,
        ),
    ] = 30.0
    flush_interval_seconds: Annotated[
        float,
        Spec(
            Kind.SECONDS,
            "Rows reach the table at least this often: the freshness that readers see.",
            minimum=0.01,
            maximum=86_400,
        ),
    ] = 5.0
    drain_timeout_seconds: Annotated[
        float,
        Spec(
            Kind.SECONDS,
            "What a shutdown may take: below the 30 s after which orchestrators kill. The log "
            "keeps what is not in the table by then.",
            maximum=86_400,
        ),
    ] = 25.0
    dedup_window_seconds: Annotated[
        int,
        Spec(
            Kind.SECONDS,
            "An event sent again within it is stored once. A day covers phones that were "
            "offline; 0 turns it off.",
            maximum=366 * 86_400,
        ),
    ] = 86_400
    dedup_memory_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Newest ids and the filters of older ones.", minimum=MIB),
    ] = 96 * MIB
    dedup_disk_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Older ids. Past it the window is shortened, with a warning."),
    ] = 4 * GIB
    max_request_bytes: Annotated[
        int,
        Spec(
            Kind.BYTES,
            "Body on the wire: above what any SDK builds, since most drop a batch on 413.",
            minimum=1,
            maximum=GIB,
        ),
    ] = 20 * MIB
    max_decompressed_bytes: Annotated[
        int,
        Spec(
            Kind.BYTES,
            "Body decompressed: bounds what a bomb costs.",
            minimum=1,
            # The core goes no further.
            maximum=512 * MIB,
        ),
    ] = 100 * MIB
    max_event_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Text of one event: the largest that SDKs send.", minimum=1, maximum=GIB),
    ] = 8 * MIB
    max_recording_bytes: Annotated[
        int,
        Spec(
            Kind.BYTES,
            "Upload of session replay on the wire, and text of one snapshot in it: above the "
            "25 MiB that PostHog's own service takes.",
            minimum=1,
            maximum=512 * MIB,
        ),
    ] = 28 * MIB
    max_events_per_request: Annotated[
        int,
        Spec(Kind.COUNT, "SDKs send hundreds, imports thousands.", minimum=1, maximum=1_000_000),
    ] = 50_000
    max_json_depth: Annotated[
        int,
        Spec(Kind.COUNT, "Containers open at once. A deeper event is refused.", 2, 65_535),
    ] = 128
    max_in_flight_bytes: Annotated[
        int,
        Spec(
            Kind.BYTES,
            "Decompressed bodies that are taken and not yet answered; past it 503.",
            minimum=MIB,
        ),
    ] = 128 * MIB
    max_connections: Annotated[
        int,
        Spec(
            Kind.COUNT,
            "Open HTTP connections; past it 503. About 4 kB each when idle, measured.",
            minimum=1,
            maximum=1_000_000,
        ),
    ] = 10_000
    max_wal_bytes: Annotated[
        int,
        Spec(
            Kind.BYTES,
            "Log on disk: how long the table may be out of reach before 503.",
            minimum=4 * MIB,
        ),
    ] = 16 * GIB
    wal_file_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "One file of the log: the unit of release.", minimum=64 * KIB),
    ] = 64 * MIB
    max_group_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Most bytes that share a sync; more adds latency, not rate.", 4 * KIB),
    ] = 4 * MIB
    batch_cache_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Parsed batches kept for the background; past it they are read back."),
    ] = 16 * MIB
    # More is not faster: 48, 28 and 20 MiB build as many rows a CPU second (`bench/load`).
    segment_memory_bytes: Annotated[
        int, Spec(Kind.BYTES, "Rows of open partitions before they spill.", minimum=MIB)
    ] = 20 * MIB
    max_open_partitions: Annotated[
        int,
        Spec(Kind.COUNT, "Partitions being built at once; more spill early.", 1, 65_536),
    ] = 64
    decode_threads: Annotated[
        int,
        Spec(Kind.COUNT, "Threads that decode; one keeps up with one HTTP loop.", 1, 256),
    ] = 1
    disk_reserve_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Space kept aside so that a full disk can still be flushed."),
    ] = 512 * MIB
    query_tail_memory_bytes: Annotated[
        int,
        Spec(Kind.BYTES, "Unflushed rows that a query holds before it spills.", minimum=MIB),
    ] = 64 * MIB
    trusted_proxies: Annotated[
        int,
        Spec(
            Kind.COUNT,
            "Proxies in front: the client is the N-th from the right of X-Forwarded-For, else of "
            "Forwarded, else X-Real-IP. 0: the peer; the headers are anyone's to write.",
            maximum=32,
        ),
    ] = 0
    client_ip: Annotated[
        str,
        Spec(
            Kind.CHOICE,
            "discard: addresses of clients, also `$ip` in bodies, are gone before the log.",
            choices=CLIENT_IP_CHOICES,
        ),
    ] = "store"
    log_format: Annotated[
        str, Spec(Kind.CHOICE, "Form of the log lines.", choices=("logfmt", "json"))
    ] = "logfmt"
    log_level: Annotated[
        str,
        Spec(
            Kind.CHOICE,
            "Least level that is logged. Requests are on debug only.",
            choices=("debug", "info", "warning", "error"),
        ),
    ] = "info"


class Listed(NamedTuple):
    """One row of the settings' documentation."""

    name: str
    default: str
    unit: str
    reason: str
    environment: str


def specs() -> dict[str, Spec]:
    """Give the specification of each setting, in the order of the struct."""
    hints = get_type_hints(Settings, include_extras=True)
    return {
        name: next(extra for extra in get_args(hints[name])[1:] if isinstance(extra, Spec))
        for name in Settings.__struct_fields__
    }


def size_text(size: int) -> str:
    """Write a size the way it may be configured: `20MiB`, or a plain number."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def value_text(value: object, kind: Kind) -> str:
    """Write a setting's value for people."""
    if value is None:
        return ""
    if kind is Kind.BYTES and isinstance(value, int):
        return size_text(value)
    if kind is Kind.PROJECTS and isinstance(value, dict):
        # Names only: tokens are not for the terminal or the log (SEC-2).
        return ",".join(value)
    if isinstance(value, RemoteConfig):
        parts = msgspec.structs.asdict(value).items()
        said = {key: part for key, part in parts if part is not None and part != {}}
        return msgspec.json.encode(said).decode() if said else ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def listing() -> list[Listed]:
    """List every setting with its default, unit and reason, for documentation."""
    defaults = Settings()
    return [
        Listed(
            name=name,
            default=value_text(getattr(defaults, name), spec.kind),
            unit="|".join(spec.choices) or spec.kind.value,
            reason=spec.reason,
            environment=f"PENSTOCK_{name.upper()}",
        )
        for name, spec in specs().items()
    ]


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`.

    Raises:
        ValueError: It is not of that form.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets: [::1]:8000")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError("must be host:port")
    return host, int(port)


_FRONT_ONLY: Final = frozenset(
    {
        "http",
        "grpc",
        "admin",
        "prefix",
        "ready_file",
        "projects",
        "remote_config",
        "static_dir",
        "max_connections",
        "trusted_proxies",
        "log_format",
        "log_level",
        "query_tail_memory_bytes",
        "drain_timeout_seconds",
    }
)


def engine_options(settings: Settings) -> dict[str, str | int | bool | None]:
    """Give what the core needs to know, flat.

    Sizes and counts keep their names. Durations are whole milliseconds under `…_ms` (the boundary
    takes no floats), lists are joined by commas, projects are JSON under `projects_json`.
    """
    options: dict[str, str | int | bool | None] = {}
    for name, spec in specs().items():
        if name in _FRONT_ONLY:
            continue
        value = getattr(settings, name)
        if spec.kind is Kind.SECONDS:
            options[f"{name.removesuffix('_seconds')}_ms"] = round(value * 1000)
        elif isinstance(value, tuple):
            options[name] = ",".join(value)
        else:
            options[name] = str(value) if isinstance(value, Path) else value
    options["projects_json"] = projects_json(settings)
    return options


def projects_json(settings: Settings) -> str:
    """Write what the core needs to know of the projects by name: tokens, and what differs."""
    return json.dumps(
        {
            name: {"tokens": one.tokens, "ack": one.ack, "client_ip": one.client_ip}
            for name, one in settings.projects.items()
        }
    )
