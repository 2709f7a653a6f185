# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose fault it is: the command line turns these into exit codes 2 and 1."""


class InputError(ValueError):
    """The source, the target or an option cannot be used: one sentence that says what was got and what to do."""


class GateError(RuntimeError):
    """The work was done and its check failed: nothing is written.

    Args:
        message: What failed, by how much.
        report: The whole report, every check included.
    """

    def __init__(self, message: str, report: dict) -> None:
        super().__init__(message)
        self.report = report


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
