# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Reports of a conversion as lines to read."""

import re
from pathlib import Path
from typing import Any

GIGABYTE = 1e9


def longest_text(report: dict[str, Any]) -> str:
    """The longest input of a result: `"4,096 tokens"`, or `"texts of any length"`."""
    return "texts of any length" if report["max_length"] is None else f"{report['max_length']:,} tokens"


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """What a conversion would do: what `convert(…, dry_run=True)` returned, as lines."""
    longest, rows, first = plan["source_max_length"], plan["position_rows"], plan["special_rows"]
    special, decoder = f"0 … {first - 1} special; " * bool(first), plan["decoder_max_length"]
    windows = sorted(set(plan["window_each_side"]))
    repeated = "while texts are read" if plan["max_length"] is None else f"{rows / longest:.4g} times"
    longer = int(rows > longest)
    made = {
        "copy": f"the source's {longest:,}, repeated {repeated}",
        "interpolate": f"the source's {longest:,}, stretched",
        "random": "random, as in a new model",
    }
    lines = [
        f"{plan['source_class']} → {plan['model_class']}",
        f"  longest input   {longest:,} → {longest_text(plan)}",
        f"  window          {plan['attention_window']} in all, {', '.join(map(str, windows))} on each side, "
        f"dilation {plan['attention_dilation']}",
        f"  position rows   {special}{first} … {first + rows - 1} {made[plan['position_init']]}",
        *([] if decoder is None else [f"  decoder         {decoder:,} tokens, as in the source"]),
        f"  weights         {plan['taken_over'] + 1 - longer} unchanged, {longer} extended, "
        f"{len(plan['cloned'])} cloned, "
        f"{len(plan['zeros'])} of zeros, {len(plan['dropped_weights'])} dropped",
        *(f"    cloned        {name}" for name in sorted({re.sub(r"[.]\d+[.]", ".*.", one) for one in plan["cloned"]})),
        *(f"    dropped       {name}" for name in plan["dropped_weights"]),
        f"  global          {plan['global_projections'] or 'as in the source'}",
        f"  tokenizer       {plan['tokenizer'] or 'none'}",
        f"  parameters      {plan['parameters']:,}, {plan['dtype']}",
        f"  on disk         {_size(plan['source_bytes'])} → {_size(plan['bytes'])}",
        f"  memory          about {_size(plan['memory_bytes'])} beside the program itself, check included",
        "nothing was written",
    ]
    return lines


def bits_lines(report: dict[str, Any]) -> list[str]:
    """What predicting masked tokens of a text cost before and after, as lines; none if it was not measured."""
    return [
        f"    {row['model']} at {row['tokens']:,} tokens: {row['bits_per_character']:.3f} bits per character, "
        f"{row['bits_per_token']:.3f} per masked token"
        for row in report["bits"]
    ]


def result_lines(report: dict[str, Any], output: Path) -> list[str]:
    """What was made, as lines: the figures that were measured, the classes, and what the result does otherwise."""
    made = f"{report['source_class']} → {report['model_class']}, {longest_text(report)}, in {output}"
    return [*bits_lines(report), made, *report["notes"]]


def _size(number: int) -> str:
    return f"{number / GIGABYTE:.2f} GB" if number >= GIGABYTE / 10 else f"{number / 1e6:.1f} MB"
