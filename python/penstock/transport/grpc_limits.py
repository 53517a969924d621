"""Every limit of the gRPC front, with its reason (LIM-1).

gRPC itself has no budget for what it receives (its resource quota can't be set from Python), so one
is made of what it does have. A call's message is asked for only when it is the call's turn
(`grpc_turns`), and until then its peer may send no more than the window of one stream. With the
window fixed and the calls limited that wait so, memory is. Measured on grpcio 1.85: with its
defaults, each call that nobody reads takes 4 MiB and more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.config import Settings

# Token, coding and the message's own bytes around a body of `max_request_bytes`.
MESSAGE_OVERHEAD_BYTES: Final = 64 << 10

# Headers of one call: a token of at most a few hundred bytes, and what tracing adds.
MAX_METADATA_BYTES: Final = 16 << 10

# What a peer may send of a message before it is asked for, and on one connection before it waits
# for a word of ours. Calls of 50 events of 1 kB, 16 at once: 10 to 15 % fewer per CPU second with
# half of it, or with frames of 16 KiB, the default; no more with twice as much.
LOOKAHEAD_BYTES: Final = 128 << 10
MAX_FRAME_BYTES: Final = 1 << 20

# Calls of one connection at once. With one commit group each 5 ms this is 3,000 calls a second.
MAX_STREAMS_PER_CONNECTION: Final = 16

# Connections at once; each, and each of its calls, costs some 20 kB beside its messages. Above it
# they are closed.
MAX_CONNECTIONS: Final = 128

# Calls that may wait, however small the budget: one of each of a few connections.
MIN_WAITING_CALLS: Final = 16

# A whole message, from its turn on: 20 MiB at 70 kB/s, as over HTTP.
MESSAGE_SECONDS: Final = 300.0

# What a message may take while others wait for their turn: 20 MiB at 10 MB/s. Shorter would refuse
# slower networks; among 63 connections that send nothing, another has a turn after 40 s.
PATIENCE_SECONDS: Final = 2.0

# Large answers, not yet taken by their clients, over all connections; past it UNAVAILABLE. An
# answer lists each event that was not simply accepted: 6 MB for 50,000 duplicates.
MAX_UNSENT_BYTES: Final = 32 << 20
# Smaller ones are not worth the counting: all calls together hold 32 MiB of them.
LARGE_ANSWER_BYTES: Final = 16 << 10
# So old a connection gets no further calls, and after the grace and what an answer at `table` may
# take it is closed: the only way to be rid of answers that are never read. Clients connect again by
# themselves, unnoticed.
MAX_CONNECTION_AGE_MS: Final = 600_000
AGE_GRACE_MS: Final = 30_000

# Below the idle timeouts of common load balancers (60 s and more), so that a dead peer is noticed.
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
# A client may ping as often as this; more often and it is told to go away.
MIN_CLIENT_PING_MS: Final = 10_000
# Connections are few, so that one without calls is not kept for long; clients connect again by
# themselves.
MAX_IDLE_MS: Final = 300_000

# How often the health service looks whether a request would be taken.
HEALTH_SECONDS: Final = 0.25


def max_message_bytes(settings: Settings) -> int:
    """Give the size of the largest message that is taken."""
    return settings.max_request_bytes + MESSAGE_OVERHEAD_BYTES


def max_messages_received(settings: Settings) -> int:
    """Give how many messages may be under way at once: half of the budget."""
    return max(1, settings.max_in_flight_bytes // 2 // max_message_bytes(settings))


def max_waiting_calls(settings: Settings) -> int:
    """Give how many calls may wait for their turn: a quarter of the budget.

    As many again may not have been looked at yet, when the loop is busy: the last quarter.
    """
    return max(MIN_WAITING_CALLS, settings.max_in_flight_bytes // 4 // LOOKAHEAD_BYTES)


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """Give the options of the server."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes(settings)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        # A call that is answered counts until it is cleared away. Without this allowance its
        # successor is refused, and clients of many calls see UNAVAILABLE now and then.
        ("grpc.http2.max_deallocating_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        # Calls that we have not looked at. (Between the two, some would be refused at random.)
        ("grpc.server.max_pending_requests", max_waiting_calls(settings)),
        ("grpc.server.max_pending_requests_hard_limit", max_waiting_calls(settings)),
        # The probe would widen the window of each stream to 4 MiB and more.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
        ("grpc.http2.max_frame_size", MAX_FRAME_BYTES),
        # A port in use must be an error, not a share of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_CLIENT_PING_MS),
        ("grpc.max_connection_idle_ms", MAX_IDLE_MS),
        ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
        (
            "grpc.max_connection_age_grace_ms",
            AGE_GRACE_MS + round(settings.table_ack_timeout_seconds * 1000),
        ),
        # Bodies are compressed by the client, in a coding that goes to the log as it is. Messages
        # are not (bit 0: identity): gRPC would decompress before anyone has looked at them.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.default_compression_algorithm", 0),
    ]
