# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`HfLongformerForEvidenceQuestionAnswering`: losses, global tokens by default, padding, saving, and refusals."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_config

from hf_longformer import HfLongformerForEvidenceQuestionAnswering
from hf_longformer.modeling_evidence_hf_longformer import evidence_losses

POSITIONS = {
    "sentence_positions": torch.tensor([[12, 20, 28], [15, 24, -1]]),
    "paragraph_positions": torch.tensor([[8, 21], [9, -1]]),
}
GOLD = {
    "start_positions": torch.tensor([[10, 14], [-1, -1]]),
    "end_positions": torch.tensor([[11, 14], [-1, -1]]),
    "labels": torch.tensor([0, 2]),
    "sentence_labels": torch.tensor([[1, 0, 1], [1, 0, -100]]),
    "paragraph_labels": torch.tensor([[1, 0], [1, -100]]),
}
IDS = torch.randint(5, 40, (2, 30), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return HfLongformerForEvidenceQuestionAnswering(tiny_config()).double().eval()


def test_loss_is_the_sum_of_four_worked_out_one_by_one(model: Any) -> None:
    with torch.no_grad():
        outputs = model(input_ids=IDS, **POSITIONS, **GOLD)
    start, end = (logits.log_softmax(dim=-1).exp() for logits in (outputs.start_logits, outputs.end_logits))
    span = -(math.log(start[0, 10] + start[0, 14]) + math.log(end[0, 11] + end[0, 14])) / 2  # the second has none
    types = outputs.type_logits.log_softmax(dim=-1)
    kind = -float(types[0, 0] + types[1, 2])
    sentences, paragraphs = outputs.sentence_logits.sigmoid(), outputs.paragraph_logits.sigmoid()
    of_sentences = -sum(map(math.log, (sentences[0, 0], 1 - sentences[0, 1], sentences[0, 2]))) / 3
    of_sentences -= sum(map(math.log, (sentences[1, 0], 1 - sentences[1, 1]))) / 2
    of_paragraphs = -sum(map(math.log, (paragraphs[0, 0], 1 - paragraphs[0, 1]))) / 2 - math.log(paragraphs[1, 0])
    total = span + kind + of_sentences + of_paragraphs
    assert float(outputs.loss) == pytest.approx(total / 2, rel=1e-5)  # the losses are of float32
    whole = model(input_ids=IDS, **POSITIONS, **GOLD, num_items_in_batch=8).loss
    assert float(whole.detach()) == pytest.approx(total / 8, rel=1e-5)


def test_loss_of_a_batch_is_the_mean_of_its_texts_whatever_their_padding(model: Any) -> None:
    """Padding, of tokens and of markers, on either side changes neither loss nor logits."""
    alone = [
        model(
            input_ids=IDS[[row]],
            **{name: value[[row]] for name, value in {**POSITIONS, **GOLD}.items()},
            num_items_in_batch=2,
        )
        for row in range(2)
    ]
    for left, right in ((0, 7), (5, 0)):
        ids = torch.nn.functional.pad(IDS, (left, right), value=1)
        mask = torch.nn.functional.pad(torch.ones_like(IDS), (left, right))
        moved = {name: torch.where(value >= 0, value + left, value) for name, value in POSITIONS.items()}
        gold = {
            name: torch.where(value >= 0, value + left, value) if name.endswith("positions") else value
            for name, value in GOLD.items()
        }
        outputs = model(input_ids=ids, attention_mask=mask, **moved, **gold)
        torch.testing.assert_close(outputs.loss, sum(one.loss for one in alone))
        torch.testing.assert_close(outputs.type_logits[1], alone[1].type_logits[0])
        torch.testing.assert_close(outputs.sentence_logits[1, :2], alone[1].sentence_logits[0, :2])


def test_context_mask_says_where_answers_may_stand() -> None:
    logits = torch.zeros(1, 4)
    rest = [torch.zeros(1, 3), torch.zeros(1, 1), torch.zeros(1, 1)]
    zero, one = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.long)
    candidates = torch.tensor([[False, True, True, False]])
    found = evidence_losses((logits, logits, *rest), candidates, zero[0], one, one, one, zero)
    assert {name: round(float(value), 5) for name, value in found.items()} == {
        "span": round(math.log(2), 5),
        "type": round(math.log(3), 5),
        "sentences": round(math.log(2), 5),
        "paragraphs": round(math.log(2), 5),
    }


def test_question_and_markers_are_global_by_default(model: Any) -> None:
    mask = torch.zeros_like(IDS)
    mask[0, [*range(8), 8, 21, 12, 20, 28]] = 1
    mask[1, [*range(9), 9, 15, 24]] = 1
    expected = model(input_ids=IDS, global_attention_mask=mask, **POSITIONS)
    found = model(input_ids=IDS, **POSITIONS)
    assert torch.equal(found.start_logits, expected.start_logits)
    none = model(input_ids=IDS, global_attention_mask=torch.zeros_like(IDS), **POSITIONS)
    assert not torch.equal(found.start_logits, none.start_logits)


def test_every_parameter_is_trained(model: Any) -> None:
    model(input_ids=IDS, **POSITIONS, **GOLD).loss.backward()
    heads = {name: value for name, value in model.named_parameters() if not name.startswith("longformer.")}
    assert {name.split(".")[0] for name in heads} == {"qa_outputs", "type_head", "sentence_head", "paragraph_head"}
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in heads.values())


def test_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = HfLongformerForEvidenceQuestionAnswering.from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert torch.equal(again(input_ids=IDS, **POSITIONS)[2], model(input_ids=IDS, **POSITIONS)[2])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sentence_positions": None}, r"sentence_positions must have the shape \(batch, places\)"),
        ({"paragraph_positions": torch.tensor([1, 2])}, r"paragraph_positions .* got \(2,\)"),
        ({"paragraph_positions": torch.tensor([[1]])}, "a row for every text, got 1 for 2 texts"),
        ({"sentence_positions": torch.tensor([[30], [1]])}, "must lie in 0 … 29, or be -1, got 1 to 30"),
        ({"labels": torch.tensor([0, 1]), "sentence_labels": None}, "labels need all gold values, got none for start"),
        ({**GOLD, "start_positions": torch.tensor([10, 14])}, r"start_positions must have .* got \(2,\)"),
        ({**GOLD, "end_positions": torch.tensor([[11], [30]])}, "end_positions must lie in 0 … 29, or be -1"),
        ({**GOLD, "paragraph_labels": torch.tensor([[1], [1]])}, r"the shape of the .* got \(2, 1\) for \(2, 2\)"),
    ],
)
def test_wrong_inputs_are_refused(model: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        model(input_ids=IDS, **{**POSITIONS, **change})
