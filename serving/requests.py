# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What clients send, checked: JSON, and the entries of a request for embeddings in OpenAI's form."""

from typing import Any, NamedTuple

from hf_longformer.conversion.errors import one_line
from hf_longformer.finetune.json_rows import load_object
from hf_longformer.finetune.rows import NOT_UTF_8, is_utf_8

from .errors import Refusal

JSON = "application/json"
FORMATS = ("float", "base64")
INPUT = "input must be a text, a list of texts, token ids, or a list of these"
# Entries of a request, of what kinds they may be, and what is said if they are not; `null` is as if left out.
ENTRIES: dict[str, tuple[tuple[type, ...], str]] = {
    "input": ((str, list), INPUT),
    "model": ((str,), "model must be a text"),
    "encoding_format": ((str,), f"encoding_format must be {' or '.join(FORMATS)}"),
    "dimensions": ((int,), "dimensions must be a whole number"),
    "user": ((str,), "user must be a text"),
    "truncate": ((bool,), "truncate must be true or false"),
}


class Embeddings(NamedTuple):
    """A request for embeddings.

    Args:
        rows: Each with `text` or `ids`, and with `truncate`.
        is_base64: Whether vectors are wanted as bytes, float32 in little endian.
        dimensions: How many numbers of them; None: all.
        model: Who is asked; None: whoever there is.
    """

    rows: list[dict[str, Any]]
    is_base64: bool
    dimensions: int | None
    model: str | None


def json_of(body: bytes, content_type: str) -> Any:
    """What a body says.

    Args:
        body: Of the request.
        content_type: Its header. Pages of other sites can send anything but JSON without being asked.

    Raises:
        Refusal: If it is not JSON, or says one thing twice.
    """
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise Refusal(415, f"a request must have the header Content-Type: {JSON}, got {content_type or 'none'}")
    try:
        return load_object(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Refusal(400, f"a request must be in UTF-8: {one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"a request must be JSON: {one_line(error)[:200]}") from error


def embeddings_of(content: Any) -> Embeddings:
    """A request for embeddings.

    Raises:
        Refusal: If it is none.
    """
    if not isinstance(content, dict):
        raise Refusal(400, f"a request must be a JSON object, got {type(content).__name__}")
    given = {name: value for name, value in content.items() if value is not None}
    for name, value in given.items():
        if name not in ENTRIES:
            raise Refusal(400, f"entries must be of {', '.join(ENTRIES)}, got {name[:60]}", parameter=name)
        kinds, sentence = ENTRIES[name]
        if type(value) not in kinds:
            raise Refusal(400, f"{sentence}, got {type(value).__name__}", parameter=name)
    if "input" not in given:
        raise Refusal(400, f"{INPUT}, got none", parameter="input")
    style = given.get("encoding_format", "float")
    if style not in FORMATS:
        raise Refusal(400, f"{ENTRIES['encoding_format'][1]}, got {style[:60]}", parameter="encoding_format")
    truncate = given.get("truncate", False)
    rows = [{**row, "truncate": truncate} for row in _inputs(given["input"])]
    return Embeddings(rows, style == "base64", given.get("dimensions"), given.get("model"))


def _inputs(value: str | list[Any]) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [_text(value)]
    kinds = {type(one) for one in value}
    if kinds == {str}:
        return [_text(one) for one in value]
    if kinds == {int}:
        return [{"ids": value}]
    if kinds == {list} and all(one and {type(number) for number in one} == {int} for one in value):
        return [{"ids": one} for one in value]
    got = f"a list of {' and '.join(sorted(kind.__name__ for kind in kinds))}" if value else "an empty list"
    raise Refusal(400, f"{INPUT}, got {got}", parameter="input")


def _text(text: str) -> dict[str, Any]:
    if not text.strip():
        raise Refusal(400, "input must not be empty", parameter="input")
    if not is_utf_8(text):
        raise Refusal(400, f"input is {NOT_UTF_8}", parameter="input")
    return {"text": text}
