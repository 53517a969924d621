"""What SDKs call besides capture: from the answers of `posthog` to those of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.transport.http_request import Verdict, refused_here

if TYPE_CHECKING:
    from penstock.posthog.calls import Answer, Call

# A script or an object must be taken for nothing else, whatever is in it.
_AS_SAID: Final = b"x-content-type-options: nosniff\r\n"


def verdict_of_call(call: Call, method: bytes, content_length: int) -> Verdict | None:
    """Answer a call by its head; None: its body, or a thread, is needed."""
    if method not in call.methods:
        words = b"method is not allowed: use " + call.methods[0]
        return Verdict(405, words, allow=b", ".join(call.methods))
    answer = call.by_head(method)
    if answer is not None:
        return verdict_of_answer(answer)
    return refused_here("request_too_large") if content_length > call.max_body_bytes else None


def verdict_of_answer(answer: Answer) -> Verdict:
    """Write an answer as HTTP has it."""
    headers = _AS_SAID
    if answer.cache_control:
        headers += b"cache-control: " + answer.cache_control + b"\r\n"
    return Verdict(
        answer.status,
        answer.body,
        answer.content_type,
        answer.retry_after_seconds,
        headers=headers,
        etag=answer.etag,
        file=answer.file,
    )
