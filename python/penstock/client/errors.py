"""What the client raises."""


class AppendError(Exception):
    """A call failed for good: nothing, or an unknown part, of the batch was stored.

    Attributes:
        status: Name of the gRPC status, such as `INVALID_ARGUMENT`.
        details: The server's text.
        attempts: How often it was sent.
    """

    def __init__(self, status: str, details: str, attempts: int) -> None:
        super().__init__(f"{status}: {details} (sent {attempts} times)")
        self.status = status
        self.details = details
        self.attempts = attempts
