"""The Rust core, as Python sees it. Compared with the built module by `stubtest`."""

from collections.abc import Mapping, Sequence
from typing import Final, Self, final

__all__ = [
    "BUILD_FEATURES",
    "BUILD_PROFILE",
    "CoreError",
    "Cut",
    "DataDirectoryError",
    "DirectoryLock",
    "Engine",
    "LedgerProject",
    "LedgerRead",
    "LogDamage",
    "LogFile",
    "LogReader",
    "LogRecord",
    "Refusal",
    "Results",
    "SegmentFile",
    "SubmitResult",
    "TailRead",
    "__version__",
    "arrow_schema_json",
    "codes",
    "crash_point",
    "crash_points",
    "decode_for_bench",
    "endpoints",
    "read_ledger",
    "read_quarantined",
    "read_tail",
    "repair_log",
    "token_of",
    "warnings",
]

__version__: Final[str]
BUILD_PROFILE: Final[str]
"""`release` or `debug`."""
BUILD_FEATURES: Final[tuple[str, ...]]
"""`("testing",)` in a build for tests, else empty."""

def codes() -> list[tuple[str, str, str]]:
    """List every code of the core: (code, scope, public text); scope: event, request, overload."""

def endpoints() -> list[tuple[str, int]]:
    """List the endpoints that decoding knows: (name, number)."""

def warnings() -> list[str]:
    """List the values of the `warnings` column."""

def token_of(body: bytes, coding: int, max_decompressed_bytes: int) -> str | Refusal:
    """Find the token that a body names, in every coding and place that captures may have it in.

    Whether the token is known is not looked at. Bodies are to be small: the GIL is kept."""

class CoreError(Exception):
    """Something failed in the core: `args` is (stable code, message)."""

class DataDirectoryError(CoreError):
    """The data directory is unusable, of a newer format, or in use by another process."""

@final
class Refusal:
    """A whole request was refused."""

    @property
    def code(self) -> str: ...
    @property
    def text(self) -> str:
        """What the client reads: the protocol's text, then `: ` and the detail, if there is one."""
    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds, 1 to 10, after which it may be sent again; 0: sending again can't help."""

