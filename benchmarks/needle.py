# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench needle`: from how far away a name is found in real text, by a model that was trained with short
texts, and how much of the attention of a global mask is on it.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, PreTrainedModel

from hf_longformer import HfLongformerConfig
from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import first_line
from hf_longformer.conversion.files import new_folder, read_json, write_json
from hf_longformer.conversion.source import load_converted_config, load_tokenizer
from hf_longformer.model_cards import embedded_model

from .demo_names import train_on_masks
from .kept_results import check_no_repeats, read_results, write_results
from .measure import machine
from .needle_texts import NeedleText, NeedleTexts, read_fillers

SOURCE = "longformer-tiny-en-4096"
LENGTHS, DEPTHS, SEEDS = (4096, 16_384, 65_536, 262_144, 1_048_576), (0, 25, 50, 75, 100), (0, 1, 2)
TOKENS_PER_CELL, MOST_TEXTS = 2**18, 10
SHORT = 512  # tokens of a text that is cut
REMEMBERED = ("source", "books", "training", "processor", "threads", "versions")  # of one file of results
CELL: dict[str, type] = {"reader": str, "length": int, "depth": int, "seed": int, "texts": int, "right": int}


class Training(NamedTuple):
    """A short training, every text seen once.

    Args:
        lengths: Tokens of the texts at least, which take turns.
        steps: Of the optimizer.
        batch: Texts per step.
        is_global: Whether the mask is global.
        longest: Texts are up to so many times as long, at random: otherwise questions stand at few position rows.
    """

    lengths: tuple[int, ...]
    steps: int
    batch: int
    is_global: bool
    longest: float = 1.25


class Reader(NamedTuple):
    """Who is asked: whose training, whether the mask is global, and the tokens at the end that are read."""

    training: str
    is_global: bool
    last: int | None = None


