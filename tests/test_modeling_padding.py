# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A padded batch costs what its real tokens cost, and gives what each text gives by itself."""

from typing import Any

import pytest
import torch
from helpers import largest_error, random_ids, randomise, tiny_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import hf_longformer
from hf_longformer import HfLongformerModel, unpadding_hf_longformer
from hf_longformer.layers_hf_longformer import HfLongformerEmbeddings
from hf_longformer.transformers_internals import CHECKPOINTING

LENGTH = 67
# Where the real tokens of five texts stand: from, to.
SPANS = {
    "right": [(0, 67), (0, 30), (0, 1), (0, 9), (0, 45)],
    "left": [(0, 67), (37, 67), (66, 67), (58, 67), (22, 67)],
    "both sides": [(10, 60), (0, 67), (3, 5), (40, 41), (13, 67)],
    "rows of padding": [(0, 0), (5, 67), (0, 0), (0, 12), (0, 0)],
    "one text": [(20, 41)],
}


def make(head: str = "Model", implementation: str = "sdpa", **fields: Any) -> nn.Module:
    config = tiny_config(**fields, attn_implementation=implementation)
    return randomise(getattr(hf_longformer, f"HfLongformer{head}")(config)).double()


def batch(spans: list[tuple[int, int]], globals_: str = "none") -> dict[str, torch.Tensor]:
    real = torch.zeros(len(spans), LENGTH, dtype=torch.long)
    is_global = torch.zeros_like(real)
    for row, (start, end) in enumerate(spans):
        real[row, start:end] = 1
        marked = {"none": [], "first": [start], "ragged": [start, end - 1, (start + end) // 2][: row + 1]}[globals_]
        is_global[row, marked if end > start else []] = 1
    ids = random_ids(*real.shape).where(real.bool(), torch.tensor(1))
    return {"input_ids": ids, "attention_mask": real, "global_attention_mask": is_global, "token_type_ids": ids % 2}


@pytest.fixture
def unpadded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches however small go without their padding; the list holds the number of tokens of each."""
    tokens: list[int] = []

    def spy(*args: Any) -> Any:
        result = unpad(*args)
        tokens.append(sum(result[0].lengths))
        return result

    unpad = unpadding_hf_longformer.unpad
    monkeypatch.setattr("hf_longformer.modeling_hf_longformer.unpad", spy)
    monkeypatch.setattr(unpadding_hf_longformer, "MIN_PADDING", 0)
    return tokens


@pytest.mark.parametrize("globals_", ["none", "first", "ragged"])
@pytest.mark.parametrize("kind", SPANS)
@pytest.mark.parametrize("fields", [{}, {"attention_dilation": [[1, 2, 3], [1, 1, 1]]}, {"attention_window": [2, 400]}])
def test_outputs_and_gradients_are_those_of_the_definition(
    fields: dict[str, Any], kind: str, globals_: str, unpadded: list[int]
):
    inputs = batch(SPANS[kind], globals_)
    real = inputs["attention_mask"].bool()
    weight = torch.randn(*real.shape, 24, dtype=torch.float64) * real[..., None]
    results = []
    for implementation in ("eager", "sdpa"):
        model = make(implementation=implementation, **fields)
        outputs = model(**inputs)
        (outputs.last_hidden_state * weight).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if not name.startswith("pooler")}
        results.append({"states": outputs.last_hidden_state.detach() * real[..., None]} | gradients)
    assert unpadded == [int(real.sum())]  # the definition keeps its padding
    for name, exact in results[0].items():
        computed = results[1][name]
        computed = torch.zeros_like(exact) if computed is None else computed
        exact = torch.zeros_like(computed) if exact is None else exact
        assert largest_error(computed, exact) <= 1e-12 * max(1.0, exact.abs().max().item()), name
    assert (outputs.last_hidden_state[~real] == 0).all()


def test_every_text_is_what_it_is_alone(unpadded: list[int]):
    model, inputs = make(), batch(SPANS["right"], "first")
    together = model(**inputs).last_hidden_state
    for row, (start, end) in enumerate(SPANS["right"]):
        alone = model(**{name: x[row : row + 1, start:end] for name, x in inputs.items()}).last_hidden_state
        assert largest_error(together[row, start:end], alone[0]) < 1e-13


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering"])
def test_heads_lose_and_learn_the_same(head: str, unpadded: list[int]):
    inputs = (
        batch(SPANS["both sides"], "first")
        | {
            "ForMaskedLM": {"labels": random_ids(5, LENGTH)},
            "ForSequenceClassification": {"labels": torch.tensor([0, 1, 1, 0, 1])},
            "ForQuestionAnswering": {
                "start_positions": torch.tensor([10, 0, 3, 40, 20]),
                "end_positions": torch.ones(5),
            },
        }[head]
    )
    if head == "ForMaskedLM":
        inputs["labels"] = inputs["labels"].where(inputs["attention_mask"].bool(), torch.tensor(-100))
    models = [make(head, implementation) for implementation in ("eager", "sdpa")]
    losses = [model(**{k: v.long() for k, v in inputs.items()}).loss for model in models]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=1e-12)
    for _model, loss in zip(models, losses, strict=True):
        loss.backward()
    for (name, exact), (_, computed) in zip(*(model.named_parameters() for model in models), strict=True):
        if exact.grad is not None:
            assert largest_error(computed.grad, exact.grad) < 1e-11, name
    assert unpadded


def test_embeddings_may_be_passed_and_learn(unpadded: list[int]):
    inputs = batch(SPANS["left"])
    del inputs["input_ids"]
    gradients = []
    for implementation in ("eager", "sdpa"):
        generator = torch.Generator().manual_seed(0)
        embeddings = torch.randn(5, LENGTH, 24, generator=generator, dtype=torch.float64, requires_grad=True)
        states = make(implementation=implementation)(inputs_embeds=embeddings, **inputs).last_hidden_state
        (states.sin() * inputs["attention_mask"][..., None]).sum().backward()
        gradients.append(embeddings.grad)
    assert unpadded
    assert largest_error(gradients[1], gradients[0]) < 1e-12
    assert (gradients[1][inputs["attention_mask"] == 0] == 0).all()


def test_training_with_dropout_and_checkpointing_repeats_itself(unpadded: list[int]):
    gradients = []
    for checkpointing in (False, True):
        model = make(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2).train()
        if checkpointing:
            getattr(model, f"{CHECKPOINTING}_enable")()
        torch.manual_seed(0)
        model(**batch(SPANS["right"], "first")).last_hidden_state.sin().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.encoder.parameters()]))
    assert len(unpadded) == 2
    assert largest_error(gradients[1], gradients[0]) < 1e-12


def test_all_layers_and_weights_keep_the_shape_of_the_batch(unpadded: list[int]):
    model, inputs = make(), batch(SPANS["right"], "first")
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert {x.shape for x in outputs.hidden_states} == {(5, LENGTH, 24)}
    assert {x.shape[:3] for x in outputs.attentions} == {(5, 3, LENGTH)}
    model.config.output_hidden_states = True
    assert {x.shape for x in model(**inputs).hidden_states} == {(5, LENGTH, 24)}
    assert unpadded == []


def test_padding_inside_a_text_counts_as_distance(unpadded: list[int]):
    inputs = batch([(0, 67), (0, 60)], "first")
    inputs["attention_mask"][0, 20:24] = 0
    states = [make(implementation=name)(**inputs).last_hidden_state for name in ("eager", "sdpa")]
    real = inputs["attention_mask"].bool()
    assert unpadded == []
    assert largest_error(states[1][real], states[0][real]) < 1e-12


def test_feed_forward_in_chunks_keeps_the_shape_of_the_batch(unpadded: list[int]):
    model = make(chunk_size_feed_forward=1)
    assert model(**batch(SPANS["right"])).last_hidden_state.shape == (5, LENGTH, 24)
    assert unpadded == []


def test_little_padding_is_left_where_it_is(monkeypatch: pytest.MonkeyPatch):
    model, forward = HfLongformerModel(tiny_config()), HfLongformerEmbeddings.forward
    for padding, expected in ((63, 2 * 200), (64, 2 * 200 - 128)):
        mask = torch.ones(2, 200, dtype=torch.long)
        mask[1, 200 - 2 * padding :] = 0
        tokens: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                *(HfLongformerEmbeddings, "forward"),
                lambda self, ids, *rest, seen=tokens: seen.append(ids.numel()) or forward(self, ids, *rest),
            )
            model(random_ids(2, 200), attention_mask=mask)
        assert tokens == [expected]
        model.encoder.layer[0].register_forward_pre_hook(
            lambda _, args, seen=tokens: seen.append(args[0][..., 0].numel())
        )
        model(random_ids(2, 200), attention_mask=mask)
        assert tokens[1:] == [2 * 200]  # hooks find texts as they came
        model.encoder.layer[0]._forward_pre_hooks.clear()


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_padded_batch_costs_what_its_tokens_cost(side: str):
    """Eight texts, one of them four times the mean length: products of matrices, forward and backward."""
    model = HfLongformerModel(tiny_config(max_position_embeddings=1002)).train()
    lengths = [800, *[114] * 7]
    mask = torch.zeros(8, 800, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, slice(0, length) if side == "right" else slice(800 - length, 800)] = 1
    ids = random_ids(8, 800).where(mask.bool(), torch.tensor(1))

    def cost(*texts: dict[str, torch.Tensor]) -> int:
        with FlopCounterMode(display=False) as counter:
            for text in texts:
                model(**text).last_hidden_state.sum().backward()
        return counter.get_total_flops()

    alone = [{"input_ids": ids[row : row + 1, mask[row].bool()]} for row in range(8)]
    together = cost({"input_ids": ids, "attention_mask": mask})
    assert cost(*alone) <= together <= 1.02 * cost(*alone)


def test_the_loss_of_question_answering_does_not_know_padding():
    model, inputs = make("ForQuestionAnswering"), batch([(0, 30)], "first")
    answer = {"start_positions": torch.tensor([4]), "end_positions": torch.tensor([9])}
    alone = model(**{name: x[:, :30] for name, x in inputs.items()}, **answer).loss
    torch.testing.assert_close(model(**inputs, **answer).loss, alone, rtol=1e-12, atol=0)
    on_padding = {name: x.repeat(2, 1) for name, x in inputs.items()}
    on_padding |= {"start_positions": torch.tensor([[4], [30]]), "end_positions": torch.tensor([[9], [-1]])}
    torch.testing.assert_close(model(**on_padding).loss, alone, rtol=1e-12, atol=0)
