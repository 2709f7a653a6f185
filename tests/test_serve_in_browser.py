# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of `hf-longformer serve` in a browser: a document is pasted, and what the model says of it is shown."""

from typing import Any

import pytest
from browser import BROWSER, browser

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from served import Counter, running

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")
# The page of a document stands in a frame that nothing else may look into: a test lets itself.
PASTE = """(async () => {
  const wait = async (condition) => { while (!condition()) await new Promise((done) => setTimeout(done, 20)); };
  const view = document.getElementById("view");
  view.removeAttribute("sandbox");
  document.querySelector("textarea").value = TEXT;
  for (const one of document.querySelectorAll("input")) one.value = KEY;
  document.getElementById("form").requestSubmit();
  await wait(() => !document.getElementById("send").disabled);
  if (view.hidden) return document.getElementById("error").textContent;
  await wait(() => view.contentDocument && view.contentDocument.querySelector("#facts dd"));
  return ["text", "facts"].map((id) => view.contentDocument.getElementById(id).textContent);
})()"""


def paste(page: Any, text: str, key: str = "") -> Any:
    return page(PASTE.replace("TEXT", repr(text)).replace("KEY", repr(key)))


def test_a_document_is_pasted_and_read() -> None:
    with browser() as page:
        page.show(1280, 800)
        with running(Counter()) as (_, port):
            page.open(f"http://127.0.0.1:{port}/")
            assert paste(page, "three short words </script><b>") == ["three short words </script><b>", "words4"]
            assert paste(page, "bad") == "bad words"
            assert all(f"127.0.0.1:{port}" in one or one.startswith("about:") for one in page.requested())
            complaints = [one for one in page.complaints() if "favicon" not in one and "400" not in one]
            assert complaints == []
        with running(Counter(), api_key="sesame") as (_, port):
            page.open(f"http://127.0.0.1:{port}/")
            assert paste(page, "two words", "open") == "a key is needed, as the header Authorization: Bearer KEY"
            assert paste(page, "two words", "sesame") == ["two words", "words2"]
