# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which tokens the models make global when nobody says so, and who has the last word."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from torch import nn

import hf_longformer
from hf_longformer import HfLongformerForQuestionAnswering

IDS = random_ids(2, 12)
IDS[:, 0], IDS[:, 4], IDS[:, 5], IDS[:, -1] = 0, 2, 2, 2  # a pair of texts
NOTHING, FIRST, QUESTION, REST = "0" * 12, "1" + "0" * 11, "1" * 4 + "0" * 8, "0" * 6 + "1" * 6
AUTOMATIC = {
    "Model": NOTHING,
    "ForMaskedLM": NOTHING,
    "ForTokenClassification": NOTHING,
    "ForSequenceClassification": FIRST,
    "ForQuestionAnswering": QUESTION,
    "ForMultipleChoice": REST,
}


def make(head: str, **fields: Any) -> nn.Module:
    return randomise(getattr(hf_longformer, f"HfLongformer{head}")(tiny_config(**fields))).double()


def seen_as_global(model: nn.Module, **inputs: Any) -> list[str]:
    """The global tokens that reached the first layer, from the roles it was given."""
    roles = []
    layer = next(module for name, module in model.named_modules() if name.endswith("encoder.layer.0"))
    hook = layer.register_forward_pre_hook(lambda module, args: roles.append(args[1]))
    model(**inputs)
    hook.remove()
    mask = roles[0].is_global
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    mask = torch.zeros(tokens.flatten(0, -2).shape) if mask is None else mask
    return ["".join(str(int(entry)) for entry in row) for row in mask]


def inputs_of(head: str, ids: torch.Tensor = IDS) -> dict[str, torch.Tensor]:
    return {"input_ids": ids[:, None] if head == "ForMultipleChoice" else ids}


@pytest.mark.parametrize("head", AUTOMATIC)
def test_automatic_global_attention_depends_on_the_head(head: str):
    assert seen_as_global(make(head), **inputs_of(head)) == [AUTOMATIC[head]] * 2


@pytest.mark.parametrize(("kind", "expected"), [("cls", FIRST), ("question", QUESTION), ("none", NOTHING)])
@pytest.mark.parametrize("head", AUTOMATIC)
def test_config_global_attention_overrides_the_head(head: str, kind: str, expected: str):
    model = make(head, global_attention=kind)
    assert seen_as_global(model, **inputs_of(head)) == [expected] * 2
    model.config.global_attention = "auto"  # also later
    assert seen_as_global(model, **inputs_of(head)) == [AUTOMATIC[head]] * 2


@pytest.mark.parametrize("kind", ["auto", "cls", "question", "none"])
@pytest.mark.parametrize("head", AUTOMATIC)
def test_a_given_mask_has_the_last_word(head: str, kind: str):
    model, inputs = make(head, global_attention=kind), inputs_of(head)
    mask = torch.zeros_like(inputs["input_ids"])
    assert seen_as_global(model, **inputs, global_attention_mask=mask) == [NOTHING] * 2
    mask[..., 7] = 1
    assert seen_as_global(model, **inputs, global_attention_mask=mask) == ["000000010000"] * 2


def test_a_built_mask_gives_the_same_output_as_a_given_one():
    model = make("ForQuestionAnswering")
    mask = torch.zeros_like(IDS)
    mask[:, :4] = 1
    given = model(IDS, global_attention_mask=mask).start_logits
    assert torch.equal(model(IDS).start_logits, given)
    assert not torch.allclose(model(IDS, global_attention_mask=torch.zeros_like(IDS)).start_logits, given, atol=1e-3)


SEPARATORS: dict[str, tuple[list[int], str]] = {
    "no separator": ([], FIRST),
    "one": ([4], QUESTION),
    "two": ([4, 9], QUESTION),
    "three": ([4, 5, 11], QUESTION),
    "four": ([4, 5, 8, 11], QUESTION),
    "nothing else": (list(range(12)), NOTHING),
}


