# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Results as tables and plots, and the READMEs that show them: `python -m hf_longformer.benchmarks.report`."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from hf_longformer.drawing import Curves, draw_curves

from .peers import TITLES

FOLDER = Path(__file__).parent
RESULTS, GPU_RESULTS = FOLDER / "results" / "cpu.json", FOLDER / "results" / "gpu.json"
TABLE = ("suite", "size", "batch", "dtype", "allocator", "device")  # what is one table
ROW = ("attention_window", "attention_dilation", "length")  # what is one of its rows
USUAL = {"size": "base", "batch": 1, "allocator": "default", "attention_window": 512, "attention_dilation": 1}
ALLOCATOR_TITLES = {
    "default": "default allocator",
    "keeps": "an allocator that keeps its pages",
    "returns": "an allocator that returns freed memory",
}
# A cell is disturbed if the machine's matrix products ran slower than this share of the best rate in the file, or if
# passes of ours were farther apart than this share of their median.
QUIET_RATE, QUIET_SPREAD = 0.9, 0.25
LIMIT = "stock over the GEMM floor, more than which nobody can gain"
Entry = dict[str, Any]


def quiet(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results without what other work on the machine disturbed: only the rest is shown."""
    best: dict[tuple, float] = {}
    for entry in results["cells"]:
        kind = entry["device"], entry["dtype"]
        best[kind] = max(best.get(kind, 0.0), entry.get("gemm_flops", 0.0))

    def is_quiet(entry: Entry) -> bool:
        rate = entry.get("gemm_flops", float("inf"))
        ours = [entry["peers"][name] for name in OURS if "spread" in entry["peers"].get(name, {})]
        spread = max((one["spread"] / one["seconds"] for one in ours), default=0.0)
        return rate >= QUIET_RATE * best[entry["device"], entry["dtype"]] and spread <= QUIET_SPREAD

    return {**results, "cells": [entry for entry in results["cells"] if is_quiet(entry)]}


def table(entries: Iterable[Entry]) -> str:
    """Tables in Markdown: one for every suite, dtype and allocator, a row per window and length, a column per peer."""
    lines: list[str] = []
    for facts, rows in _grouped(entries, TABLE).items():
        suite, size, batch, dtype, allocator, device = facts
        lines += [f"{suite}, {size} size, batch {batch}, {dtype}, {ALLOCATOR_TITLES[allocator]}, {device}", ""]
        rows = sorted(rows, key=lambda entry: [entry[name] for name in ROW])
        varying = [name for name in ROW if name == "length" or len({entry[name] for entry in rows}) > 1]
        present = {name for entry in rows for name in entry["peers"]}
        names = [name for name in TITLES if name in present]
        has_floor = any("gemm_flops" in entry and "floor_flops" in entry for entry in rows)
        heads = [name.removeprefix("attention_").replace("length", "tokens") for name in varying]
        heads += [TITLES.get(name, name) for name in names] + ["GEMM floor"] * has_floor
        lines += [f"| {' | '.join(heads)} |", "|--:" * len(heads) + "|"]
        for entry in rows:
            cells = [f"{entry[name]:,}" for name in varying] + [_cell(entry["peers"].get(name)) for name in names]
            cells += [_duration(_floor(entry))] * has_floor
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).strip() or "not measured yet"


def ratios(results: Mapping[str, Any]) -> str:
    """A table of what is usually asked, as far as it is measured."""
    lines = []
    for ratio in _ratios():
        figure, other = (_figure(results, ratio, *side) for side in (ratio.figure, ratio.over))
        if figure and other:
            lines.append(f"| {ratio.title} | {figure / other:.2f} |")
    return "\n".join(["| measure | ratio |", "|---|--:|", *lines]) if lines else "not measured yet"


@dataclass(frozen=True)
class Ratio:
    """One figure over another.

    Args:
        title: What it is.
        suite: Of both.
        figure, over: Whose they are, and what differs from 4,096 tokens in `dtype` at base size. "floor" is nobody's,
            but the time that the machine's GEMM rate allows.
        dtype: Of both.
        field: What is compared.
        per_token: Whether to divide both by their length.
    """

    title: str
    suite: str
    figure: tuple[str, Entry]
    over: tuple[str, Entry]
    dtype: str = "float32"
    field: str = "seconds"
    per_token: bool = False


def _ratios() -> Iterator[Ratio]:
    ours = "hf-longformer"
    for dtype in ("float32", "bfloat16"):
        for allocator, words in ALLOCATOR_TITLES.items():
            same: Entry = {"allocator": allocator}
            title = f"inference, 4,096 tokens, {dtype}, {words}"
            yield Ratio(f"{title}: stock over ours", "inference", ("stock", same), (ours, same), dtype)
            yield Ratio(f"{title}: ours over the GEMM floor", "inference", (ours, same), ("floor", same), dtype)
            yield Ratio(f"{title}: {LIMIT}", "inference", ("stock", same), ("floor", same), dtype)
        title = f"training step, 4,096 tokens, {dtype}"
        yield Ratio(f"{title}: stock over ours", "training", ("stock", {}), (ours, {}), dtype)
        yield Ratio(f"{title}: ours over the GEMM floor", "training", (ours, {}), ("floor", {}), dtype)
        yield Ratio(f"{title}: {LIMIT}", "training", ("stock", {}), ("floor", {}), dtype)
        for peer, allocator in product((ours, "checkpointing"), ("default", "returns")):
            peak = f"{title}, peak memory, {ALLOCATOR_TITLES[allocator]}: {TITLES[peer]} over stock"
            same = {"allocator": allocator}
            yield Ratio(peak, "training", (peer, same), ("stock", same), dtype, "peak_megabytes")
        for length in (128, 256, 512):
            same = {"length": length}
            title = f"inference, {length} tokens, {dtype}: ours over RoBERTa with dense SDPA"
            yield Ratio(title, "inference", (ours, same), ("roberta", same), dtype)
    for field, word in (("seconds", "time"), ("peak_megabytes", "peak memory")):
        title = f"inference, float32, {word} per token: 16,384 over 4,096 tokens"
        yield Ratio(title, "inference", (ours, {"length": 16384}), (ours, {}), field=field, per_token=True)
    for suite in ("operator forward", "operator forward and backward"):
        title = f"{suite}, 4,096 tokens, float32"
        yield Ratio(f"{title}: window 128 over 512", suite, (ours, {"attention_window": 128}), (ours, {}))
        yield Ratio(f"{title}: dilation 2 over 1", suite, (ours, {"attention_dilation": 2}), (ours, {}))
    for size, dtype in product(("base", "characters"), ("float32", "bfloat16")):
        same = {"length": 8192, "size": size}
        title = f"causal training step, {size} size, 8,192 tokens, {dtype}"
        yield Ratio(f"{title}: dense GPT-2 over ours", "causal training", ("gpt2", same), ("causal", same), dtype)
        sides = ("causal", same), ("causal", same | {"length": 2048})
        title = f"causal training, {size} size, {dtype}, peak memory per token: 8,192 over 2,048 tokens"
        yield Ratio(title, "causal training", *sides, dtype, "peak_megabytes", per_token=True)
    title = "inference, float32, texts padded to 4 times their mean length over the same one by one"
    yield Ratio(title, "padding", ("padded", {}), ("unpadded", {}))


def rates(results: Mapping[str, Any]) -> str:
    """Tokens per second of everybody, and of ours the TFLOP per second that exact attention and the layers around it
    cannot do without.
    """
    entries = [entry for entry in results["cells"] if "floor_flops" in entry]
    names = [name for name in TITLES if any("seconds" in entry["peers"].get(name, {}) for entry in entries)]
    heads = ["", "tokens", "batch", *(TITLES[name] for name in names)]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for entry in entries:
        cells = [entry["suite"], f"{entry['length']:,}", str(entry["batch"])]
        for name in names:
            seconds = entry["peers"].get(name, {}).get("seconds")
            cell = f"{entry['batch'] * entry['length'] / seconds:,.0f}" if seconds else "–"
            is_ours = seconds and name in (*OURS, "compiled")
            cells.append(cell + (f" ({entry['floor_flops'] / seconds / 1e12:,.0f} TFLOP/s)" if is_ours else ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def losses(results: Mapping[str, Any]) -> str:
    """Everything that was faster than this package, with how many times."""
    lines = []
    for entry in sorted(results["cells"], key=lambda entry: [str(entry[name]) for name in TABLE] + [entry["length"]]):
        ours = next((entry["peers"][name].get("seconds") for name in OURS if name in entry["peers"]), None)
        faster = [
            f"{TITLES[name]} {ours / result['seconds']:.2f}×"
            for name, result in entry["peers"].items()
            if ours and result.get("seconds", ours) < ours
        ]
        if faster:
            where = f"{entry['suite']}, {entry['size']}, {entry['length']:,} tokens, window {entry['attention_window']}"
            where += f", {entry['dtype']}, {ALLOCATOR_TITLES[entry['allocator']]}"
            lines.append(f"* {where}: {', '.join(faster)}")
    return "\n".join(lines) or "nothing measured so far"


def speed(results: Mapping[str, Any]) -> str:
    """The README's table of inference in float32, with what it comes to."""
    entries = _usual(results, "inference", "float32")
    if not entries:
        return "not measured yet"
    compared = [entry for entry in entries if len(entry["peers"]) > 1] or entries
    first, last = compared[0], compared[-1]
    lines = table(entries).splitlines()[2:]
    lines += ["", f"{machine_line(results)} At {_compared(last)}; at {_compared(first)}."]
    return "\n".join(lines)


def machine_line(results: Mapping[str, Any]) -> str:
    """Where and when, as one sentence."""
    versions = results["versions"]
    passes = max((peer.get("passes", 0) for entry in results["cells"] for peer in entry["peers"].values()), default=0)
    on_gpu = any(entry["device"] == "cuda" for entry in results["cells"])
    where = f"One {results['processor']}" if on_gpu else f"{results['threads']} threads of {results['processor']}"
    return (
        f"{where}, torch {versions['torch']}, transformers {versions['transformers']}, {results['date']}, medians of "
        f"at most {passes} passes, `make bench{'-gpu' * on_gpu}`."
    )


def commands(results: Mapping[str, Any]) -> str:
    """What was called, and when, to get the figures."""
    called = dict.fromkeys((entry["command"], entry["date"]) for entry in results["cells"])
    return "\n".join(f"* `{command}`, {date}" for command, date in called)


def draw(results: Mapping[str, Any], file: Path, fewest: int = 2) -> list[Path]:
    """Time per token and memory against length, in the manner of the paper's figure 1, and against window.

    Args:
        results: What a file of results holds.
        file: That file; the plots are put beside it.
        fewest: Points that a plot must have.

    Returns:
        The plots, of two panels each, of the first of `DRAWN` that was measured at so many points.
    """
    plots = []
    for name, label in (("length", "tokens"), ("attention_window", "window (tokens)")):
        same = tuple(fact for fact in (*TABLE, *ROW) if fact != name)
        groups = _grouped((e for e in results["cells"] if e["suite"] in DRAWN and e["allocator"] == "default"), same)
        lines = [entries for entries in groups.values() if len(entries) >= fewest]
        if not lines:
            continue
        entries = min(lines, key=lambda entries: (DRAWN.index(entries[0]["suite"]), -len(entries)))
        known = entries[0]
        title = f"{known['suite']}, {known['size']}, {known['dtype']}"
        title += f", {known['length']:,} tokens" if name != "length" else f", window {known['attention_window']}"
        per_token = [
            {**entry, "peers": {peer: _per_token(result, entry) for peer, result in entry["peers"].items()}}
            for entry in entries
        ]
        panels = {
            f"{title}: time": Curves(label, "ms per token", _points(per_token, name, "seconds"), is_log=False),
            f"{title}: memory": Curves(label, "peak above the model, MiB", _points(entries, name, "peak_megabytes")),
        }
        plots.append(file.with_name(f"{file.stem}-{name.removeprefix('attention_')}.png"))
        draw_curves(panels, plots[-1])
    return plots


def _per_token(result: Entry, entry: Entry) -> Entry:
    if "seconds" not in result:
        return result
    return {**result, "seconds": 1000 * result["seconds"] / (entry["batch"] * entry["length"])}


def fill(text: str, results: Mapping[str, Any], on_gpu: Mapping[str, Any] | None = None) -> str:
    """A README with what stands between its markers replaced by what the results say, on a CPU and, if there are such,
    on a GPU. What was disturbed is left out.
    """
    results = quiet(results)
    cells = results["cells"]
    parts = {suite: table(entry for entry in cells if entry["suite"].split()[0] == suite) for suite in SECTIONS}
    parts |= {
        "machine": f"{machine_line(results)}\n\n{commands(results)}",
        "ratios": ratios(results),
        "losses": losses(results),
    }
    if on_gpu is not None:
        parts["gpu"] = f"{rates(on_gpu)}\n\nWindow 512, bfloat16. {machine_line(on_gpu)}"
        parts["gpu-tables"] = f"{table(on_gpu['cells'])}\n\n{commands(on_gpu)}"
    return put_parts(text, parts | {"speed": speed(results), "plots": _images()})


def put_parts(text: str, parts: Mapping[str, str]) -> str:
    """A text in Markdown with what stands between `<!-- name -->` and `<!-- end -->` replaced, for every name."""
    for name, part in parts.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = between.sub(partial(_between, part), text)
    return text


def _between(part: str, found: re.Match[str]) -> str:
    return f"{found[1]}{part}\n{found[2]}"


SECTIONS = ("inference", "training", "operator", "causal", "padding", "memory")
OURS = ("hf-longformer", "causal")
DRAWN = ("inference", "training", "causal training", "operator forward", "operator forward and backward")
READMES = (FOLDER / "README.md", FOLDER.parent / "README.md")


def _grouped(entries: Iterable[Entry], names: Sequence[str]) -> dict[tuple, list[Entry]]:
    groups: dict[tuple, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(tuple(entry[name] for name in names), []).append(entry)
    return groups


def _points(entries: Iterable[Entry], x: str, y: str) -> dict[str, list[tuple[float, float]]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for entry in sorted(entries, key=lambda entry: entry[x]):
        for name, result in entry["peers"].items():
            if y in result:
                points.setdefault(TITLES[name], []).append((entry[x], result[y]))
    return points


def _figure(results: Mapping[str, Any], ratio: Ratio, peer: str, facts: Entry) -> float | None:
    """One number, or None if it was not measured."""
    wanted = {**USUAL, "length": 4096, "dtype": ratio.dtype, **facts, "suite": ratio.suite}
    for entry in results["cells"]:
        if wanted.items() <= entry.items():
            figure = _floor(entry) if peer == "floor" else entry["peers"].get(peer, {}).get(ratio.field)
            return figure / entry["length"] if ratio.per_token and figure else figure
    return None


def _usual(results: Mapping[str, Any], suite: str, dtype: str) -> list[Entry]:
    wanted = {**USUAL, "suite": suite, "dtype": dtype}
    return sorted((e for e in results["cells"] if wanted.items() <= e.items()), key=lambda entry: entry["length"])


def _compared(entry: Entry) -> str:
    """How ours does beside the others at one length."""
    ours = entry["peers"]["hf-longformer"]["seconds"]
    parts = []
    for name, result in entry["peers"].items():
        if name != "hf-longformer" and "seconds" in result:
            ratio = result["seconds"] / ours
            how = f"{ratio:.2f} times as fast as" if ratio >= 1 else f"{1 / ratio:.2f} times as slow as"
            parts.append(f"{how} {TITLES[name]}")
    return f"{entry['length']:,} tokens hf-longformer is {', '.join(parts)}"


def _floor(entry: Entry) -> float | None:
    """Seconds that the products alone take at the machine's own GEMM rate."""
    return entry["floor_flops"] / entry["gemm_flops"] if {"floor_flops", "gemm_flops"} <= entry.keys() else None


def _cell(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "–"
    if "failed" in result:
        return str(result["failed"])
    if "expected_megabytes" in result:
        expected, measured = result["expected_megabytes"], result["measured_megabytes"]
        return f"{expected:,.0f} expected, {measured:,.0f} MiB taken ({expected / measured - 1:+.0%})"
    known = "spread" in result and result.get("passes", 1) > 1
    spread = f" ({result['spread'] / result['seconds']:.0%})" if known else ""
    return f"{_duration(result['seconds'])}{spread}, {result['peak_megabytes']:,.0f} MiB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.3g} ms"


def _images() -> str:
    plots = sorted(RESULTS.parent.glob(f"{RESULTS.stem}-*.png"))
    return "\n\n".join(f"![Against {plot.stem.split('-')[-1]}](results/{plot.name})" for plot in plots)


def main() -> None:
    """Draws the committed results and fills both READMEs."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    on_gpu = json.loads(GPU_RESULTS.read_text(encoding="utf-8")) if GPU_RESULTS.exists() else None
    drawn = draw(quiet(results), RESULTS, fewest=3)
    for plot in {*RESULTS.parent.glob(f"{RESULTS.stem}-*.png")} - {*drawn}:
        plot.unlink()
    for file in READMES:
        file.write_text(fill(file.read_text(encoding="utf-8"), results, on_gpu), encoding="utf-8")


if __name__ == "__main__":
    main()
