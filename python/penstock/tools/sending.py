"""Sends records to a running service by HTTP, one at a time, in order."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from penstock.errors import PenstockError
from penstock.tools.http_form import HttpForm, http_form
from penstock.tools.log_view import RecordLike, core_errors
from penstock.tools.v1_form import MAX_ANSWER_BYTES, is_v1, meaning_of, refusal_of

# Above the 30 s that an answer at the level `table` may take by default.
ANSWER_TIMEOUT_SECONDS: Final = 120.0

# How long a service may refuse one record with 503: a full disk or a table out of reach is an
# operator's work of minutes; whoever needs longer starts again at the position that is named.
MAX_WAIT_SECONDS: Final = 600.0

# A server of ours asks for 1 to 10 s; a proxy in front of it may ask for anything.
_LEAST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 60.0

_SHOWN_ANSWER_CHARACTERS: Final = 200

_STORED_STATUSES: Final = frozenset({200, 204})
# How a request is answered of which every event was refused.
_REFUSING_STATUSES: Final = frozenset({400, 401, 413})


class SendError(PenstockError):
    """A record was not stored, or nobody knows.

    Attributes:
        of_record: Whether it lies with this record: others may fare better.
    """

    def __init__(self, message: str, *, of_record: bool) -> None:
        super().__init__("not_sent", message)
        self.of_record = of_record


class Sender:
    """One connection to one service, opened when first used.

    Attributes:
        sent_body: The body of the last request.
    """

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        unix_micros: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Read the address.

        Args:
            url: `http://host:port` or `https://…`, with the path below which the endpoints are.
            sleep: Waits for seconds.
            unix_micros: The wall clock.

        Raises:
            SendError: That is no such URL.
        """
        problem = f"{url!r} is not a URL such as http://127.0.0.1:8000"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SendError(problem, of_record=False) from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise SendError(problem, of_record=False)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, port, timeout=ANSWER_TIMEOUT_SECONDS)
        self._base = parts.path.rstrip("/") + "/"
        self.sent_body = b""
        self._sleep = sleep
        self._unix_micros = unix_micros

    def send(self, record: RecordLike) -> bool:
        """Send one record and wait until the service has stored it.

        While the service says 503 it is asked again, after the time that it names. A request whose
        answer is lost is not sent again: it may be stored, and events without an id would be
        doubled.

        Returns:
            False if the service refused every event, as it was when the record was taken.

        Raises:
            SendError: Another answer, or none.
        """
        if record.problem is not None:
            raise SendError(f"it can't be read: {record.problem}", of_record=True)
        status, told, _ = self._deliver(lambda now_us: _form(record, now_us))
        if status in _STORED_STATUSES:
            return True
        if status in _REFUSING_STATUSES and record.accepted + record.duplicates == 0:
            return False
        raise SendError(told, of_record=status in _REFUSING_STATUSES)

    def send_form(self, form: Callable[[int], HttpForm]) -> str | None:
        """Send a request with one event in it and wait until the service has stored it.

        Args:
            form: Makes it, given the wall clock in microseconds since 1970: anew for each try.

        Returns:
            None, or the text that the service refused it with.

        Raises:
            SendError: Another answer, or none; or what `form` raises.
        """
        status, told, answer = self._deliver(form)
        if status in _STORED_STATUSES:
            return None
        if status in _REFUSING_STATUSES:
            return refusal_of(answer) or _shown(answer)
        raise SendError(told, of_record=False)

    def _deliver(self, make: Callable[[int], HttpForm]) -> tuple[int, str, bytes]:
        """Send a request until the answer is another than 503; made anew for each try.

        Returns:
            The status, by capture v1 that which means the same; what was answered, in words; and
            its text.
        """
        waited = 0.0
        while True:
            form = make(self._unix_micros())
            answered, retry_after, answer = self._post(form)
            status = meaning_of(answered, answer) if is_v1(form.target) else answered
            if status != 503 or waited >= MAX_WAIT_SECONDS:
                return status, f"the service answered {answered}: {_shown(answer)}", answer
            # What may stay idle for a minute is not worth keeping.
            self.close()
            self._sleep(retry_after)
            waited += retry_after

    def _post(self, form: HttpForm) -> tuple[int, float, bytes]:
        """Send one request: status, seconds to wait, and the answer's text."""
        self.sent_body = form.body
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError as error:
                message = f"the service can't be reached: {error}"
                raise SendError(message, of_record=False) from error
        try:
            self._connection.request("POST", self._base + form.target, form.body, form.headers)
            response = self._connection.getresponse()
            text = response.read(MAX_ANSWER_BYTES)
            if not response.isclosed():
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = str(error) or type(error).__name__
            message = f"no answer, so it may be stored or not: {reason}"
            raise SendError(message, of_record=False) from error
        return response.status, _seconds(response.getheader("Retry-After")), text

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def _form(record: RecordLike, now_us: int) -> HttpForm:
    try:
        with core_errors():
            return http_form(record, now_us)
    except PenstockError as error:
        raise SendError(str(error), of_record=True) from error


def _seconds(retry_after: str | None) -> float:
    # The other form of the header, a date, is nothing that a server of ours sends.
    asked = float(retry_after) if retry_after is not None and retry_after.isdigit() else 0.0
    return min(max(asked, _LEAST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)


def _shown(answer: bytes) -> str:
    text = answer[: 4 * _SHOWN_ANSWER_CHARACTERS].decode(errors="replace")
    text = text[:_SHOWN_ANSWER_CHARACTERS]
    return "".join(character if character.isprintable() else " " for character in text)
