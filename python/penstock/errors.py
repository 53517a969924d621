"""The exceptions of penstock: one base, caught by kind.

What became of single events is never an exception: it is data in the result. Each error has a
stable `code`, says whether sending again can help, and keeps its facts in attributes.
"""

from typing import ClassVar


class PenstockError(Exception):
    """Base of everything that penstock raises on purpose.

    Attributes:
        code: Stable name of the failure, from the code table or of this module.
        retryable: Whether the same call may succeed later.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RejectedError(PenstockError):
    """A whole request was refused, and sending it again can't help."""


class OverloadedError(PenstockError):
    """Nothing was stored, through no fault of the request: send it again later.

    Attributes:
        retry_after_seconds: Whole seconds, 1 to 10, to wait before that.
    """

    retryable = True

    def __init__(self, code: str, message: str, retry_after_seconds: int) -> None:
        super().__init__(code, message)
        self.retry_after_seconds = retry_after_seconds


class InternalError(PenstockError):
    """A bug, or a state that can't be reasoned about. The log holds the details."""

    def __init__(self, message: str) -> None:
        super().__init__("internal", message)


class ConfigError(PenstockError):
    """A setting is unknown, malformed or out of its range.

    Attributes:
        key: The setting.
        source: Where its value came from, as the user would look for it.
    """

    def __init__(self, key: str, source: str, problem: str) -> None:
        super().__init__("invalid_setting", f"{key} ({source}): {problem}")
        self.key = key
        self.source = source


class DataDirectoryError(PenstockError):
    """The data directory is unusable, of a newer format, or in use by another process."""


class ListenError(PenstockError):
    """An address can't be listened on.

    Attributes:
        listener: `http`, `grpc` or `admin`.
        address: The address as configured.
    """

    def __init__(self, listener: str, address: str, reason: str) -> None:
        super().__init__("cannot_listen", f"cannot listen on {address} for {listener}: {reason}")
        self.listener = listener
        self.address = address