@dataclass(frozen=True)
class Cell:
    """Texts of one length with the name at one depth, in per cent, and the seed of training and texts."""

    reader: str
    length: int
    depth: int
    seed: int

    @property
    def texts(self) -> int:
        """Fewer of longer ones."""
        return max(1, min(MOST_TEXTS, TOKENS_PER_CELL // self.length))


TRAININGS = {
    "global": Training((*[128] * 12, 512, 512, 1024, 2048), 100, 16, True),
    "windows": Training((128,), 100, 16, False),
}
READERS = {
    "mask global": Reader("global", True),
    "windows alone": Reader("windows", False),
    f"last {SHORT} tokens": Reader("global", True, SHORT),
}
OPTIONS: dict[str, Any] = {"repeat_positions": True, "global_scaling_length": 2048}


def run_needle(
    output: Path,
    *,
    lengths: Sequence[int] = LENGTHS,
    depths: Sequence[int] = DEPTHS,
    seeds: Sequence[int] = SEEDS,
    books: Path | None = None,
    checkpoint: Path | None = None,
    anew: bool = False,
    trainings: dict[str, Training] = TRAININGS,
) -> dict[str, Any]:
    """Trains, asks, and writes every cell into a file of results as soon as it is there.

    Args:
        output: The JSON file. What it holds already is kept. Models go to a folder beside it, `NAME-models`.
        lengths: Tokens of the texts.
        depths: Where the name is said, in per cent of the text.
        seeds: Of training and texts.
        books: A folder with novels; a story that comes with the package, again and again, if None.
        checkpoint: A masked language model of this package, which is asked as it is; without it the small model that
            comes with the repository is trained.
        anew: Whether to train and measure again what is there.
        trainings: How.

    Returns:
        What the file then holds.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written, or it has other settings.
    """
    _check(lengths, depths, seeds)
    folder = _embedded() if checkpoint is None else checkpoint
    if checkpoint is not None:
        _check_checkpoint(checkpoint, max(lengths))
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        raise InputError(f"--checkpoint must have a tokenizer, got none in {folder}")
    to_train, to_ask = read_fillers(tokenizer, books)
    texts = {True: NeedleTexts(tokenizer, to_ask, asked=True), False: NeedleTexts(tokenizer, to_train, asked=False)}
    for length in lengths:
        texts[True].check(length)
    facts: dict[str, Any] = {**machine(), "source": folder.name if checkpoint is None else str(checkpoint)}
    facts["books"] = {"trained with": list(to_train.books), "asked in": list(to_ask.books)}
    facts["training"] = None if checkpoint else {name: one._asdict() for name, one in trainings.items()} | OPTIONS
    facts = json.loads(json.dumps(facts))
    results = read_results(output, facts, REMEMBERED, _is_cell, anew)
    cells = [Cell(*one) for one in product(READERS, sorted(lengths), sorted(depths), seeds)]
    missing = sorted(
        (cell for cell in cells if find(results, cell) is None),
        key=lambda cell: (cell.length, cell.seed, READERS[cell.reader].training),
    )
    models = output.with_name(f"{output.stem}-models")
    folders = {
        (name, seed): folder if checkpoint else _trained(models, name, seed, folder, texts[False], facts, anew)
        for seed in seeds
        for name in trainings
        if any((READERS[cell.reader].training, cell.seed) == (name, seed) for cell in missing)
    }
    for cell, entry in _measured(missing, folders, texts[True]):
        results["cells"].append({**asdict(cell), **entry, "date": facts["date"]})
        write_results(output, results)
    return results


def _embedded() -> Path:
    try:
        return embedded_model(SOURCE)
    except ValueError as error:
        raise InputError(f"{error}; or say --checkpoint") from error


def _check(lengths: Sequence[int], depths: Sequence[int], seeds: Sequence[int]) -> None:
    if any(not 0 <= depth <= 100 for depth in depths):
        raise InputError(
            f"--depths must be whole numbers from 0 to 100, in per cent, got {', '.join(map(str, depths))}"
        )
    check_no_repeats(lengths=lengths, depths=depths, seeds=seeds)


def _check_checkpoint(folder: Path, longest: int) -> None:
    """Refuses what cannot be asked: no masked language model of this package, or one that cannot read so much."""
    config: Any = load_converted_config(folder)
    if config.architectures != ["HfLongformerForMaskedLM"]:
        raise InputError(
            "--checkpoint must be a masked language model of this package (HfLongformerForMaskedLM), "
            f"got {', '.join(config.architectures)} in {folder}"
        )
    if longest > config.max_length_tokens:
        raise InputError(
            f"--lengths must be at most {config.max_length_tokens:,}, which {folder} reads, got {longest:,}: "
            "`hf-longformer convert CHECKPOINT OUTPUT --max-length unlimited` makes it read any"
        )


def _is_cell(entry: Any) -> bool:
    if not isinstance(entry, dict) or not all(type(entry.get(name)) is kind for name, kind in CELL.items()):
        return False
    shares = entry.get("attention")
    are_lists = isinstance(shares, list) and len(shares) == entry["texts"] and isinstance(entry.get("answers"), list)
    return entry["reader"] in READERS and are_lists and 0 <= entry["right"] <= entry["texts"] == len(entry["answers"])


def find(results: dict[str, Any], cell: Cell) -> dict[str, Any] | None:
    """The entry of a cell."""
    facts = asdict(cell)
    return next((entry for entry in results["cells"] if facts.items() <= entry.items()), None)


def _trained(
    models: Path, name: str, seed: int, source: Path, texts: NeedleTexts, facts: dict[str, Any], anew: bool
) -> Path:
    """The folder of a trained model, which is trained unless it is there."""
    folder = models / f"{name}-{seed}"
    wanted = {key: facts[key] for key in REMEMBERED}
    if folder.exists() and not anew:
        if read_json(folder / "training.json") != wanted:
            raise InputError(f"{folder} was trained otherwise or elsewhere: choose another --output, or --anew")
        return folder
    models.mkdir(exist_ok=True)
    training = TRAININGS[name]._replace(**facts["training"][name])
    generator = random.Random(f"{name} {seed}")  # noqa: S311 - texts are no secrets
    rows = []
    for number in range(training.steps * training.batch):
        shortest = training.lengths[number % len(training.lengths)]
        length = generator.randint(shortest, int(shortest * training.longest))
        rows.append(texts.make(length, None, generator).row(is_global=training.is_global))
    with new_folder(folder) as new:
        model = train_on_masks(
            source, new, rows, seed, steps=training.steps, progress=f"training, seed {seed}", **OPTIONS
        )
        model.save_pretrained(new)
        texts.tokenizer.save_pretrained(new)
        write_json(new / "training.json", wanted)
    return folder


def _measured(cells: Sequence[Cell], folders: dict[tuple[str, int], Path], texts: NeedleTexts) -> Any:
    """Cells and what was found, one by one, with a bar on standard error that counts tokens."""
    from tqdm import tqdm

    loaded: tuple[Any, Any] = None, None
    total = sum(cell.length * cell.texts for cell in cells)
    with tqdm(total=total, file=sys.stderr, unit="token", unit_scale=True, leave=False) as bar:
        for cell in cells:
            bar.set_description_str(f"{cell.length:,} tokens, {cell.reader}, seed {cell.seed}")
            key = READERS[cell.reader].training, cell.seed
            if loaded[0] != key:
                loaded = key, _load(folders[key])
            yield cell, measure_cell(loaded[1], texts, cell, bar.update)


def _load(folder: Path) -> PreTrainedModel:
    try:
        return AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"the model in {folder} cannot be loaded: {first_line(error)}") from error


def measure_cell(
    model: PreTrainedModel, texts: NeedleTexts, cell: Cell, progress: Callable[[int], Any] = lambda _: None
) -> dict[str, Any]:
    """Asks a model for the names of a cell's texts, which are the same for every reader.

    Args:
        model: A masked language model.
        texts: That make them.
        cell: Which.
        progress: Called with the tokens of every text.

    Returns:
        `texts` and `right`, numbers; `answers`, a pair of the name and the likeliest of the names for every text;
        `replaced`, how often names stood in the texts by themselves; `seconds`; and `attention`, for every text and
        layer what `NeedleAttention` says, None where it is not global or the name is not read.
    """
    generator = random.Random(f"{cell.length} {cell.depth} {cell.seed}")  # noqa: S311 - texts are no secrets
    names = torch.tensor(texts.names)
    found: dict[str, Any] = {"texts": cell.texts, "right": 0, "answers": [], "attention": [], "replaced": 0}
    began = time.perf_counter()
    for _ in range(cell.texts):
        text = texts.make(cell.length, cell.depth / 100, generator)
        logits, attention = ask(model, text, READERS[cell.reader])
        answer = int(names[logits[names].argmax()])
        found["right"] += answer == text.name
        found["replaced"] += text.replaced
        found["answers"].append(texts.tokenizer.convert_ids_to_tokens([text.name, answer]))
        found["attention"].append(attention)
        progress(cell.length)
    return {**found, "seconds": round(time.perf_counter() - began, 2)}


@torch.inference_mode()
def ask(model: PreTrainedModel, text: NeedleText, reader: Reader) -> tuple[torch.Tensor, list[dict[str, float]] | None]:
    """Logits of the mask, `(vocab_size,)`, and what a global mask attends to, layer by layer.

    Windows alone see the end of a text: only what they can see is read, at its own positions, which gives the same.
    """
    row = text.row(is_global=reader.is_global, last=reader.last)
    del row["labels"]
    mask_at = text.mask_at - (len(text.ids) - len(row["input_ids"]))
    name_at = text.name_at - (len(text.ids) - len(row["input_ids"]))  # below 1 where it was cut off
    config: Any = model.config
    begin = 0 if reader.is_global else max(0, mask_at - reach(config))
    row = {key: tensor[None, begin:] for key, tensor in row.items()}
    positions = torch.arange(config.first_position + begin, config.first_position + begin + row["input_ids"].shape[1])
    if not reader.is_global:
        return _states_of(model, row | {"position_ids": positions[None]}, mask_at - begin), None
    if name_at < 1:
        return _states_of(model, row, mask_at), None
    with NeedleAttention(model, mask_at, name_at) as attention:
        return _states_of(model, row, mask_at), attention.layers


def _states_of(model: Any, inputs: dict[str, torch.Tensor], place: int) -> torch.Tensor:
    """Logits `(vocab_size,)` of one token: where a text is read, whatever its length."""
    states = model.base_model(**inputs).last_hidden_state
    return model.lm_head(states[:, place])[0]


def reach(config: HfLongformerConfig) -> int:
    """Tokens before a token that it can know of through the windows of all layers."""
    widest = [one if isinstance(one, int) else max(one) for one in config.attention_dilations]
    return sum(window // 2 * dilation for window, dilation in zip(config.attention_windows, widest, strict=True))


class NeedleAttention:
    """While it is entered, notes of every layer what the global mask attends to: of the head that attends to the name
    most, `share`, the attention weight of the name, and `margin`, its score minus the log-sum-exp of all others.

    Args:
        model: A masked language model, which reads one text.
        mask_at, name_at: Where mask and name stand.
    """

    def __init__(self, model: Any, mask_at: int, name_at: int) -> None:
        self.model, self.mask_at, self.name_at = model, mask_at, name_at
        self.layers: list[dict[str, float]] = []
        self.hooks: list[Any] = []

    def __enter__(self) -> "NeedleAttention":
        for layer in self.model.base_model.encoder.layer:
            self.hooks.append(layer.attention.self.register_forward_pre_hook(self._note, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _note(self, module: Any, arguments: tuple, keywords: dict[str, Any]) -> None:
        states = (arguments[0] if arguments else keywords["hidden_states"])[0]
        projections = module.global_projections
        (query_weight, query_bias), (key_weight, _), _ = projections.weights()
        query = torch.nn.functional.linear(states[self.mask_at], query_weight, query_bias)
        factor = projections.factor(states[None], None)
        query = query.unflatten(0, (-1, module.head_dim)) * module.head_dim**-0.5
        query = query if factor is None else query * factor.flatten()
        of_states = torch.bmm(query[:, None], key_weight.unflatten(0, (-1, module.head_dim)))[:, 0]
        scores = of_states @ states.T  # (heads, S), but for what all keys have in common
        name = scores[:, self.name_at].clone()
        scores[:, self.name_at] = float("-inf")
        margins = name - scores.logsumexp(dim=1)
        margin = float(margins.max())
        self.layers.append({"share": float(torch.tensor(margin).sigmoid()), "margin": margin})
