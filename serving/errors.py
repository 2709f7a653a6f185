# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a client is told when something cannot be done: one sentence, in the form of OpenAI's errors."""

from typing import Any

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):  # noqa: N818 - an answer
    """An answer that is an error.

    Args:
        status: Of HTTP.
        message: What was wrong, what was got, what to do.
        parameter: Which entry of the request is meant.
        code: A word for programs.
        retry_after: Seconds after which it may be tried again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        parameter: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.parameter, self.code = status, message, parameter, code
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    @property
    def content(self) -> dict[str, Any]:
        """What is sent."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}}


def busy(what: str) -> Refusal:
    """Too much is asked at once."""
    return Refusal(503, f"{what}: try again later", code="overloaded", retry_after=1)
