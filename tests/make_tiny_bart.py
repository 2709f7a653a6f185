# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A small English BART, converted to 16,384 tokens, and asked for a name that stands beyond 1,024: `make tiny-bart`.

    python tests/make_tiny_bart.py PLACE --books FOLDER

The BART starts as `roberta-tiny-en`, encoder and decoder alike, as in arXiv 1907.12461, but for the attention to the
encoder's states, and learns to write pieces of novels that it reads with spans left out and sentences in another order
(arXiv 1910.13461). Then it is converted, and learns to write the sentence with a name that somewhere in a document says
how somebody was called; beside it the same model that reads 1,024 tokens. Every training has a folder in PLACE; those
that are done are not done again, and one that was killed goes on. Results go to `finetune/tiny-bart.json` and, as a
table, into `finetune/README.md`; the model stays in `PLACE/bart-tiny-en`.
"""

import json
import random
import re
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_tiny import CARDS, LINE_BREAK, SHORT_NAME
from measure_characters import BOOKS_HELP, books
from measured import Run, kept, read_arguments, read_known, run_all, spread
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerBase,
    RobertaModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_summarization
from hf_longformer.finetune.predict import predict

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README, RECIPE = ROOT / "tiny-bart.json", ROOT / "README.md", ROOT / "recipes" / "tiny-bart-names.yaml"
NAME, LONG_NAME = "bart-tiny-en", "led-tiny-en-16384"
SHORT, LONG = 1024, 16_384  # tokens
DECODER_LAYERS = 2
# Of denoising: tokens of a piece, pieces per step, steps, those of the warm-up.
PHASES = {"pieces": (128, 32, 600, 50), "whole": (SHORT, 4, 40, 4)}
RATE = 1e-3
MASKED, SPAN = 0.3, 3.0  # share of the tokens, and their mean number in a span
SENTENCE = re.compile(r"(?<=[.!?])\s+")
SAID = "The lighthouse keeper was called {}."
# Of the last eight no training tells.
NAMES = (
    *("Anna", "Peter", "Mary", "Tom", "Kate", "Paul", "Sophia", "George", "Alice", "Henry", "Emma", "Charles"),
    *("Laura", "Simon", "Julia", "Martin", "Rose", "Andrew", "Agnes", "Philip", "Ellen", "Robert", "Sarah", "David"),
    *("Maria", "Joseph", "Amelia", "William", "Lucy", "James", "Margaret", "John"),
)
UNSEEN = 8
WORDS = (1150, 1500)  # of a document: some 1,600 to 2,200 tokens
ROWS = {"train_file": 240, "validation_file": 24, "test_file": 128}
FURTHER = {"4,096": (2600, 2700), "8,192": (5400, 5600), "16,384": (10_800, 11_200)}  # words of longer documents
FURTHER_ROWS = 24
LENGTHS = {"whole documents": 3584, "their first 1,024 tokens": SHORT}


def unwrapped(file: str) -> str:
    """A book with every paragraph in one line."""
    text = Path(file).read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    return LINE_BREAK.sub(" ", text)


@torch.no_grad()
def make_initial(folder: Path) -> None:
    """A BART whose encoder is the small RoBERTa, and whose decoder is its upper layers with new attention between."""
    source = RobertaModel.from_pretrained(CARDS / SHORT_NAME, dtype=torch.float32, add_pooling_layer=False)
    sizes = source.config
    torch.manual_seed(0)
    layers = {"encoder_layers": sizes.num_hidden_layers, "decoder_layers": DECODER_LAYERS}
    widths = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), sizes.intermediate_size)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), sizes.num_attention_heads)
    fields: dict[str, Any] = {"d_model": sizes.hidden_size, "vocab_size": sizes.vocab_size, "dropout": 0.0}
    fields |= {"max_position_embeddings": SHORT, "forced_eos_token_id": None, **layers, **widths, **heads}
    bart = BartForConditionalGeneration(BartConfig(**fields)).eval()
    words, positions = source.embeddings.word_embeddings.weight, source.embeddings.position_embeddings.weight
    bart.model.shared.weight.copy_(words)
    of_one_text = positions[2:].repeat(2, 1) + source.embeddings.token_type_embeddings.weight
    for half in (bart.model.encoder, bart.model.decoder):
        half.embed_positions.weight[2:] = of_one_text
        half.layernorm_embedding.load_state_dict(source.embeddings.LayerNorm.state_dict())
        for layer, taken in zip(half.layers, source.encoder.layer[-len(half.layers) :], strict=True):
            _take_layer(layer, taken)
    folder.mkdir(parents=True)
    bart.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(CARDS / SHORT_NAME)
    tokenizer.model_max_length = SHORT
    tokenizer.save_pretrained(folder)
    ids = torch.randint(5, sizes.vocab_size, (2, 500), generator=torch.Generator().manual_seed(0))
    ours, theirs = bart.model.encoder(ids).last_hidden_state, source.eval()(ids).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def _take_layer(layer: Any, taken: Any) -> None:
    attention, names = taken.attention, {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
    for name, theirs in names.items():
        getattr(layer.self_attn, name).load_state_dict(getattr(attention.self, theirs).state_dict())
    layer.self_attn.out_proj.load_state_dict(attention.output.dense.state_dict())
    layer.self_attn_layer_norm.load_state_dict(attention.output.LayerNorm.state_dict())
    layer.fc1.load_state_dict(taken.intermediate.dense.state_dict())
    layer.fc2.load_state_dict(taken.output.dense.state_dict())
    layer.final_layer_norm.load_state_dict(taken.output.LayerNorm.state_dict())


def noised(ids: Sequence[int], ends: frozenset[int], mask: int, generator: np.random.Generator) -> list[int]:
    """A text as BART's denoising shows it: sentences in another order, and spans as one mask each, whatever their
    number of tokens, which may be none (arXiv 1910.13461, § 2.2).

    Args:
        ids: Tokens without special ones.
        ends: Tokens that end a sentence.
        mask: The mask's.
        generator: Of random numbers.
    """
    bounds = [place + 1 for place, token in enumerate(ids) if token in ends]
    sentences = [part for part in np.split(np.asarray(ids), bounds) if len(part)]
    shown = np.concatenate([sentences[place] for place in generator.permutation(len(sentences))]).tolist()
    left = round(MASKED * len(shown))
    while left > 0:
        size = min(int(generator.poisson(SPAN)), left)
        start = int(generator.integers(0, len(shown) - size + 1))
        shown[start : start + size] = [mask]
        left -= max(size, 1)
    return shown


class Denoising(torch.utils.data.Dataset):
    """Pieces of books and what is shown of them, other spans every time.

    Args:
        tokenizer: Of the model.
        ids: Tokens of all books.
        length: Tokens of a piece, special ones included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ids: np.ndarray, length: int) -> None:
        self.tokenizer, self.ids, self.own = tokenizer, ids, length - 2
        vocabulary = tokenizer.get_vocab()
        self.ends = frozenset(vocabulary[end] for end in ".!?")
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.ids) // self.own

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        ids = self.ids[place * self.own : (place + 1) * self.own].tolist()
        first, last = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        shown = noised(ids, self.ends, self.tokenizer.mask_token_id, self.generator)[: self.own]
        return {"input_ids": [first, *shown, last], "labels": [first, *ids, last]}


