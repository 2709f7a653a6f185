# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts every family, and what real weights are named, and writes the measurements: `make conversions`.

    python tests/measure_conversions.py [NAME=FOLDER …] [--encoder FOLDER --squad FILE]

Results go to `conversion/results.json` and, as tables, into `conversion/README.md`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from sources import ENCODER_DECODER_HEADS, ENCODER_DECODERS, FAMILIES, HEADS, make_source
from transformers import AutoModel, AutoTokenizer, RobertaConfig, pipeline

from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import InputError, convert, export
from hf_longformer.conversion.source import TOKENIZER_FILES

ROOT = Path(__file__).parents[1]
RESULTS, README = ROOT / "conversion" / "results.json", ROOT / "conversion" / "README.md"
TASKS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "EncoderDecoderModel": "feature-extraction",
}
AUTO_ENDINGS = {"Model": "", "EncoderDecoderModel": "", "ForConditionalGeneration": "ForSeq2SeqLM"}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
INITS = ("copy", "interpolate", "random")
LONG, PASSAGE, STRIDE = 4096, 128, 64  # tokens


def convert_one(name: str, folder: Path, place: Path, **options: Any) -> dict[str, Any]:
    """One row of the table of families."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    report = convert(folder, place / "ours", **options)
    if not all(check["passed"] for check in report["checks"]):
        raise RuntimeError(f"the gate of {name} is not green")
    differences = {
        check["name"]: check["measured"] for check in report["checks"] if isinstance(check["measured"], float)
    }
    hidden = max(value for title, value in differences.items() if "hidden states" in title)
    heads = [value for title, value in differences.items() if "logits" in title or "pooled" in title]
    head = report["model_class"].removeprefix("HfLongformer")
    auto = getattr(transformers, f"AutoModel{AUTO_ENDINGS.get(head, head)}")
    try:
        stock = f"{export(place / 'ours', place / 'stock')['largest_difference']:.1e}"
    except InputError as error:
        stock = str(error).partition(" cannot express this checkpoint: ")[2].split(", got")[0]
    return {
        "name": name,
        "source_class": report["source_class"],
        "tokens": [report["source_max_length"], report["max_length"]],
        "parameters": report["parameters"],
        "hidden_states": hidden,
        "head_outputs": max(heads) if heads else None,
        "embeddings": next((value for title, value in differences.items() if "embeddings" in title), None),
        "tokenizer": report["tokenizer"],
        "auto_class": type(auto.from_pretrained(place / "ours")).__name__ == report["model_class"],
        "pipeline": run_pipeline(TASKS.get(head), place / "ours"),
        "stock": stock,
    }


def run_pipeline(task: str | None, folder: Path) -> str:
    """The task that a pipeline did with a checkpoint, or why there is none."""
    if task is None:
        return "no such pipeline"
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES):
        return "no tokenizer"
    run = pipeline(task, str(folder))
    run(f"the quick {run.tokenizer.mask_token} fox" if task == "fill-mask" else "the quick brown fox")
    return task


def measure_families(real: dict[str, Path], place: Path) -> list[dict[str, Any]]:
    """Random sources of awkward sizes, every family and head; then real weights."""
    rows = []
    kinds = [*product(FAMILIES, HEADS), *product(ENCODER_DECODERS, ENCODER_DECODER_HEADS)]
    for family, head in kinds:
        make_source(place / "source", family, head)
        # stock LED reads whole windows, of which BART's is wider than this text by default
        options = {"attention_window": 64} if family == "bart" else {}
        rows.append(convert_one("random weights", place / "source", place / "one", max_length=777, **options))
        shutil.rmtree(place / "source")
    for name, folder in real.items():
        options = {"allow_pickle": True}
        config = json.loads((folder / "config.json").read_text())
        if config.get("architectures") == ["AntiBERTy"] or "architectures" not in config:
            options["architecture"] = "BertForMaskedLM"
        rows.append(convert_one(name, folder, place / "one", **options))
    return rows


MEMORY = """
import json, sys
from pathlib import Path
from hf_longformer.benchmarks.measure import _peak_memory, _reset_peak_memory
from hf_longformer.conversion import convert
planned = convert(sys.argv[1], sys.argv[2], dtype=sys.argv[3], dry_run=True)["memory_bytes"]
before = _reset_peak_memory()
convert(sys.argv[1], sys.argv[2], dtype=sys.argv[3])
peak = _peak_memory()
size = (Path(sys.argv[1]) / "model.safetensors").stat().st_size
print(json.dumps({"beside_program": (peak - before) / size, "in_all": peak / size, "planned": planned / size}))
"""


def measure_memory(place: Path) -> list[dict[str, Any]]:
    """Peak memory of converting a 355M-parameter model, check included, over its size on disk."""
    rows = []
    model = transformers.RobertaForMaskedLM(RobertaConfig(**ROBERTA, **LARGE))
    for stored in (torch.float32, torch.float16):
        model.to(stored).save_pretrained(place / "large")
        for dtype in ("auto", "float16", "bfloat16"):
            command = [sys.executable, "-c", MEMORY, str(place / "large"), str(place / "out"), dtype]
            if stored == torch.float32 or dtype == "auto":
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                shutil.rmtree(place / "out")
                name = str(stored).removeprefix("torch.")
                rows.append({"stored": name, "dtype": dtype, **json.loads(done.stdout.splitlines()[-1])})
        shutil.rmtree(place / "large")
    return rows


def measure_time(place: Path, repeats: int = 5) -> dict[str, Any]:
    """Seconds of converting a base-size model without the check, and of loading and saving it, in turn."""
    transformers.RobertaForMaskedLM(RobertaConfig(**ROBERTA)).save_pretrained(place / "base")
    converted, loaded = [], []
    for _ in range(repeats + 1):
        os.sync()
        start = time.perf_counter()
        model = transformers.RobertaForMaskedLM.from_pretrained(place / "base")
        model.save_pretrained(place / "again")
        loaded.append(time.perf_counter() - start)
        del model
        shutil.rmtree(place / "again")
        os.sync()
        start = time.perf_counter()
        convert(place / "base", place / "out", check=False)
        converted.append(time.perf_counter() - start)
        shutil.rmtree(place / "out")
    convert_s, load_s = (statistics.median(times[1:]) for times in (converted, loaded))
    return {"convert": convert_s, "load_and_save": load_s, "ratio": convert_s / load_s, "repeats": repeats}


@torch.inference_mode()
def measure_positions(encoder: Path, squad: Path, place: Path) -> list[dict[str, Any]]:
    """What rows beyond the source's do before any training: short texts, and passages found in long documents."""
    documents = [paragraph for article in json.loads(squad.read_text())["data"] for paragraph in article["paragraphs"]]
    questions = [qa["question"] for document in documents for qa in document["qas"]]
    source, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    expected = torch.stack([embed(source, tokenizer, question) for question in questions])
    rows = [{"position_init": "source, alone", "similarity": 1.0}]
    rows[0] |= search(source, tokenizer, documents, expected, alone=True)
    for init in INITS:
        convert(encoder, place / init, position_init=init, check=False)
        model = AutoModel.from_pretrained(place / init).eval()
        tokenizer = AutoTokenizer.from_pretrained(place / init)
        embedded = torch.stack([embed(model, tokenizer, question) for question in questions])
        similarity = torch.nn.functional.cosine_similarity(embedded, expected)
        found = search(model, tokenizer, documents, embedded)
        rows.append({"position_init": init, "similarity": float(similarity.mean()), **found})
    return [{**row, "questions": len(questions)} for row in rows]


