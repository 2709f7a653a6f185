# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The card of an export: every number in it comes from the report."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from hf_longformer.conversion.describe import longest_text
from hf_longformer.model_cards.render import PIPELINES, metadata

from .quality import TOGETHER

USE = """```python
from hf_longformer.exporting import load_exported
from transformers import AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("PATH"), load_exported("PATH", "{format}")
outputs = model(**tokenizer(["{document}."], truncation=True, return_tensors="pt"))
```"""


IN_JAVASCRIPT = """```js
import {{ pipeline }} from "@huggingface/transformers";

const read = await pipeline("{task}", "PATH", {{ dtype: "fp32" }});
console.log(await read({arguments}));
```

`dtype` is `"fp32"`, `"fp16"` or `"q8"`: of weights, which are computed with in float32. A browser that is told none \
takes `"q8"`.{limit}"""
LIMIT = " Transformers.js cuts longer texts without their last special token: give it {:,} tokens at most."
ARGUMENTS = {"question-answering": '"Who …?", "A document."', "fill-mask": '"A {mask} document."'}


def render(report: dict[str, Any], source_card: Path | None = None) -> str:
    """The card, Markdown.

    Args:
        report: What `export` returns.
        source_card: The README.md of the checkpoint, whose licence and language are taken over if it names them.
    """
    longest = report["max_length"]
    of_length = "of any length" if longest is None else f"of up to {longest:,} tokens"
    facts = {**report, "document": f"A document {of_length}", "limit": LIMIT.format(longest) if longest else ""}
    head = report["model_class"].removeprefix("HfLongformer")
    data = ModelCardData(
        library_name="transformers.js" if report["format"] == "web" else report["format"],
        pipeline_tag=PIPELINES[head],
        tags=["longformer", "hf-longformer", "long-documents", report["format"]],
        **metadata(source_card),
    )
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    inputs = ", ".join(f"`{name}` ({', '.join(names)})" for name, names in report["inputs"].items())
    lines = [
        f"---\n{data}\n---\n",
        f"# A `{report['model_class']}` for {longest_text(report)}, as {report['format']}\n",
        _use(facts, PIPELINES[head]),
        "",
        "| | |",
        "|---|---|",
        f"| inputs, int64, all required | {inputs} |",
        f"| outputs, float32 | {', '.join(f'`{name}`' for name in report['outputs'])} |",
        f"| global attention | {report['global_attention']} |",
        f"| attention window | {report['attention_window']} tokens in all, both sides together |",
        f"| versions | {versions} |",
        f"| weights | {report['dtype']} |",
        *_loss_lines(report["loss"]),
        "",
        "On the file of this folder, after it was written, beside the checkpoint in PyTorch, float32:\n",
        "| check | measured | limit |",
        "|---|---|---|",
        *(f"| {one['name']} | {_as_text(one['measured'])} | {one['limit'] or ''} |" for one in report["checks"]),
    ]
    return "\n".join(lines) + "\n"


def _loss_lines(loss: dict[str, Any] | None) -> list[str]:
    if loss is None:
        return []
    of_file = f" of {loss['file']}" if "file" in loss else ""
    other = f"{loss['changed']:,} of {loss['of']:,} {loss['unit']} are others than in PyTorch in float32"
    return [
        f"| loss{of_file}, on {loss['texts']:,} sentences in batches of {TOGETHER} | {other}; "
        f"{loss['changed_by_batch']:,} depend on the batch |"
    ]


def _use(report: dict[str, Any], task: str | None) -> str:
    if report["format"] != "web":
        return USE.format(**report)
    arguments = ARGUMENTS.get(str(task), '"A document."').format(mask=report["mask_token"])
    if embedding := report["embedding"]:
        arguments += f", {json.dumps(embedding)}"
    return IN_JAVASCRIPT.format(task=task, arguments=arguments, **report)


def _as_text(measured: Any) -> str:
    return f"{measured:.2g}" if isinstance(measured, float) else str(measured)
