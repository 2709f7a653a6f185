# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A small English RoBERTa trained from nothing on novels, and table 5 of the paper measured with it: `make tiny`.

    python tests/make_tiny.py PLACE --books FOLDER

Every run has a folder in PLACE; those that are done are not done again, and one that was killed goes on. The models go
to `model_cards/`, the figures to `model_cards/results.json` and, as a table, into the cards and the README. What stands
there already is kept: `--anew` begins with the first weight.
"""

import json
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch
from measure_characters import BOOKS_HELP, books
from measured import Run, kept, read_arguments, read_known, run_all, run_once, wanted
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast

from hf_longformer import HfLongformerConfig, HfLongformerForMaskedLM
from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.conversion.bits import bits_of_text
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_mlm

ROOT = Path(__file__).parents[1]
RECIPES, CARDS, RESULTS = ROOT / "finetune" / "recipes", ROOT / "model_cards", ROOT / "model_cards" / "results.json"
SHORT_NAME, LONG_NAME = "roberta-tiny-en", "longformer-tiny-en-4096"
READMES = tuple(
    ROOT / name / "README.md" for name in (".", "finetune", f"{CARDS.name}/{SHORT_NAME}", f"{CARDS.name}/{LONG_NAME}")
)
SHORT, LONG = 512, 4096  # tokens
VOCABULARY = 7500
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZES = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
DROPOUTS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # too small to overfit
SCORED = 250_000  # characters of each held-out book
# Rows: where added positions come from, the recipe of a training, and what the paper measured for the base size.
ROWS: dict[str, tuple[str | None, str | None, float]] = {
    "source": (None, None, 1.846),
    "random positions": ("random", None, 10.299),
    "copied positions": ("copy", None, 1.957),
    "+ short training": ("copy", "tiny-short.yaml", 1.753),
    "+ longer training": ("copy", "tiny-long.yaml", 1.705),
    "only positions trained": ("copy", "tiny-positions.yaml", 1.850),
}
PRETRAINING = ("tiny-pretraining-128.yaml", "tiny-pretraining-512.yaml")
PUBLISHED = "+ longer training"
LINE_BREAK = re.compile(r"(?<=\S)\n(?=\S)")


def unwrap(texts: dict[str, list[str]], folder: Path) -> dict[str, list[str]]:
    """The books with paragraphs in one line each: where a printer broke lines says nothing about English."""
    folder.mkdir(exist_ok=True)
    for file in (Path(name) for names in texts.values() for name in names):
        text = file.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        (folder / file.name).write_text(LINE_BREAK.sub(" ", text), encoding="utf-8")
    return {split: [str(folder / Path(name).name) for name in names] for split, names in texts.items()}


def make_initial(folder: Path, files: list[str]) -> None:
    """A tokenizer trained on the books, and random weights, in windows that cover all 512 tokens."""
    tokens = ByteLevelBPETokenizer()
    tokens.train(files, vocab_size=VOCABULARY, special_tokens=SPECIAL)
    folder.mkdir()
    tokens.save_model(str(folder))
    names = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    tokenizer = RobertaTokenizerFast(**names, model_max_length=SHORT)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    fields: dict[str, Any] = {**SIZES, "vocab_size": len(tokenizer), "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    fields |= {"max_position_embeddings": SHORT + 2, "attention_window": 2 * SHORT, "global_attention": "none"}
    model = HfLongformerForMaskedLM(HfLongformerConfig(**fields, **DROPOUTS))
    _help_to_begin(model)
    model.save_pretrained(folder)


@torch.no_grad()
def _help_to_begin(model: HfLongformerForMaskedLM) -> None:
    """Positions start as sines, which tell neighbours from others, and attention starts less even than its usual
    initial weights make it at this size: otherwise it takes a thousand steps and more to learn to look at neighbours.
    """
    positions = model.longformer.embeddings.position_embeddings.weight
    size = positions.shape[1]
    angles = torch.arange(SHORT)[:, None] * 10_000 ** (-torch.arange(0, size, 2) / size)
    positions[-SHORT:] = (
        2**0.5 * model.config.initializer_range * torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
    )
    for layer in model.longformer.encoder.layer:
        for projection in (layer.attention.self.query, layer.attention.self.key):
            projection.weight *= 3.0


def as_roberta(trained: Path, folder: Path) -> None:
    """Writes what was trained as the RoBERTa that it is: windows that cover everything are dense attention."""
    longformer = HfLongformerForMaskedLM.from_pretrained(trained).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained)
    config = RobertaConfig(
        **SIZES,
        **DROPOUTS,
        vocab_size=len(tokenizer),
        max_position_embeddings=SHORT + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        architectures=["RobertaForMaskedLM"],
    )
    roberta = RobertaForMaskedLM(config).eval()
    state = {name.replace("longformer.", "roberta."): tensor for name, tensor in longformer.state_dict().items()}
    missing, unused = roberta.load_state_dict(state, strict=False)
    if missing or any("_global" not in name for name in unused):
        raise RuntimeError(f"the weights do not fit a RoBERTa: missing {missing}, unused {unused}")
    ids = torch.randint(5, len(tokenizer), (2, SHORT), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(roberta(ids).logits, longformer(ids).logits, rtol=1e-4, atol=1e-4)
    roberta.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def pretrain(place: Path, files: list[str]) -> list[dict[str, Any]]:
    """Trains the source from nothing; what its phases measured."""
    initial, source = place / "initial", place / SHORT_NAME
    if not (initial / "config.json").exists():
        shutil.rmtree(initial, ignore_errors=True)
        make_initial(initial, files)
    found, trained = [], initial
    for recipe in PRETRAINING:
        options = {"model_name_or_path": trained, "train_files": files}
        trained = place / recipe.removesuffix(".yaml")
        found.append(kept(run_once(Run(run_mlm.__name__, RECIPES / recipe, trained, options))))
    if not (source / "config.json").exists():
        as_roberta(trained, source)
    shutil.copytree(source, CARDS / SHORT_NAME, dirs_exist_ok=True)
    return found


def measure(
    place: Path, texts: dict[str, list[str]], seeds: list[int], processes: int, results: dict[str, Any]
) -> None:
    """Rows of table 5, each with a seed and bits at the source's length and at 4,096 tokens, one by one into the file
    of results; those that are there stay as they are.
    """
    scored = "\n\n".join(Path(file).read_text(encoding="utf-8")[:SCORED] for file in texts["test_files"])

    def keep(name: str, seed: int, folder: Path, **found: Any) -> None:
        results["rows"].append({"row": name, "seed": seed, **found, "bits": bits(folder, scored, seed)})
        write_json(RESULTS, results)

    trained: dict[tuple[str, int], Run] = {}
    for name, seed in wanted(results["rows"], "row", ROWS, seeds):
        init, recipe, _ = ROWS[name]
        folder = converted(place, init, seed) if init else CARDS / SHORT_NAME
        if recipe is None:
            keep(name, seed, folder)
        else:
            given = {"model_name_or_path": folder, "train_files": texts["train_files"], "seed": seed}
            trained[name, seed] = Run(run_mlm.__name__, RECIPES / recipe, place / f"{Path(recipe).stem}-{seed}", given)
    for ((name, seed), run), found in zip(trained.items(), run_all([*trained.values()], processes), strict=True):
        keep(name, seed, run.folder, **kept(found))
        if (name, seed) == (PUBLISHED, 0):
            publish(run.folder)


def converted(place: Path, init: str, seed: int) -> Path:
    """The source for 4,096 tokens; copied positions have no seed."""
    folder = place / f"{init}-{seed if init == 'random' else 0}"
    if not folder.exists():
        options: dict[str, Any] = {"max_length": LONG, "attention_window": SHORT, "dtype": "float32"}
        convert(CARDS / SHORT_NAME, folder, position_init=init, seed=seed, **options)
    return folder


def bits(folder: Path, text: str, seed: int) -> dict[str, dict[str, Any]]:
    """Bits at the lengths that a model has."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    is_short = "roberta" in json.loads((folder / "config.json").read_text())["model_type"]
    model = (RobertaForMaskedLM if is_short else HfLongformerForMaskedLM).from_pretrained(folder, dtype="float32")
    lengths = [SHORT] if is_short else [SHORT, LONG]
    return {str(length): bits_of_text(model, tokenizer, text, length, seed)._asdict() for length in lengths}


