# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The page at `/`, where a person pastes a document, and below it what `hf-longformer page` shows."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from hf_longformer.finetune.page import hashes, page_of

FIELDS = {"text": "Document", "context": "Document", "question": "Question", "text_pair": "Second text"}
NOT_SHOWN = {"hotpotqa": "Questions about paragraphs have no page: send rows to /predict."}


class Form(NamedTuple):
    """A page and its headers."""

    html: str
    headers: dict[str, str]


def form(task: str, columns: tuple[str, ...], needs_key: bool) -> Form:
    """The page for a task.

    Args:
        task: Its name.
        columns: What the entries of a row are called.
        needs_key: Whether requests need a key.
    """
    fields = {name: FIELDS[name] for name in columns if name in FIELDS}
    if task == "embeddings":
        fields["text_pair"] = FIELDS["text_pair"]
    settings = {"task": task, "fields": fields, "key": needs_key, "refusal": NOT_SHOWN.get(task, "")}
    page, style, script = (
        (Path(__file__).parent / f"form.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    script = script.replace("SETTINGS", json.dumps(settings))
    style_of_page, script_of_page = hashes()
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}' '{style_of_page}'; script-src '{_hash(script)}' "
        f"'{script_of_page}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    html = page.replace("/* style */", style).replace("/* script */", script)
    return Form(html, {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


def result_page(row: dict[str, Any], result: dict[str, Any]) -> str:
    """What is shown of a document.

    Raises:
        InputError: If it cannot be shown.
    """
    return page_of(row, result)


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"