@pytest.mark.parametrize("count", SEPARATORS)
def test_question_answering_takes_any_number_of_separators(count: str):
    positions, expected = SEPARATORS[count]
    ids = random_ids(2, 12)
    ids[0, positions] = 2
    ids[1, 3] = 2  # every row has its own
    model = make("ForQuestionAnswering")
    assert seen_as_global(model, input_ids=ids) == [expected, "111000000000"]
    outputs = model(ids, start_positions=torch.tensor([6, 7]), end_positions=torch.tensor([7, 7]))
    assert torch.isfinite(outputs.loss)


def test_the_separator_is_that_of_the_config():
    ids = random_ids(1, 12)
    ids[0, 4] = 77
    assert seen_as_global(make("ForQuestionAnswering", sep_token_id=77), input_ids=ids) == [QUESTION]
    assert seen_as_global(make("ForQuestionAnswering"), input_ids=ids) == [FIRST]
    assert seen_as_global(make("ForQuestionAnswering", sep_token_id=None), input_ids=ids) == [FIRST]


def test_the_first_token_is_the_first_real_one():
    ids = torch.cat([torch.ones(2, 3, dtype=torch.long), IDS], dim=1)
    inputs = {"input_ids": ids, "attention_mask": ids.ne(1).long()}
    assert seen_as_global(make("ForSequenceClassification"), **inputs) == ["000" + FIRST] * 2
    assert seen_as_global(make("ForQuestionAnswering"), **inputs) == ["000" + QUESTION] * 2


def test_embeddings_have_a_first_token_too():
    model = make("ForSequenceClassification")
    embeddings = model.get_input_embeddings()(IDS)
    assert seen_as_global(model, inputs_embeds=embeddings) == [FIRST] * 2
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :2] = 0
    inputs = {"inputs_embeds": embeddings, "attention_mask": mask}
    assert seen_as_global(model, **inputs) == ["0010" + "0" * 8, FIRST]


def test_a_row_of_padding_has_no_global_token():
    ids = IDS.clone()
    ids[1] = 1
    inputs = {"input_ids": ids, "attention_mask": ids.ne(1).long()}
    assert seen_as_global(make("ForSequenceClassification"), **inputs) == [FIRST, NOTHING]
    assert torch.isfinite(HfLongformerForQuestionAnswering(tiny_config())(**inputs).start_logits).all()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("with_weights", [False, True])
def test_shared_projections_are_the_local_ones(implementation: str, with_weights: bool):
    """As a model whose own global projections are copies, whose gradients belong to both."""
    twin = make("ForQuestionAnswering", attn_implementation=implementation)
    shared = make("ForQuestionAnswering", attn_implementation=implementation, global_projections="shared")
    state = twin.state_dict()
    state |= {name: state[name.replace("_global", "")] for name in state if "_global" in name}
    twin.load_state_dict(state)
    shared.load_state_dict({name: weight for name, weight in state.items() if "_global" not in name})
    for length in (1, 4, 9):  # reassociated or not
        gradients = []
        for model in (twin, shared):
            marked = torch.zeros_like(IDS)
            marked[:, :length] = 1
            outputs = model(IDS, global_attention_mask=marked, output_attentions=with_weights)
            model.zero_grad()
            (outputs.start_logits.sin().sum() + outputs.end_logits.cos().sum()).backward()
            gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
            if with_weights:
                assert len(outputs.global_attentions) == 2
        for name in list(gradients[0]):
            if "_global" in name:
                gradients[0][name.replace("_global", "")] += gradients[0].pop(name)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-12)


def test_shared_projections_are_saved_and_loaded(tmp_path: Path):
    model = make("ForQuestionAnswering", global_projections="shared").train()
    model(IDS, global_attention_mask=torch.zeros_like(IDS)).start_logits.sum().backward()  # nobody is left out
    assert all(p.grad is not None for name, p in model.named_parameters() if "encoder" in name)
    model.save_pretrained(tmp_path)
    again, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert again.config.global_projections == "shared"
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.testing.assert_close(again.double().eval()(IDS).start_logits, model.eval()(IDS).start_logits)
