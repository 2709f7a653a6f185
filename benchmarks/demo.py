# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer demo`: the small model that comes with the package becomes a long one, learns to fill masks from far
away, and is measured beside others.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from hf_longformer.conversion import InputError
from hf_longformer.model_cards import embedded_model

from .demo_minilm import run_minilm
from .demo_names import logits_of_last_mask, name_words, row_of_text, story_paragraphs, train_on_masks
from .demo_parts import MAX_LENGTH, SOURCE_LENGTH, compare_with_peers, convert_and_show, draw_and_say_goodbye

NAME = "roberta-tiny-en"
NAMES = ("Peter", "George", "Henry", "Richard", "Joseph", "William", "James", "Martin", "Green", "King")
STEPS, BATCH = 40, 4


def run_demo(source: str, output: Path, echo: Callable[[str], Any]) -> None:
    """Runs a demonstration.

    Args:
        source: `"tiny"`, a model that comes with the package, or `"minilm"`, one of the package index.
        output: The folder for converted models and pictures; made if it is not there.
        echo: Called with every line of text to show.

    Raises:
        InputError: If the source is another, or its encoder is not installed.
    """
    demos = {"tiny": _run_tiny, "minilm": run_minilm}
    if source not in demos:
        raise InputError(f"--source must be one of {', '.join(demos)}, got {source}")
    output.mkdir(parents=True, exist_ok=True)
    demos[source](output, echo)


def _run_tiny(output: Path, echo: Callable[[str], Any]) -> None:
    source, checkpoint, story = embedded_model(NAME), output / f"{NAME}-{MAX_LENGTH}", output / "story.txt"
    story.write_text(_story("Martin", "Martin"), encoding="utf-8")
    echo(f"1. Convert {NAME}, a RoBERTa for {SOURCE_LENGTH} tokens, trained on novels, to {MAX_LENGTH:,}\n")
    report = convert_and_show(source, checkpoint, echo, eval_text=story)
    echo(f"\n   Masked words of a story of {report['bits'][0]['characters']:,} characters, before any training:")
    for row in report["bits"]:
        echo(f"   {row['model']:6s} at {row['tokens']:5,} tokens: {row['bits_per_character']:.3f} bits per character")

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokens = len(tokenizer(_story(NAMES[0], tokenizer.mask_token))["input_ids"])
    echo(
        f"\n2. Fill a mask from far away: a story of {tokens:,} tokens has a name in its beginning, and asks for it in"
    )
    echo(f"   its end. {STEPS} steps of training with other names, the masks global, then these, which are new:\n")
    _fill_masks(checkpoint, output, tokenizer, echo)
    echo(f"   what the last mask attends to: {output / 'mask-attention.png'}")

    echo(f"\n3. Time and memory at {MAX_LENGTH:,} tokens, batch 1, float32, beside the same weights in other models\n")
    compare_with_peers(source, checkpoint, MAX_LENGTH, echo)
    draw_and_say_goodbye(4, checkpoint, echo)


def _story(name: str, mask: str, generator: random.Random | None = None) -> str:
    """The story with a name and masks; with a generator, what stands between them in another order."""
    first, *middle, last = story_paragraphs()
    if generator is not None:
        generator.shuffle(middle)
    return "\n\n".join([first, *middle, last]).format(name=name, mask=mask)


def _fill_masks(checkpoint: Path, output: Path, tokenizer: Any, echo: Callable[[str], Any]) -> None:
    """Trains twice, on whole stories and on their ends, and asks both models for names."""
    lengths = {"the whole story": MAX_LENGTH, f"the last {SOURCE_LENGTH} tokens": SOURCE_LENGTH}
    answers = {}
    for view, length in lengths.items():
        folder = output / f"names-{length}"
        model = _train_on_names(checkpoint, folder, tokenizer, length)
        answers[view] = [_guess(model, tokenizer, name, length) for name in NAMES]
        if length == MAX_LENGTH:
            _draw_attention(model, tokenizer, output / "mask-attention.png")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    echo(f"   {'':12s}" + "".join(f"   reading {view:24s}" for view in answers).rstrip())
    for number, name in enumerate(NAMES):
        guesses = [found[number] for found in answers.values()]
        cells = "".join(f"   {'✓' if guess == name else '✗'} {guess:30s}" for guess in guesses)
        echo(f"   Mr. {name:8s}{cells}".rstrip())
    counts = [sum(map(str.__eq__, found, NAMES)) for found in answers.values()]
    echo(f"   {'right':12s}" + "".join(f"   {f'{count} of {len(NAMES)}':32s}" for count in counts).rstrip())


def _train_on_names(checkpoint: Path, folder: Path, tokenizer: Any, length: int) -> PreTrainedModel:
    """A model that has seen stories with capitalised words that are none of the names."""
    generator = random.Random(0)  # noqa: S311 - stories are no secrets
    words = [word for word in name_words(tokenizer) if word not in NAMES]
    generator.shuffle(words)
    rows = [_row(tokenizer, word, length, generator) for word in words[: STEPS * BATCH]]
    return train_on_masks(checkpoint, folder, rows, 0, steps=STEPS)


def _row(tokenizer: Any, name: str, length: int, generator: random.Random | None = None) -> dict[str, torch.Tensor]:
    ids = tokenizer(_story(name, tokenizer.mask_token, generator), return_tensors="pt")["input_ids"][0]
    return row_of_text(tokenizer, ids, name, length)


def _guess(model: PreTrainedModel, tokenizer: Any, name: str, length: int) -> str:
    """The most likely of the names at the last mask."""
    logits = logits_of_last_mask(model, _row(tokenizer, name, length))
    return max(NAMES, key=lambda one: float(logits[tokenizer.convert_tokens_to_ids(f"Ġ{one}")]))


@torch.inference_mode()
def _draw_attention(model: PreTrainedModel, tokenizer: Any, file: Path) -> None:
    """Draws how much the last mask attends to every token of a story, mean over heads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    name = NAMES[-1]
    inputs = {key: tensor[None] for key, tensor in _row(tokenizer, name, MAX_LENGTH).items() if key != "labels"}
    layers = model(**inputs, output_attentions=True).global_attentions  # (1, heads, S, masks) each
    ids = inputs["input_ids"][0]
    named = (ids == tokenizer.convert_tokens_to_ids(f"Ġ{name}")).nonzero()[:, 0].tolist()
    figure = Figure(figsize=(8, 1.4 * len(layers) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(layers), sharex=True)
    for number, (axes, weights) in enumerate(zip(panels, layers, strict=True), 1):
        axes.vlines(range(len(ids)), 0, weights[0, :, :, -1].mean(dim=0).tolist(), linewidth=1)
        axes.plot(named, [0.0] * len(named), "^", color="tab:red", clip_on=False, label=f"“{name}”")
        axes.set_ylabel(f"layer {number}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, loc="upper center")
    panels[0].set_title("What the last mask of the story attends to, mean over heads")
    panels[-1].set_xlabel("token")
    figure.savefig(file, dpi=120)
