# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What answers with their evidence cost beside answers alone: `make evidence`.

    python tests/measure_evidence.py [--passes 5]

Forward and backward of one text by the joint model and by that of spans alone, in turns, one thread, with encoders of
one size: both with the global tokens of the joint model, and each with its own. Seconds are those of the processor, so
that what else the machine does counts little. Results go to `finetune/evidence.json` and, as a table, into
`finetune/README.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerForEvidenceQuestionAnswering,
    HfLongformerForQuestionAnswering,
)
from hf_longformer.benchmarks.measure import MEBIBYTE, machine, peak_memory
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion.files import write_json

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README = ROOT / "evidence.json", ROOT / "README.md"
LENGTH, QUESTION = 4096, 24  # tokens
PARAGRAPHS, SENTENCES = 31, 128  # of HotpotQA's 10 and some 41 in 1,316 tokens, as many times longer
CONFIG = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "attention_window": 512,
    "max_position_embeddings": LENGTH + 2,
    "type_vocab_size": 1,
    "vocab_size": 5000,
}


def steps() -> dict[str, Callable[[], None]]:
    """Forward and backward of every model, by name."""
    torch.manual_seed(0)
    config = HfLongformerConfig(**CONFIG)
    ids = torch.randint(5, config.vocab_size, (1, LENGTH))
    sentences = torch.linspace(QUESTION + 40, LENGTH - 1, SENTENCES).long()[None]
    paragraphs = torch.linspace(QUESTION, LENGTH - 120, PARAGRAPHS).long()[None]
    of_question = torch.zeros_like(ids)
    of_question[:, :QUESTION] = 1
    of_both = of_question.scatter(1, torch.cat([sentences, paragraphs], dim=1), 1)
    joint = HfLongformerForEvidenceQuestionAnswering(config).train()
    plain = HfLongformerForQuestionAnswering(config).train()
    evidence = {
        "sentence_positions": sentences,
        "paragraph_positions": paragraphs,
        "start_positions": torch.tensor([[100]]),
        "end_positions": torch.tensor([[103]]),
        "labels": torch.tensor([0]),
        "sentence_labels": sentences % 2,
        "paragraph_labels": paragraphs % 2,
    }
    span = {"start_positions": torch.tensor([100]), "end_positions": torch.tensor([103])}

    def step(model: Any, **inputs: torch.Tensor) -> None:
        model.zero_grad(set_to_none=True)
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs).loss.backward()

    return {
        "answers with evidence": partial(step, joint, global_attention_mask=of_both, **evidence),
        "answers alone, the same global tokens": partial(step, plain, global_attention_mask=of_both, **span),
        "answers alone, the question global": partial(step, plain, global_attention_mask=of_question, **span),
    }


def measure(contestants: Mapping[str, Callable[[], None]], passes: int) -> dict[str, dict[str, float]]:
    """Of every step the median and the spread of its seconds, and the most memory above what was held before it."""
    for step in contestants.values():
        step()  # workspaces are there from now on
    results = {}
    for name, step in contestants.items():
        results[name] = {"peak_megabytes": peak_memory(step, torch.device("cpu"))[0] / MEBIBYTE}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(passes):
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            contestants[name]()
            times[name].append(time.process_time() - start)
    for name, seconds in times.items():
        results[name] |= {"seconds": statistics.median(seconds), "spread": max(seconds) - min(seconds)}
    return results


def tables(results: dict[str, Any]) -> dict[str, str]:
    """A row for every model, and how much the first takes beside each other."""
    lines = [
        "| | processor seconds | peak memory, MiB | the joint model's time | its memory |",
        "|---|--:|--:|--:|--:|",
    ]
    joint = next(iter(results["models"].values()))
    for name, one in results["models"].items():
        of_time, of_memory = (f"{joint[key] / one[key]:.2f} ×" for key in ("seconds", "peak_megabytes"))
        ratios = f"{of_time} | {of_memory}" if one is not joint else " | "
        lines.append(f"| {name} | {one['seconds']:.1f} | {one['peak_megabytes']:,.0f} | {ratios} |")
    return {"evidence": "\n".join(lines)}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--passes", type=int, default=5, help="timed rounds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(steps(), given.passes)
    facts = {"length": LENGTH, "batch": 1, "dtype": "float32", "question": QUESTION, "passes": given.passes}
    facts |= {"sentences": SENTENCES, "paragraphs": PARAGRAPHS, **CONFIG}
    found = {**machine(), **facts, "models": results}
    write_json(RESULTS, found)
    README.write_text(put_parts(README.read_text(encoding="utf-8"), tables(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
