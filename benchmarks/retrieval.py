# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench retrieval`: whether one vector of a long text finds it, beside vectors of its chunks."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_longformer.conversion import InputError, convert
from hf_longformer.conversion.errors import first_line
from hf_longformer.conversion.files import read_json
from hf_longformer.finetune.prediction import token_batches

from .kept_results import check_no_repeats, read_results, write_results
from .measure import machine
from .retrieval_tasks import GENERATED, QUESTIONS, Retrieval, make, read_haystack, read_questions

LENGTHS, SEEDS = (512, 1024, 2048, 4096, 8192, 16_384, 32_768), (0,)
FIRST, MEAN, BEST = "first chunk", "mean of chunks", "best chunk"  # of the source
WHOLE, LATE = "one vector", "late chunks"  # of a long encoder
OF_SOURCE, OF_LONG = (FIRST, MEAN, BEST), (WHOLE, LATE)
SOURCE, CONVERTED = "source", "converted"
MOST_QUESTIONS = 1000
TOKENS_PER_BATCH = 4096
REMEMBERED = ("source", "checkpoints", "books", "questions", "distractors", "processor", "threads", "versions")
CELL: dict[str, type] = {
    "task": str, "length": int, "seed": int, "encoder": str, "way": str, "documents": int, "queries": int,
    "recall_at_1": float, "mrr": float, "vectors": int, "seconds_per_document": float, "cut": int,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One encoder on one task.

    Args:
        task: `"passkey"`, `"needle"` or `"questions"`.
        length: Tokens of the documents; 0 where they are what they are.
        seed: Of the texts.
        encoder: `"source"`, or the name of a long encoder.
    """

    task: str
    length: int
    seed: int
    encoder: str

    @property
    def ways(self) -> tuple[str, ...]:
        """How this encoder makes vectors."""
        return OF_SOURCE if self.encoder == SOURCE else OF_LONG


class Encoder:
    """Vectors by a sentence encoder, all of length 1.

    Args:
        model: A `SentenceTransformer` whose pooling is the mean.
        name: For messages.

    Raises:
        InputError: If its pooling is another one: chunks of token states are means.
    """

    def __init__(self, model: Any, name: str) -> None:
        pooling = [module for module in model if hasattr(module, "pooling_mode")]
        if len(pooling) != 1 or pooling[0].pooling_mode != "mean":
            modes = ", ".join(str(one.pooling_mode) for one in pooling) or "none"
            raise InputError(f"{name} must be a sentence encoder whose pooling is the mean, got {modes}")
        self.model, self.tokenizer = model.eval(), model.tokenizer
        around = self.tokenizer("")["input_ids"]  # special tokens of every text
        self.first, self.last = around[: len(around) // 2], around[len(around) // 2 :]
        self.around = len(around)

    @property
    def max_length(self) -> int:
        """Tokens, special ones included."""
        return int(self.model.max_seq_length)

    def tokens(self, text: str) -> list[int]:
        """Of a text, without special ones."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @torch.inference_mode()
    def of_tokens(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """`(rows, size)`, a vector for every row of tokens, which stand alone."""
        found: list[Any] = [None] * len(rows)
        for chosen in token_batches([len(row) + self.around for row in rows], TOKENS_PER_BATCH):
            vectors = self.model(self._inputs([rows[index] for index in chosen]))["sentence_embedding"]
            for index, vector in zip(chosen, vectors.float().numpy(), strict=True):
                found[index] = vector
        return _unit(np.stack(found))

    @torch.inference_mode()
    def of_document(self, tokens: Sequence[int], chunk: int) -> tuple[np.ndarray, np.ndarray]:
        """The vector `(1, size)` of a whole document, and `(chunks, size)`, means of so many of its token states each
        (late chunking, arXiv 2409.04701); the document is read once.
        """
        features = self.model[0](self._inputs([tokens]))
        body = features["token_embeddings"][0, len(self.first) :][: len(tokens)].float()
        for module in list(self.model)[1:]:
            features = module(features)
        chunks = [body[start : start + chunk] for start in range(0, len(tokens), chunk)]
        return _unit(features["sentence_embedding"].float().numpy()), _unit(
            np.stack([part.mean(dim=0).numpy() for part in chunks])
        )

    def _inputs(self, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        built = [[*self.first, *row, *self.last] for row in rows]
        return dict(self.tokenizer.pad({"input_ids": built}, return_tensors="pt"))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def load(folder: Path) -> Encoder:
    """A sentence encoder from a folder, of sentence-transformers, of Transformers (pooled by the mean), or exported.

    Raises:
        InputError: If it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    if not (folder / "config.json").is_file():
        raise InputError(f"an encoder must be a folder with a config.json, got {folder}")
    if (folder / "export_report.json").is_file():
        from hf_longformer.exporting.sentence_encoder import load_sentence_encoder

        return Encoder(
            load_sentence_encoder(str(folder), read_json(folder / "export_report.json")["format"]), str(folder)
        )
    settings = {"dtype": torch.float32, "use_safetensors": True}
    try:
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=settings)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{folder} cannot be used by sentence-transformers: {first_line(error)}") from error
    return Encoder(model, str(folder))


def run_retrieval(
    output: Path,
    *,
    lengths: Sequence[int] = LENGTHS,
    seeds: Sequence[int] = SEEDS,
    source: Path | None = None,
    checkpoints: Sequence[Path] = (),
    books: Path | None = None,
    questions: Sequence[Path] = (),
    distractors: Sequence[Path] = (),
    anew: bool = False,
) -> dict[str, Any]:
    """Asks, and writes what every encoder finds into a file of results as soon as it is there.

    Args:
        output: The JSON file. What it holds already is kept.
        lengths: Tokens of the documents of generated tasks.
        seeds: Of these documents.
        source: A short sentence encoder, whose chunks are measured; the demonstration's all-MiniLM-L6-v2 if None.
        checkpoints: Long sentence encoders, folders whose names tell them apart; if there are none the source,
            converted, in a folder beside the results.
        books: A folder with text to stand around needles; a story that comes with the package if None.
        questions: Files in SQuAD's form, whose contexts are documents, too.
        distractors: The same, whose questions are not asked.
        anew: Whether to measure again what is there.

    Returns:
        What the file then holds.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written, or it has other settings.
    """
    short = source or _demo_source()
    encoder = load(short)
    _check(lengths, seeds, checkpoints, encoder)
    encoders = {SOURCE: encoder, **{name: load(folder) for name, folder in _named(checkpoints).items()}}
    _check_limits(encoders, max(lengths))
    if distractors and not questions:
        raise InputError("--distractors are searched for the answers of --questions, got none of those")
    facts: dict[str, Any] = {**machine(), "source": short.name if source is None else str(source)}
    facts |= {"checkpoints": [str(one) for one in checkpoints], "books": books and str(books)}
    facts |= {"questions": [*map(str, questions)], "distractors": [*map(str, distractors)]}
    facts = json.loads(json.dumps(facts))
    results = read_results(output, facts, REMEMBERED, _is_cell, anew)
    if not checkpoints:
        encoders[CONVERTED] = load(_converted(short, output, max(lengths), bool(results["cells"])))
    tasks = [*product(GENERATED, sorted(lengths), seeds), *([(QUESTIONS, 0, 0)] if questions else [])]
    cells = [Cell(*task, name) for name, task in product(encoders, tasks)]
    haystack = read_haystack(books, encoder.tokenizer)
    about = read_questions(questions, MOST_QUESTIONS, distractors) if questions else None
    for cell in _with_bar([cell for cell in cells if not find(results, cell)]):
        made = about if cell.task == QUESTIONS else None
        texts = made or make(cell.task, cell.length, cell.seed, encoder.tokenizer, haystack)
        for way, entry in measure(encoders[cell.encoder], texts, encoder.max_length - encoder.around, cell).items():
            results["cells"].append({**asdict(cell), "way": way, **entry, "date": facts["date"]})
        write_results(output, results)
    return results


def _demo_source() -> Path:
    from .demo_minilm import find_source

    try:
        return find_source()
    except InputError as error:
        raise InputError(f"{error}; or say --source") from error


def _named(checkpoints: Sequence[Path]) -> dict[str, Path]:
    return {folder.resolve().name: folder for folder in checkpoints}


def _check(lengths: Sequence[int], seeds: Sequence[int], checkpoints: Sequence[Path], source: Encoder) -> None:
    check_no_repeats(lengths=lengths, seeds=seeds)
    if min(lengths) < 128:
        raise InputError(f"--lengths must be at least 128, in which a passkey has room, got {min(lengths)}")
    names = _named(checkpoints)
    if len(names) < len(checkpoints) or SOURCE in names:
        said = ", ".join(folder.resolve().name for folder in checkpoints)
        raise InputError(f"--checkpoint must be folders of different names, none of them {SOURCE!r}, got {said}")
    if source.max_length > max(lengths):
        raise InputError(
            f"--lengths must go beyond the {source.max_length:,} tokens of the source, got {max(lengths):,}"
        )


def _check_limits(encoders: dict[str, Encoder], longest: int) -> None:
    """Refuses long encoders that do not read so much."""
    for name, encoder in encoders.items():
        if name != SOURCE and encoder.max_length < longest:
            raise InputError(
                f"--lengths must be at most {encoder.max_length:,}, which {name} reads, got {longest:,}: "
                "`hf-longformer convert CHECKPOINT OUTPUT --max-length unlimited` makes it read any"
            )


def _converted(source: Path, output: Path, longest: int, goes_on: bool) -> Path:
    """The folder of the converted source, which is made unless results that were made with it go on."""
    folder = output.with_name(f"{output.stem}-models") / f"{CONVERTED}-{longest}"
    if not (goes_on and folder.exists()):
        folder.parent.mkdir(exist_ok=True)
        convert(source, folder, max_length=longest, overwrite=True)
    return folder


def _with_bar(cells: Sequence[Cell]) -> Iterator[Cell]:
    from tqdm import tqdm

    with tqdm(cells, file=sys.stderr, unit="task", leave=False) as bar:
        for cell in bar:
            bar.set_description_str(f"{cell.encoder}, {cell.task}, {cell.length or 'all'} tokens")
            yield cell


def measure(encoder: Encoder, texts: Retrieval, chunk: int, cell: Cell) -> dict[str, dict[str, Any]]:
    """What is found, by every way in which the encoder makes vectors.

    Args:
        encoder: The source, or a long encoder.
        texts: Documents and queries.
        chunk: Tokens of a chunk, without special ones.
        cell: Which ways are wanted.

    Returns:
        Of each way `documents`, `queries`, `recall_at_1` and `mrr` from 0 to 1, `vectors` of all documents,
        `seconds_per_document`, and `cut`, tokens that were not read.
    """
    rows = [encoder.tokens(text) for text in texts.documents]
    vectors: dict[str, list[np.ndarray]] = {way: [] for way in cell.ways}
    seconds = dict.fromkeys(cell.ways, 0.0)
    cut = dict.fromkeys(cell.ways, 0)
    for row in rows:
        began = time.perf_counter()
        if cell.encoder == SOURCE:
            parts = encoder.of_tokens([row[start : start + chunk] for start in range(0, len(row), chunk)])
            found = {FIRST: parts[:1], MEAN: _unit(parts.mean(axis=0, keepdims=True)), BEST: parts}
            cut[FIRST] += max(0, len(row) - chunk)
        else:
            kept = row[: encoder.max_length - encoder.around]
            whole, late = encoder.of_document(kept, chunk)
            found = {WHOLE: whole, LATE: late}
            cut = {way: count + len(row) - len(kept) for way, count in cut.items()}
        for way, part in found.items():
            vectors[way].append(part)
            share = 1 / len(parts) if way == FIRST else 1.0
            seconds[way] += (time.perf_counter() - began) * share
    queries = encoder.of_tokens([encoder.tokens(text) for text in texts.queries])
    return {
        way: {
            "documents": len(rows),
            "queries": len(texts.queries),
            **score(queries, vectors[way], texts.answers),
            "vectors": sum(len(part) for part in vectors[way]),
            "seconds_per_document": round(seconds[way] / len(rows), 4),
            "cut": cut[way],
        }
        for way in cell.ways
    }


def score(queries: np.ndarray, documents: Sequence[np.ndarray], answers: np.ndarray) -> dict[str, float]:
    """`recall_at_1` and `mrr`, the mean reciprocal rank, from 0 to 1. A document is as near as the nearest of its
    vectors; one that is as near as the right one stands before it.

    Args:
        queries: `(queries, size)`.
        documents: `(vectors, size)` each.
        answers: `(queries,)`, the right document of every query.
    """
    similarity = np.stack([(queries @ vectors.T).max(axis=1) for vectors in documents], axis=1)
    right = np.take_along_axis(similarity, answers[:, None], axis=1)
    ranks = (similarity >= right).sum(axis=1)
    return {"recall_at_1": float((ranks == 1).mean()), "mrr": float((1 / ranks).mean())}


def _is_cell(entry: Any) -> bool:
    return isinstance(entry, dict) and all(type(entry.get(name)) is kind for name, kind in CELL.items())


def find(results: dict[str, Any], cell: Cell) -> list[dict[str, Any]]:
    """The entries of a cell, one for every way."""
    facts = asdict(cell)
    return [entry for entry in results["cells"] if facts.items() <= entry.items()]