@final
class SubmitResult:
    """Outcome of one HTTP request whose events are stored at the ack level that was asked for."""

    @property
    def accepted(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def log_position(self) -> int: ...
    @property
    def first_rejection(self) -> tuple[int, str, str] | None:
        """(index in the request, code, public text) of the first refused event."""
    @property
    def answer(self) -> bytes | None:
        """What the client is told, of requests by `submit_ai`: JSON, or OpenTelemetry's message in
        the encoding of the request."""

@final
class Results:
    """The answer of capture v1, event by event; what is `ok` in it is stored at the ack level."""

    @property
    def body(self) -> bytes:
        """JSON text."""
    @property
    def retry_after_seconds(self) -> int:
        """Whole seconds, 1 to 10, after which what is `retry` in it may be sent again; 0: nothing
        is."""

@final
class SegmentFile:
    """One Parquet file of a cut: written, synced, not yet named by its table."""

    @property
    def path(self) -> str:
        """Relative to the table's directory, as it is on disk (partition directories encoded)."""
    @property
    def size_bytes(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def partition_values(self) -> dict[str, str]:
        """Raw values: {"project": …, "date": "YYYY-MM-DD"}; of `rejected` only the date."""
    @property
    def stats_json(self) -> str:
        """Delta statistics: numRecords, minValues, maxValues, nullCount of the time and position
        columns."""
    @property
    def first_position(self) -> int:
        """Least log position of a row."""
    @property
    def last_position(self) -> int:
        """Greatest log position of a row."""

@final
class Cut:
    """All rows at or below one position of the log that are not yet in the tables."""

    @property
    def position(self) -> int: ...
    @property
    def lanes(self) -> list[tuple[str, int]]:
        """(lane, position to commit for it) of each lane that the log has at or below `position`,
        also those that an earlier cut named."""
    @property
    def files(self) -> dict[str, list[SegmentFile]]:
        """Per table (`events`, `rejected`, `recordings`); one without rows has an empty list."""
    @property
    def releases(self) -> bool:
        """Whether a WAL file could go once every table has passed this cut: then a table without
        rows gets a commit of the transactions alone."""

@final
class Engine:
    """The service behind the fronts. One per data directory and process; opened after any fork."""

    def __new__(cls, options: Mapping[str, str | int | bool | None]) -> Self:
        """Lock and open the data directory and recover the log; nothing is admitted yet.

        Raises:
            DataDirectoryError: codes `data_directory_in_use`, `data_directory_unusable`,
                `data_directory_newer_format`.
            CoreError: Recovery failed.
        """

    def lanes(self) -> list[tuple[str, int, int]]:
        """(lane, first, last position) of every lane with records in the log, oldest first."""

    def table_note(self) -> bytes | None:
        """The synced note of what the tables had passed, as `cut_committed` was last given it."""

    def start(self, committed: Mapping[str, Mapping[str, int]]) -> None:
        """Start the background and admit requests. `committed`: table → lane → position."""

    def hold_commits(self, reason: str | None) -> None:
        """Keep acknowledging but make no cut and release nothing (None: go on)."""

    @property
    def completion_fd(self) -> int:
        """An eventfd that is readable when `drain` has something to give."""

    def submit_http(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int,
        sent_at_us: int | None,
        client_address: str | None,
        user_agent: bytes | None = None,
    ) -> Refusal | None:
        """Take one HTTP request. None: `ticket` comes back from `drain`, exactly once.

        A refusal is an answer already: overload or shutdown; `ticket` does not come back.

        `user_agent` is looked at for session replay alone.
        """

    def submit_ai(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int,
        head: tuple[str, str | None, int | None],
        client_address: str | None,
    ) -> Refusal | None:
        """Take one form of an AI event, or one export of OpenTelemetry's spans.

        `head`: `Content-Type` (empty: none), token of `Authorization`, the client's clock when it
        sent in microseconds since 1970.
        """

    def submit_v1(
        self,
        ticket: object,
        body: bytes,
        endpoint: int,
        coding: int | None,
        headers: tuple[
            bytes | None,
            bytes | None,
            bytes | None,
            bytes | None,
            bytes | None,
            bytes | None,
            bytes | None,
        ],
        client_address: str | None,
    ) -> Refusal | None:
        """Take one request of capture v1, as `submit_http`; what `drain` gives is a `Results`, or
        a refusal.

        `coding`: None for one that is none of ours. `headers`: Authorization, PostHog-Sdk-Info,
        PostHog-Attempt, PostHog-Request-Id, PostHog-Request-Timestamp, Content-Type, User-Agent;
        None where there was none. Also what is wrong with them is a refusal."""

    def submit_append(
        self, ticket: object, message: bytes, metadata_token: str | None, client_address: str | None
    ) -> Refusal | None:
        """Take one serialized `AppendRequest`; what `drain` gives is a serialized `AppendResponse`
        or a refusal."""

    def import_record(
        self,
        ticket: object,
        context: bytes,
        body: bytes,
        stored: Sequence[int],
        believe_window: bool,
    ) -> Refusal | None:
        """Append a record of another log as it was decided there; otherwise as `submit_http`.

        `stored`: indexes of events that the tables have, which become duplicates. `believe_window`:
        whether ids in the window do too; not for a record that this log has set aside itself.

        Raises:
            CoreError: code `record_unreadable`: it does not give the events that were taken."""

    def drain(self) -> list[tuple[object, SubmitResult | Results | Refusal | bytes]]:
        """Take all finished requests: (ticket, result). Called on the loop's thread only."""

    def next_cut(self, timeout_ms: int) -> Cut | None:
        """Wait (GIL released) for a cut to be committed; None when there is none in that time.

        The same cut is given again until `cut_committed` names it."""

    def cut_committed(self, position: int, committed: Mapping[str, int], note: bytes) -> None:
        """Say that the commits of a cut are durable. `committed`: table → position passed by its
        transactions. Writes and syncs `note`, then releases WAL files that all tables passed.

        Raises:
            CoreError: `next_cut` gives the cut again; call again."""

    def discard_cut(self, position: int) -> None:
        """Take back a cut that can't be committed; its rows come again in a later one."""

    def flush(self) -> None:
        """Ask for a cut as soon as may be, without waiting for it."""

    def drain_and_stop_admission(self) -> None:
        """Refuse new requests from now on (shutdown); those in flight go on."""

    def replace_projects(self, projects_json: str) -> None:
        """Put other named projects in place of all that there are; none opens the door.

        `projects_json` is as in the options. Records keep the project that they resolved to."""

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet given back by `drain`."""

    @property
    def backlog(self) -> tuple[int, int]:
        """(records, WAL bytes) that are durable and in no committed cut."""

    def state(self) -> tuple[str, str]:
        """(`starting` | `ready` | `draining` | `degraded` | `failed`, reason code or empty).

        `failed`: a bug was met; end the process, the log keeps what was acknowledged."""

    def metrics(self) -> str:
        """Prometheus text of the core's metrics, without the final newline of the exposition."""

    def log_events(self) -> list[tuple[str, str, dict[str, str]]]:
        """Take what the core has to log: (level, event name, fields)."""

    def close(self) -> None:
        """Stop the threads, sync and close the log. Idempotent."""

@final
class TailRead:
    """What the log holds above the tables, as Parquet files in a folder of the caller's."""

    @property
    def files(self) -> dict[str, list[str]]:
        """Per table, absolute paths of Parquet files that hold all of the table's columns."""
    @property
    def spans(self) -> list[tuple[str, int, int]]:
        """(lane, first, last): positions that were read or passed on purpose, joined up."""
    @property
    def damage(self) -> list[str]:
        """Sentences that name ranges which could not be read."""

def read_tail(
    data_directory: str, output_directory: str, above: Mapping[str, int], memory_bytes: int
) -> TailRead:
    """Read the log of a live or stopped server, without a lock, into Parquet files.

    `above`: lane → position below which records need not be read (an optimisation only).
    `memory_bytes`: rows held before they are written to a file.
    """

@final
class LedgerProject:
    """What was received for one project."""

    @property
    def project(self) -> str:
        """Its name; empty: the projects beyond those that are told apart."""
    @property
    def settled(self) -> tuple[int, int, int]:
        """Events (accepted, duplicate, rejected) up to the position that `LedgerRead` names."""
    @property
    def waiting(self) -> tuple[int, int, int]:
        """The same behind it."""
    @property
    def set_aside(self) -> tuple[int, int, int]:
        """The same of those settled whose records went to quarantine instead of a table."""
    @property
    def recordings(self) -> tuple[int, int]:
        """Accepted events settled for the table `recordings`; of these, in quarantine."""

@final
class LedgerRead:
    """The ledger as it was read."""

    @property
    def since(self) -> int:
        """Position up to which nothing was counted: the ledger is younger than the log."""
    @property
    def passed(self) -> int:
        """Position up to which events are settled."""
    @property
    def projects(self) -> list[LedgerProject]:
        """By name."""
    @property
    def unreadable_records(self) -> int:
        """Records whose events are in no line."""
    @property
    def damage(self) -> list[str]:
        """Sentences that name what could not be read."""

def read_ledger(data_directory: str, passed: int) -> LedgerRead:
    """Read the ledger of a live or stopped server, without a lock.

    `passed`: position up to which every table has its rows.
    """

@final
class LogDamage:
    """Bytes of the log that can't be read although they were synced."""

    @property
    def file(self) -> str:
        """Path of the file."""
    @property
    def why(self) -> str: ...
    @property
    def first_byte(self) -> int: ...
    @property
    def last_byte(self) -> int:
        """The last byte of the range; not the one behind it."""
    @property
    def first_position(self) -> int:
        """First missing record; 0 if none is missing, or nobody knows."""
    @property
    def last_position(self) -> int: ...
    @property
    def kept_aside(self) -> str | None:
        """Where a start or a repair has kept the bytes already."""

@final
class LogFile:
    """One file of the log."""

    @property
    def path(self) -> str: ...
    @property
    def lane(self) -> str | None:
        """None if nothing in the file can be read."""
    @property
    def created_at_us(self) -> int:
        """Microseconds since 1970; 0 if unknown."""
    @property
    def first_position(self) -> int:
        """0 if there is no whole record."""
    @property
    def last_position(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def size_bytes(self) -> int:
        """Up to the end of the last whole record."""
    @property
    def unfinished_bytes(self) -> int:
        """Behind it, of a group that is being written or that a crash cut: never acknowledged."""
    @property
    def seal(self) -> str:
        """`none`, `agrees` or `disagrees`: what lets the next start pass the file by."""
    @property
    def damage(self) -> list[LogDamage]: ...

@final
class LogRecord:
    """One record of the log: what was decided about a request, and its payload."""

    @property
    def lane(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def problem(self) -> str | None:
        """Why it can't be read as it was taken; what is unknown then is 0, empty or None."""
    @property
    def received_at_us(self) -> int:
        """Microseconds since 1970."""
    @property
    def endpoint(self) -> str: ...
    @property
    def project(self) -> str:
        """Shortened where it is, or may be, the token itself."""
    @property
    def token(self) -> str | None:
        """Its first 8 characters and `…`; None without decoding."""
    @property
    def request_token(self) -> str | None:
        """The whole token that came beside the body (gRPC, `Authorization`). Not to be shown
        (SEC-2)."""
    @property
    def content_type(self) -> str:
        """How the payload is written, as it is to be said when it is sent again."""
    @property
    def sdk_info(self) -> str | None:
        """What the client says of itself, if that could be used: of capture v1, and of session
        replay."""
    @property
    def client_address(self) -> str | None: ...
    @property
    def sent_at_us(self) -> int | None:
        """The client's clock when it sent; that of the body only with decoding."""
    @property
    def rewritten(self) -> bool:
        """Events of cookieless mode were rewritten: the payload is not as received."""
    @property
    def accepted(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def coding(self) -> str:
        """The outermost: as in Content-Encoding, or `form`, `base64`, `lz64`."""
    @property
    def payload_bytes(self) -> int: ...
    @property
    def identity(self) -> str | None:
        """What no other request of any server has; None if it can't be read."""
    def context(self) -> bytes:
        """What was decided about the request, for `Engine.import_record`."""

    def accepted_events(self) -> list[tuple[int, str, str, str]]:
        """(index, uuid, event, distinct_id) of the events that were accepted. Decodes the payload.

        Raises:
            CoreError: code `record_unreadable`."""

    def payload(self) -> bytes:
        """The body as received. Not to be shown unless asked for (SEC-2)."""

    def text(self) -> bytes:
        """The body with its coding undone, likewise; of forms and spans, what events they became.

        Raises:
            CoreError: code `record_unreadable`."""

@final
class LogReader:
    """Goes through the log of a stopped, copied or running server; no lock, nothing is changed.

    The GIL is released while it reads, and memory holds one commit group."""

    def __new__(cls, data_directory: str, first_position: int, last_position: int) -> Self:
        """Look at the files of the log.

        Raises:
            DataDirectoryError: codes `data_directory_unusable`, `data_directory_newer_format`.
            CoreError: The log can't be read.
        """

    def next_records(self, decode: bool) -> list[LogRecord] | None:
        """Read on: records from `first_position` to `last_position`, or none yet; None at the end.

        `decode`: also what only decoding the payload tells."""

    def take_damage(self) -> list[LogDamage]:
        """Take the damage of one file that `next_records` has passed; empty if there is none."""

    def next_file(self) -> LogFile | None:
        """Check the next file as a whole, or see a signal; None at the end."""

def repair_log(
    data_directory: str,
) -> tuple[list[tuple[str, int, int, str]], tuple[str, int, int] | None]:
    """Repair the log of a stopped server as its next start would.

    Returns:
        What was kept aside now: (file, first byte, last byte, where to); and the torn tail that was
        cut: (file, offset, bytes).

    Raises:
        DataDirectoryError: Also `data_directory_in_use`, while a server runs.
        CoreError: Part of it may be done; it can be done again.
    """

@final
class DirectoryLock:
    """The lock of a data directory whose server is stopped, for tools that change it."""

    def __new__(cls, data_directory: str) -> Self:
        """Lock a data directory that is there already.

        Raises:
            DataDirectoryError: Also `data_directory_in_use`, while a server runs.
        """

    def table_note(self) -> bytes | None:
        """The synced note of what the tables had passed."""

    def write_table_note(self, note: bytes) -> None:
        """Replace the note, from which the next start goes on. Durability: synced."""

    def close(self) -> None:
        """Let the directory go. Idempotent."""

def read_quarantined(path: str) -> tuple[LogRecord, str, int]:
    """Read one file of `wal/quarantine/`: the record, why it was set aside (empty if unknown), and
    when, in microseconds since 1970 (0 if unknown).

    Raises:
        CoreError: code `record_unreadable`, or it can't be read.
    """

def arrow_schema_json(table: str) -> str:
    """The columns of a table: Delta schema JSON (`{"type":"struct","fields":…}`)."""

def decode_for_bench(body: bytes, endpoint: int, coding: int) -> int:
    """Decode a body and forget it; the number of accepted events. For bench/python only."""

def crash_points() -> Sequence[str]:
    """Names that PENSTOCK_CRASH_AT takes; empty without the `testing` feature."""

def crash_point(name: str) -> None:
    """Let a test end the process here, as SIGKILL would; nothing without the `testing` feature.

    Raises:
        ValueError: `crash_points` has no such name. Never without the feature.
    """