def table(results: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds, beside the paper's."""
    heads = ("bits per character, 512 tokens", "4,096 tokens", "bits per masked token, 512", "4,096", "paper, base")
    lines = ["| | " + " | ".join(heads) + " |", "|---|---|---|---|---|---|"]
    for name, (_, _, paper) in ROWS.items():
        cells = []
        for what in ("bits_per_character", "bits_per_token"):
            for length in (SHORT, LONG):
                scores = _scores(results, name, length, what)
                deviation = f" ± {statistics.stdev(scores):.3f}" if len(scores) > 1 else ""
                cells.append(f"{statistics.mean(scores):.3f}{deviation}" if scores else "")
        lines.append(f"| {name} | {' | '.join(cells)} | {paper:.3f} |")
    return "\n".join(lines)


def before_and_after(results: dict[str, Any]) -> str:
    """Held-out bits per character at 4,096 tokens, converted and trained further; of each seed the same masks, and the
    standard deviation of the differences.
    """
    heads = (
        "trained",
        "steps",
        "bits per character, before",
        "after",
        "difference, mean ± standard deviation",
        "minutes",
    )
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|"]
    before = _scores(results, "copied positions", LONG, "bits_per_character")
    for name, trained in (("only positions trained", "positions"), ("+ longer training", "all")):
        after = _scores(results, name, LONG, "bits_per_character")
        differences = [one - other for one, other in zip(after, before, strict=True)]
        runs = [row["training"] for row in results["rows"] if row["row"] == name]
        minutes = statistics.mean(run["seconds"] for run in runs) / 60
        cells = f"{statistics.mean(before):.4f} | {statistics.mean(after):.4f} | {statistics.mean(differences):+.4f}"
        cells += f" ± {statistics.stdev(differences):.4f} | {minutes:.0f}"
        lines.append(f"| `{trained}` | {runs[0]['steps']} | {cells} |")
    return "\n".join(lines)


def _scores(results: dict[str, Any], name: str, length: int, what: str) -> list[float]:
    rows = sorted((row for row in results["rows"] if row["row"] == name), key=lambda row: row["seed"])
    return [row["bits"][str(length)][what] for row in rows if str(length) in row["bits"]]


def facts(results: dict[str, Any], runs: list[dict[str, Any]], lengths: list[int]) -> str:
    """What a card says of a training in phases."""
    steps = []
    for run, length in zip(runs, lengths, strict=True):
        given, number = run["hyperparameters"], run["training"]["steps"]
        tokens = length * given["per_device_train_batch_size"]
        rate = f"learning rate {given['learning_rate']:g}, {given['lr_scheduler_type'].replace('_', ' ')}"
        steps.append(f"{number:,} of {tokens:,} tokens, in pieces of {length:,}; {rate}")
    hours = sum(run["training"]["seconds"] for run in runs) / 3600
    dtype = "bfloat16" if runs[-1]["hyperparameters"]["bf16"] else "float32"
    books = {name: ", ".join(title.replace("-", " ") for title in titles) for name, titles in results["books"].items()}
    rows = {
        "trained on": books["train_files"],
        "measured on": books["test_files"],
        "hyperparameters chosen on": books["validation_files"],
        "steps": "; then ".join(steps),
        "time": f"{hours:.2f} hours on {runs[-1]['threads']} threads of {runs[-1]['processor']}, {dtype}",
        "versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "date": runs[-1].get("date", results["date"]),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def parts(results: dict[str, Any]) -> dict[str, str]:
    """What stands in the cards and the README files, by name."""
    continued = next(row for row in results["rows"] if row["row"] == PUBLISHED)
    return {
        "facts": facts(results, results["pretraining"], [128, SHORT]),
        "training": facts(results, [continued], [LONG]),
        "table 5": table(results),
        "novels": before_and_after(results),
    }


def publish(trained: Path) -> None:
    """Writes the long model as float16 beside its card."""
    HfLongformerForMaskedLM.from_pretrained(trained, dtype=torch.float16).save_pretrained(CARDS / LONG_NAME)
    AutoTokenizer.from_pretrained(trained).save_pretrained(CARDS / LONG_NAME)


def main() -> None:
    """Trains, measures and writes."""
    given = read_arguments(main.__doc__, "--books", BOOKS_HELP)
    known = read_known(RESULTS, given.anew)
    texts = unwrap(books(given.books), given.place / "books")
    results = {**machine(), "books": {split: [Path(file).stem for file in names] for split, names in texts.items()}}
    results["pretraining"] = known.get("pretraining") or pretrain(given.place, texts["train_files"])
    results["rows"] = known["rows"] if known.get("books") == results["books"] else []
    measure(given.place, texts, given.seeds, given.processes, results)
    made = parts(json.loads(RESULTS.read_text(encoding="utf-8")))
    for file in READMES:
        file.write_text(put_parts(file.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
