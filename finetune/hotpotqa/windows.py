# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions with their paragraphs as rows of tokens and as batches, in the form of appendix D of the paper:
`[CLS] [q] question [/q] <t> title </t> sentence [s] sentence [s] … <t> title </t> …`.

What does not fit goes into further windows, each with the question and as many whole paragraphs as fit.
"""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from hf_longformer import HfLongformerForEvidenceQuestionAnswering
from hf_longformer.conversion import InputError

from ..markers import ids_of
from ..question_files import matches
from ..windows import CUT

MARKERS = "[q]", "[/q]", "<t>", "</t>", "[s]"
QUESTION_TYPES = HfLongformerForEvidenceQuestionAnswering.question_types
SMALLEST_PARAGRAPH = 8  # tokens that a question must leave room for
NOWHERE = (-1, -1, -1, -1)  # the place of a token that no answer begins or ends with


def cut_question(
    question: str,
    paragraphs: list[tuple[str, list[str]]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    question_length: int,
) -> list[dict[str, Any]]:
    """The windows of a question.

    Args:
        question: The question.
        paragraphs: Titles and sentences.
        tokenizer: Of the model, with the markers.
        length: Tokens at once.
        question_length: Tokens of the question; what is beyond is left out.

    Returns:
        Of every window `input_ids`; `places`, for every token the paragraph, the sentence (-1 in titles), and its
        characters there, the first and the one behind the last, or -1 four times for markers and white space;
        `paragraph_positions` and `sentence_positions`, where their markers stand; `paragraphs`, the numbers of its
        paragraphs, and `sentences`, pairs of paragraph and sentence; and `cut`, how many tokens of the question with
        all its paragraphs were left out: of a long question, and of paragraphs that are longer than a window.

    Raises:
        InputError: If a question leaves no room for paragraphs, or the tokenizer cannot say where tokens stand.
    """
    if not tokenizer.is_fast:
        raise InputError(f"answers need a tokenizer of the library tokenizers, got {type(tokenizer).__name__}")
    begins, ends, title_begins, title_ends, sentence_ends = ids_of(tokenizer, MARKERS)
    texts = [question.strip(), *(text for title, sentences in paragraphs for text in (title, *sentences))]
    # What stands in a text is text, also if it looks like a marker.
    encoded = tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    pieces = iter(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
    asked = next(pieces)[0]
    head = [tokenizer.cls_token_id, begins, *asked[:question_length], ends]
    room, cut = length - len(head), max(0, len(asked) - question_length)
    if room < SMALLEST_PARAGRAPH:
        raise InputError(
            f"a question must leave room for {SMALLEST_PARAGRAPH} tokens of paragraphs within {length}, got one of "
            f"{len(head)} tokens: shorten it, or read more tokens at once"
        )
    windows: list[dict[str, Any]] = []
    for number, (name, sentences) in enumerate(paragraphs):
        title, *rest = (next(pieces) for _ in range(1 + len(sentences)))
        kept, left_out = _fit(title, rest, room)
        cut += left_out
        size = sum(len(ids) + 1 for ids, _ in kept) + 1
        if not windows or len(windows[-1]["input_ids"]) + size > length:
            windows.append(_empty(head))
        window = windows[-1]
        window["paragraphs"].append(number)
        window["paragraph_positions"].append(len(window["input_ids"]))
        _put(window, [title_begins], [NOWHERE])
        for sentence, (ids, offsets) in enumerate(kept, -1):
            text = name if sentence < 0 else sentences[sentence]
            _put(window, ids, [_place((number, sentence), pair, text) for pair in offsets])
            if sentence >= 0:
                window["sentences"].append((number, sentence))
                window["sentence_positions"].append(len(window["input_ids"]))
            _put(window, [title_ends if sentence < 0 else sentence_ends], [NOWHERE])
    for window in windows:
        window[CUT] = cut
    return windows


def _empty(head: list[int]) -> dict[str, Any]:
    lists: dict[str, Any] = {
        name: [] for name in ("paragraphs", "sentences", "paragraph_positions", "sentence_positions")
    }
    return {"input_ids": list(head), "places": [NOWHERE] * len(head), **lists}


def _place(of_text: tuple[int, int], characters: tuple[int, int], text: str) -> tuple[int, ...]:
    """Where a token stands; nowhere if it is white space, as the space that a tokenizer puts in front of a text."""
    return (*of_text, *characters) if text[slice(*characters)].strip() else NOWHERE


def _put(window: dict[str, Any], ids: list[int], places: list[Any]) -> None:
    window["input_ids"] += ids
    window["places"] += places


def _fit(title: Any, sentences: list[Any], room: int) -> tuple[list[Any], int]:
    """Title and sentences of a paragraph that fit with their markers, the last one shortened if need be; and how many
    tokens are left out.
    """
    pieces = [title, *sentences]
    kept: list[Any] = []
    free = room - 1
    for number, (ids, offsets) in enumerate(pieces):
        least = 2 if number == 0 and sentences else 0  # a title leaves a token for its first sentence, and its marker
        most = free - 1 - least
        if most < min(1, len(ids)):
            break
        kept.append((ids[:most], offsets[:most]))
        free -= len(kept[-1][0]) + 1
    return kept, sum(len(ids) for ids, _ in pieces) - sum(len(ids) for ids, _ in kept)


def gold_of(
    windows: list[dict[str, Any]], row: dict[str, Any], supporting: set[tuple[int, int]]
) -> list[dict[str, Any]]:
    """What a model is to say of every window of a question.

    Gold spans are all places where the answer stands in supporting sentences, as whole words and whatever the letter
    case; if it stands in none of them, all places in titles and sentences.

    Args:
        windows: As `cut_question` gives them.
        row: The question, with `answer`, `titles` and `sentences`.
        supporting: Paragraph and sentence of its supporting facts.

    Returns:
        Of every window `labels`, the type of the question; `starts` and `ends`, tokens of gold spans; `sentence_labels`
        and `paragraph_labels`, 1 or 0 for every marker.
    """
    answer = row["answer"].strip()
    kind = QUESTION_TYPES.index(answer.lower()) if answer.lower() in ("yes", "no") else 0
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    if kind == 0:
        texts = {
            (paragraph, sentence): text
            for paragraph, (title, sentences) in enumerate(zip(row["titles"], row["sentences"], strict=True))
            for sentence, text in enumerate([title, *sentences], -1)
        }
        found = {place: matches(text, [answer]) for place, text in texts.items()}
        spans = {place: found[place] for place in supporting if found[place]} or found
    chosen = {paragraph for paragraph, _ in supporting}
    gold = []
    for window in windows:
        tokens = _tokens_of(window["places"], spans)
        gold.append(
            {
                "labels": kind,
                "starts": [first for first, _ in tokens],
                "ends": [last for _, last in tokens],
                "sentence_labels": [int(tuple(one) in supporting) for one in window["sentences"]],
                "paragraph_labels": [int(one in chosen) for one in window["paragraphs"]],
            }
        )
    return gold


def _tokens_of(places: list[Any], spans: dict[tuple[int, int], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """First and last token of every span of characters that stands in a window as a whole."""
    of_text: dict[tuple[int, int], list[int]] = {}
    for token, (paragraph, sentence, _, _) in enumerate(places):
        if spans.get((paragraph, sentence)):
            of_text.setdefault((paragraph, sentence), []).append(token)
    found = []
    for text, tokens in of_text.items():
        for start, end in spans[text]:
            inside = [token for token in tokens if places[token][3] > start and places[token][2] < end]
            if inside and places[inside[-1]][3] >= end:
                found.append((inside[0], inside[-1]))
    return found


class EvidenceCollator:
    """Makes a batch of windows, padded on the right whatever the tokenizer's side, which the model does not care about.

    Beside `input_ids` and `attention_mask` it has what the `forward` of `HfLongformerForEvidenceQuestionAnswering`
    says, the gold values only if the windows have them.

    Args:
        tokenizer: Of the model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch of windows as `cut_question` makes them."""
        in_context = [[int(place[0] >= 0) for place in one["places"]] for one in features]
        batch = {
            "input_ids": _padded([one["input_ids"] for one in features], self.pad),
            "attention_mask": _padded([[1] * len(one["input_ids"]) for one in features], 0),
            "context_mask": _padded(in_context, 0),
        }
        names = {"sentence_positions": -1, "paragraph_positions": -1}
        gold = {"starts": -1, "ends": -1, "sentence_labels": -100, "paragraph_labels": -100}
        if "labels" in features[0]:
            names |= gold
            batch["labels"] = torch.tensor([one["labels"] for one in features])
        called = {"starts": "start_positions", "ends": "end_positions"}
        return batch | {
            called.get(name, name): _padded([one[name] for one in features], value) for name, value in names.items()
        }


def _padded(rows: list[list[int]], value: int) -> torch.Tensor:
    """`(batch, longest)`, at least one column."""
    size = max(1, *map(len, rows))
    return torch.tensor([[*row, *[value] * (size - len(row))] for row in rows])
