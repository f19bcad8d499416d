"""A request that is not answered: what the client reads, and the status of HTTP that says whose fault it is."""

from __future__ import annotations

from typing import Any

from ...errors import InputError


class Refusal(InputError):
    """An error for the client, one sentence. status: of HTTP. code: the kind, in one word for programs.

    retry_after_s: after how long it is worth to ask again; None where that would not help.
    """

    def __init__(self, status: int, code: str, sentence: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s

    def body(self) -> dict[str, Any]:
        """As clients of OpenAI's form read it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "code": self.code, "param": None}}

    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