def embed(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    """Mean of the last hidden states, as the encoder was trained to be read."""
    return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)


def search(
    model: Any, tokenizer: Any, documents: list[dict], questions: torch.Tensor, alone: bool = False
) -> dict[str, float]:
    """Share of questions whose answer lies in the nearest passage, or one of the three nearest, of its document.

    The document is read in one pass, or every passage by itself (`alone`).
    """
    ranks, after = [], 0
    for document in documents:
        inputs = tokenizer(document["context"], verbose=False, return_offsets_mapping=True, return_tensors="pt")
        spans, ids = inputs.pop("offset_mapping")[0][:LONG], inputs["input_ids"][:, :LONG]
        starts = range(0, ids.shape[1] - STRIDE, STRIDE)
        pieces = [slice(start, start + PASSAGE) for start in starts]
        if alone:
            first, last = ids[:, :1], ids.new_tensor([[tokenizer.sep_token_id]])
            cut = [torch.cat([first, ids[:, piece], last], dim=1) for piece in pieces]
            passages = torch.stack([model(piece).last_hidden_state[0].mean(dim=0) for piece in cut])
        else:
            states = model(ids).last_hidden_state[0]
            passages = torch.stack([states[piece].mean(dim=0) for piece in pieces])
        passages = torch.nn.functional.normalize(passages, dim=-1)
        for qa in document["qas"]:
            order = (passages @ questions[after]).argsort(descending=True).tolist()
            after += 1
            answer = qa["answers"][0]["answer_start"]
            holds = [
                int(spans[starts[one]][0]) <= answer < int(spans[min(starts[one] + PASSAGE, len(spans) - 1) - 1][1])
                for one in order
            ]
            ranks.append(holds.index(True) if True in holds else len(holds))
    return {
        "nearest": sum(rank < 1 for rank in ranks) / len(ranks),
        "three": sum(rank < 3 for rank in ranks) / len(ranks),
    }


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Every table of `conversion/README.md`, by the name of the place where it stands."""
    families = [
        "| source class | weights | parameters | tokens | hidden states | head outputs | tokenizer | pipeline "
        "| stock |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["families"]:
        old, new = row["tokens"]
        cells = (
            *(f"`{row['source_class']}`", row["name"], f"{row['parameters']:,}", f"{old:,} → {new:,}"),
            *(_small(row["hidden_states"]), _small(row["head_outputs"])),
            *(row["tokenizer"] or "none", row["pipeline"], row["stock"]),
        )
        families.append(f"| {' | '.join(cells)} |")
    memory = [
        "| stored as | `--dtype` | peak over its size | with the program itself | `--dry-run` said |",
        "|---|---|---|---|---|",
    ]
    memory += [
        f"| {row['stored']} | {row['dtype']} | {row['beside_program']:.2f} | {row['in_all']:.2f} "
        f"| {row['planned']:.2f} |"
        for row in results["memory"]
    ]
    positions = [
        "| `--position-init` | short texts as by the source | answer in the nearest passage | in the nearest three |"
    ]
    positions += ["|---|---|---|---|"]
    positions += [
        f"| {row['position_init']} | {row['similarity']:.4f} | {row['nearest']:.1%} | {row['three']:.1%} |"
        for row in results["positions"]
    ]
    seconds = results["time"]
    timing = [
        f"{seconds['convert']:.2f} s without the check, {seconds['load_and_save']:.2f} s for loading and saving the "
        f"source, ratio {seconds['ratio']:.2f}, medians of {seconds['repeats']} in turn."
    ]
    parts = {"families": families, "memory": memory, "positions": positions, "time": timing}
    return {name: "\n".join(lines) for name, lines in parts.items()}


def _small(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("real", nargs="*", metavar="NAME=FOLDER", help="real checkpoints to convert too")
    parser.add_argument("--encoder", type=Path, help="a trained sentence encoder, for the table of positions")
    parser.add_argument("--squad", type=Path, help="long documents with questions in SQuAD's format, for the same")
    given = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    real = {name: Path(folder) for name, folder in (one.split("=", 1) for one in given.real)}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        results |= {"families": measure_families(real, place), **machine()}
        results |= {"time": measure_time(place), "memory": measure_memory(place)}
        if given.encoder and given.squad:
            results["positions"] = measure_positions(given.encoder, given.squad, place)
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(put_parts(README.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