def _collate(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    batch = tokenizer.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt")
    return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}


def denoise(place: Path, files: list[str]) -> dict[str, Any]:
    """Trains the BART; steps, last losses and seconds of the phases."""
    trained, found = place / "initial", {}
    if not (trained / "config.json").exists():
        shutil.rmtree(trained, ignore_errors=True)
        make_initial(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    ids = np.concatenate([tokenizer(unwrapped(file), add_special_tokens=False)["input_ids"] for file in files])
    for phase, (length, batch, steps, warmup) in PHASES.items():
        folder = place / (NAME if phase == list(PHASES)[-1] else phase)
        done = folder / "phase.json"
        if not done.exists():
            set_seed(0)
            options: dict[str, Any] = {"max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": RATE}
            options |= {"warmup_steps": warmup, "weight_decay": 0.01, "adam_beta2": 0.98, "label_smoothing_factor": 0.0}
            options |= {"logging_steps": 20, "save_steps": 100, "save_total_limit": 1, "report_to": "none"}
            trainer = Seq2SeqTrainer(
                BartForConditionalGeneration.from_pretrained(trained),
                Seq2SeqTrainingArguments(str(folder), seed=0, **options),
                train_dataset=Denoising(tokenizer, ids, length),
                data_collator=lambda rows: _collate(tokenizer, rows),
            )
            began = time.perf_counter()
            checkpoint = get_last_checkpoint(str(folder)) if folder.exists() else None
            trainer.train(resume_from_checkpoint=checkpoint)
            losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
            trainer.save_model()
            tokenizer.save_pretrained(folder)
            said = {"length": length, "batch": batch, "steps": steps, "nats_per_token": statistics.mean(losses[-3:])}
            write_json(done, {**said, "seconds": time.perf_counter() - began})
            for one in folder.glob("checkpoint-*"):
                shutil.rmtree(one)
        found[phase] = json.loads(done.read_text(encoding="utf-8"))
        trained = folder
    return found


def write_names(file: Path, paragraphs: list[str], rows: int, words: tuple[int, int], names: Sequence[str]) -> None:
    """Documents of successive paragraphs, one of which has a sentence with a name, behind the first 1,024 tokens.

    Args:
        file: The JSON lines to write: `text`, and `summary`, which is the sentence.
        paragraphs: Of the books.
        rows: Documents.
        words: The fewest and the most of a document.
        names: They take turns.
    """
    choose = random.Random(file.stem)
    with file.open("w", encoding="utf-8") as lines:
        for number in range(rows):
            start, size = choose.randrange(len(paragraphs)), choose.randint(*words)
            taken: list[str] = []
            while (count := sum(map(len, taken))) < size:
                taken.append(paragraphs[start % len(paragraphs)].split()[: size - count])
                start += 1
            text = [word for paragraph in taken for word in paragraph]
            sentence = SAID.format(names[number % len(names)])
            place = choose.randint(SHORT, size)  # a word is a token or more
            text[place:place] = sentence.split()
            lines.write(json.dumps({"text": " ".join(text), "summary": sentence}) + "\n")


def accuracy(found: Path, asked: Path, names: Sequence[str] = NAMES) -> float:
    """How many of the sentences with these names are right, in per cent."""
    lines = [json.loads(line) for line in found.read_text(encoding="utf-8").splitlines()]
    gold = [json.loads(line)["summary"] for line in asked.read_text(encoding="utf-8").splitlines()]
    right = [
        line["summary"].strip() == one for line, one in zip(lines, gold, strict=True) if any(n in one for n in names)
    ]
    return 100 * statistics.mean(right)


def write_all(place: Path, texts: dict[str, list[str]]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The documents of training, validation and test, and those that are longer than any of the training."""
    books_of = {"train_file": "train_files", "validation_file": "validation_files", "test_file": "test_files"}
    paragraphs = {
        split: [one for file in texts[names] for one in unwrapped(file).split("\n") if one.strip()]
        for split, names in books_of.items()
    }
    files = {split: place / f"{split}.jsonl" for split in ROWS}
    for split, file in files.items():
        names = NAMES if split == "test_file" else NAMES[:-UNSEEN]
        write_names(file, paragraphs[split], ROWS[split], WORDS, names)
    further = {length: place / f"names-{length.replace(',', '')}.jsonl" for length in FURTHER}
    for length, file in further.items():
        write_names(file, paragraphs["test_file"], FURTHER_ROWS, FURTHER[length], NAMES[:-UNSEEN])
    return files, further


def measure(place: Path, texts: dict[str, list[str]], seeds: Sequence[int], processes: int) -> list[dict[str, Any]]:
    """A row per seed and tokens that are read, of test documents and of longer ones."""
    files, further = write_all(place, texts)
    keys = [(seed, name) for seed in seeds for name in LENGTHS]
    runs = [
        Run(
            run_summarization.__name__,
            RECIPE,
            place / f"names-{LENGTHS[name]}-{seed}",
            {**files, "model_name_or_path": place / LONG_NAME, "max_seq_length": LENGTHS[name], "seed": seed},
        )
        for seed, name in keys
    ]
    rows = []
    for (seed, name), run, found in zip(keys, runs, run_all(runs, processes), strict=True):
        said = run.folder / "test.jsonl"
        row: dict[str, Any] = {"reads": name, "seed": seed, **kept(found)}
        asked = {"test": (files["test_file"], said, LENGTHS[name])}
        if LENGTHS[name] > SHORT:
            asked |= {length: (file, run.folder / file.name, LONG) for length, file in further.items()}
        for which, (file, output, length) in asked.items():
            predict("summarization", str(run.folder), str(file), output, max_seq_length=length, overwrite=True)
            row[which] = accuracy(output, file, NAMES[:-UNSEEN])
        row["unseen names"] = accuracy(said, files["test_file"], NAMES[-UNSEEN:])
        rows.append(row)
    return rows


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's table by its name: mean, standard deviation and every seed."""
    columns = {"test": "names of the training", "unseen names": "names of no training"}
    columns |= {length: f"documents of {length} tokens, names of the training" for length in FURTHER}
    lines = [f"| reads | {' | '.join(columns.values())} |", "|---|" + "---|" * len(columns)]
    for name in LENGTHS:
        rows = [row for row in results["rows"] if row["reads"] == name]
        cells = []
        for column in columns:
            scores = [row[column] for row in rows if column in row]
            mean, deviation, every = (cell.strip() for cell in spread(scores).split("|")) if scores else ("",) * 3
            cells.append(f"{mean} ± {deviation} ({every})" if scores else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return {"tiny bart": "\n".join(lines)}


def main() -> None:
    """Trains, converts, measures and writes."""
    given = read_arguments(main.__doc__, "--books", BOOKS_HELP)
    known = read_known(RESULTS, given.anew)
    texts = books(given.books)
    results: dict[str, Any] = {**machine(), "denoising": denoise(given.place, texts["train_files"])}
    long = given.place / LONG_NAME
    if not long.exists():
        convert(given.place / NAME, long, max_length=LONG, attention_window=512)
    rows = {(row["reads"], row["seed"]): row for row in known.get("rows", [])}
    rows |= {(row["reads"], row["seed"]): row for row in measure(given.place, texts, given.seeds, given.processes)}
    results["rows"] = [rows[key] for key in sorted(rows)]
    write_json(RESULTS, results)
    README.write_text(put_parts(README.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
