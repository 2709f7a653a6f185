# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is: the command line turns these into exit codes 2 and 1."""

LONGEST_SENTENCE = 500  # characters; of more, the middle is left out


class InputError(ValueError):
    """The source, the target or an option cannot be used: one sentence that says what was got and what to do.

    Args:
        message: The sentence. What it quotes from a damaged file may be long or unprintable: it is made readable.
    """

    def __init__(self, message: str) -> None:
        readable = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in message)
        if len(readable) > LONGEST_SENTENCE:
            readable = f"{readable[: LONGEST_SENTENCE // 2]} … {readable[-LONGEST_SENTENCE // 2 :]}"
        super().__init__(readable)


class GateError(RuntimeError):
    """The work was done and its check failed: nothing is written.

    Args:
        message: What failed, by how much.
        report: The whole report, every check included.
    """

    def __init__(self, message: str, report: dict) -> None:
        super().__init__(message)
        self.report = report


class UploadError(RuntimeError):
    """The result is there, and could not be uploaded."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, with the second if it ends with a colon, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, KeyError):
        return f"no entry {lines[0]}"
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def one_line(error: BaseException) -> str:
    """All that an error says, in one line; an `InputError` shortens it."""
    return " ".join(str(error).split())
