# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the models promise beside parity with stock: windows that can be changed, any length, any padding, any dtype."""

import copy
import gc
import logging
import weakref
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from torch import nn

import hf_longformer
from hf_longformer import (
    HfLongformerForSequenceClassification,
    attention_hf_longformer,
    feed_forward,
    layers_hf_longformer,
)
from hf_longformer.transformers_internals import CHECKPOINTING

IMPLEMENTATIONS = ("eager", "sdpa")
HEADS = {
    "ForMaskedLM": {"labels": random_ids(2, 37)},
    "ForSequenceClassification": {"labels": torch.tensor([0, 1])},
    "ForQuestionAnswering": {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 4])},
    "ForTokenClassification": {"labels": random_ids(2, 37) % 2},
    "ForMultipleChoice": {"labels": torch.tensor([0, 1])},
}


def make(head: str = "Model", dtype: torch.dtype = torch.float64, **fields: Any) -> nn.Module:
    return randomise(getattr(hf_longformer, f"HfLongformer{head}")(tiny_config(**fields))).to(dtype)


def make_ids(head: str, length: int = 37) -> torch.Tensor:
    return random_ids(2, 2, length) if head == "ForMultipleChoice" else random_ids(2, length)


def marks(*positions: int, shape: tuple[int, ...] = (2, 37)) -> torch.Tensor:
    mask = torch.zeros(shape, dtype=torch.long)
    mask[..., list(positions)] = 1
    return mask


def logits(outputs: Any) -> torch.Tensor:
    names = ("logits", "start_logits", "end_logits", "last_hidden_state")
    return torch.cat([outputs[name].flatten() for name in names if name in outputs])


# Windows, dilations, and the reach of all layers together.
STACKS = {
    "one layer": ([4], 1, 2),
    "three layers": ([4, 4, 4], 1, 6),
    "growing windows": ([2, 4, 8], 1, 7),
    "dilated": ([4, 4], 3, 12),
    "growing dilations": ([4, 4], [1, 5], 12),
    "dilations of heads": ([4, 2], [[1, 2, 3], [1, 1, 1]], 7),
}


@pytest.mark.parametrize("is_causal", [False, True], ids=["both", "causal"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("stack", STACKS)
def test_receptive_field_is_the_sum_of_the_reaches(stack: str, implementation: str, is_causal: bool):
    windows, dilations, reach = STACKS[stack]
    fields = {"num_hidden_layers": len(windows), "attention_window": windows, "attention_dilation": dilations}
    model = make(**fields, is_decoder=is_causal, attn_implementation=implementation)
    patterns = [layer.attention.self.pattern for layer in model.encoder.layer]
    assert sum(pattern.reach for pattern in patterns) == reach
    embeddings = torch.randn(1, 41, 24, dtype=torch.float64, requires_grad=True)
    middle = model(inputs_embeds=embeddings).last_hidden_state[0, 20]
    (gradient,) = torch.autograd.grad(middle.square().sum(), embeddings)
    seen = (gradient[0].abs().sum(dim=-1) > 0).nonzero().flatten().tolist()
    steps = {0}
    for pattern in patterns:
        distances = [d for d in range(-40, 41) if any(pattern.allows(0, d, h) for h in range(len(pattern.dilations)))]
        steps = {step + distance for step in steps for distance in distances}
    assert seen == sorted(20 + step for step in steps)
    assert (min(seen), max(seen)) == (20 - reach, 20 if is_causal else 20 + reach)


def test_a_global_token_sees_and_is_seen_by_all():
    model = make(num_hidden_layers=1)
    embeddings = torch.randn(1, 41, 24, dtype=torch.float64, requires_grad=True)
    states = model(inputs_embeds=embeddings, global_attention_mask=marks(7, shape=(1, 41))).last_hidden_state
    for row, expected in ((7, list(range(41))), (30, [7, *range(26, 35)]), (2, list(range(8)))):
        (gradient,) = torch.autograd.grad(states[0, row].square().sum(), embeddings, retain_graph=True)
        assert (gradient[0].abs().sum(dim=-1) > 0).nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_windows_and_dilations_may_change_on_a_loaded_model(implementation: str):
    model, ids = make(attn_implementation=implementation), make_ids("Model")
    before = model(ids).last_hidden_state
    for change in ({"attention_window": [2, 64]}, {"attention_dilation": 3}, {"is_decoder": True}):
        expected = make(**change)(ids).last_hidden_state
        assert not torch.allclose(expected, before, atol=1e-3)
        was = {name: getattr(model.config, name) for name in change}
        for name, value in change.items():
            setattr(model.config, name, value)
        torch.testing.assert_close(model(ids).last_hidden_state, expected)
        for name, value in was.items():
            setattr(model.config, name, value)
    assert torch.equal(model(ids).last_hidden_state, before)


def test_set_attn_implementation_on_a_loaded_model(monkeypatch: pytest.MonkeyPatch):
    calls = []
    for name in ("attention_reference", "choose_once"):
        function = getattr(attention_hf_longformer, name)

        def spy(*args: Any, _name: str = name, _function: Any = function, **kwargs: Any) -> Any:
            calls.append(_name)
            return _function(*args, **kwargs)

        monkeypatch.setattr(attention_hf_longformer, name, spy)
    model, ids = make("ForMaskedLM"), make_ids("ForMaskedLM")
    outputs = []
    for implementation in (None, "eager", "sdpa"):
        if implementation:
            model.set_attn_implementation(implementation)
            assert model.config._attn_implementation == implementation
        outputs.append(model(ids, global_attention_mask=marks(0)).logits)
    assert calls == ["choose_once"] * 2 + ["attention_reference"] * 2 + ["choose_once"] * 2
    assert torch.equal(outputs[0], outputs[2])
    torch.testing.assert_close(outputs[0], outputs[1])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("flash_attention_2", "does not support Flash Attention 2"),
        ("nonsense", "nonsense"),
    ],
)
def test_unsupported_implementations_are_refused(name: str, sentence: str):
    with pytest.raises((ValueError, ImportError), match=sentence):
        make(attn_implementation=name)
    with pytest.raises((ValueError, ImportError), match=sentence):
        make().set_attn_implementation(name)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 37, 64, 65, 199, 200])
def test_every_output_is_as_long_as_the_input(length: int, implementation: str):
    ids = random_ids(2, length)
    extras = {"output_hidden_states": True, "output_attentions": True}
    marked = marks(0, length - 1, shape=(2, length))
    outputs = make("ForTokenClassification", attn_implementation=implementation)(
        ids, global_attention_mask=marked, **extras
    )
    count = min(length, 2)
    assert outputs.logits.shape == (2, length, 2)
    assert [tuple(states.shape) for states in outputs.hidden_states] == [(2, length, 24)] * 3
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 3, length, count + 9)] * 2
    assert [tuple(weights.shape) for weights in outputs.global_attentions] == [(2, 3, length, count)] * 2


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_asking_for_attentions_changes_nothing_else(implementation: str):
    model, ids = make(attn_implementation=implementation), make_ids("Model")
    arguments = {"input_ids": ids, "global_attention_mask": marks(0, 9)}
    plain, full = model(**arguments), model(**arguments, output_attentions=True)
    torch.testing.assert_close(full.last_hidden_state, plain.last_hidden_state)
    assert plain.attentions is None
    assert plain.global_attentions is None
    for local, of_global in zip(full.attentions, full.global_attentions, strict=True):
        sums = local.sum(dim=-1)
        sums[:, :, [0, 9]] += of_global.sum(dim=2)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_global_attentions_are_none_without_global_tokens():
    assert make()(make_ids("Model"), output_attentions=True).global_attentions is None


def test_outputs_as_a_tuple():
    model, ids = make(), make_ids("Model")
    outputs = model(ids, global_attention_mask=marks(0), output_attentions=True, return_dict=False)
    named = model(ids, global_attention_mask=marks(0), output_attentions=True)
    assert [type(entry) for entry in outputs] == [torch.Tensor, torch.Tensor, tuple, tuple]
    assert torch.equal(outputs[0], named.last_hidden_state)
    assert torch.equal(outputs[3][1], named.global_attentions[1])


@pytest.mark.parametrize("head", ["Model", *HEADS])
def test_inputs_embeds_equal_input_ids(head: str):
    model, ids = make(head), make_ids(head)
    embeddings = model.get_input_embeddings()(ids)
    labels = HEADS.get(head, {})
    mask = torch.ones_like(ids)
    if head in ("ForQuestionAnswering", "ForMultipleChoice"):  # these find their global tokens by separators
        labels = labels | {"global_attention_mask": marks(0, 1, shape=tuple(ids.shape))}
    by_ids = model(input_ids=ids, attention_mask=mask, **labels)
    by_embeddings = model(inputs_embeds=embeddings, attention_mask=mask, **labels)
    torch.testing.assert_close(logits(by_embeddings), logits(by_ids))
    if labels:
        torch.testing.assert_close(by_embeddings.get("loss"), by_ids.get("loss"))


@pytest.mark.parametrize("head", ["ForQuestionAnswering", "ForMultipleChoice"])
def test_inputs_embeds_without_separators_take_the_first_token(head: str, caplog: pytest.LogCaptureFixture):
    model, ids = make(head), make_ids(head)
    embeddings = model.get_input_embeddings()(ids)
    expected = model(inputs_embeds=embeddings, global_attention_mask=marks(0, shape=tuple(ids.shape)))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            torch.testing.assert_close(logits(model(inputs_embeds=embeddings)), logits(expected))
    assert sum("cannot be found without input_ids" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("reentrant", [False, True], ids=["modern", "reentrant"])
@pytest.mark.parametrize("marked", [(), (0, 5)], ids=["local", "global"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradient_checkpointing_gives_the_same_gradients(implementation: str, marked: tuple[int, ...], reentrant: bool):
    def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(5)
        mask = torch.ones(2, 37)
        mask[0, 30:] = 0
        model(ids, attention_mask=mask, global_attention_mask=marks(*marked), labels=ids).loss.backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    ids = make_ids("ForMaskedLM")
    fields = {"attention_probs_dropout_prob": 0.2, "hidden_dropout_prob": 0.1}
    model = make("ForMaskedLM", **fields, attn_implementation=implementation).train()
    plain = gradients(model)
    getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": reentrant})
    runs = []
    model.longformer.encoder.layer[0].intermediate.register_forward_pre_hook(lambda *_: runs.append(1))
    checkpointed = gradients(model)
    assert len(runs) == 2  # forward, and again for backward
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=lambda text, n=name: f"{n} {text}")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("marked", ["none", "first", "ragged", "all"])
@pytest.mark.parametrize("mode", ["train", "checkpointing"])
@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_gets_a_gradient(head: str, mode: str, marked: str, implementation: str):
    """Also the global projections where no token is global: distributed training waits for all of them."""
    model = make(head, torch.float32, attn_implementation=implementation).train()
    if mode == "checkpointing":
        getattr(model, f"{CHECKPOINTING}_enable")()
    ids = make_ids(head)
    mask = marks(*{"first": [0], "all": range(37)}.get(marked, []), shape=tuple(ids.shape))
    if marked == "ragged":
        mask[0, ..., [3, 8, 36]] = 1
    outputs = model(ids, global_attention_mask=mask, **HEADS[head])
    outputs.loss.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
    # In the lowest layer, whose outputs all matter, they are more than zeros.
    parameters = {name: p for name, p in model.named_parameters() if "layer.0.attention.self" in name}
    parameters = {name.split("self.")[1]: parameter for name, parameter in parameters.items()}
    used = [] if marked == "all" else ["query.weight", "key.weight", "value.weight"]
    used += [] if marked == "none" else ["query_global.weight", "key_global.weight", "value_global.weight"]
    assert all(parameters[name].grad.any() for name in used)


@pytest.mark.parametrize("mode", ["bfloat16", "float16", "autocast"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_low_precision_is_finite(implementation: str, mode: str):
    dtype = torch.float32 if mode == "autocast" else getattr(torch, mode)
    model = make("ForMaskedLM", dtype, attn_implementation=implementation).train()
    ids = random_ids(5, 70)
    mask = torch.ones(5, 70, dtype=torch.long)
    mask[1] = 0  # nothing but padding
    mask[2, 1:] = 0  # one token
    mask[3, 1:60] = 0  # islands without a neighbour, but for the global token
    marked = marks(0, shape=(5, 70)) * mask
    marked[4] = 1  # windows without a local key
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        outputs = model(ids, mask, marked, output_hidden_states=True, output_attentions=True)
        loss = model(ids, mask, marked, labels=ids).loss
    loss.backward()
    tensors = [outputs.logits, *outputs.hidden_states, *outputs.attentions, *outputs.global_attentions, loss]
    tensors += [parameter.grad for parameter in model.parameters()]
    assert all(torch.isfinite(tensor).all() for tensor in tensors)
    expected = make("ForMaskedLM", torch.float32)(ids, mask, marked).logits
    assert (outputs.logits.float() - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("mode", ["bfloat16", "autocast"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_training_in_bfloat16_lowers_the_loss(implementation: str, mode: str):
    model = HfLongformerForSequenceClassification(tiny_config(attn_implementation=implementation)).train()
    model.to(torch.bfloat16 if mode == "bfloat16" else torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids, losses = make_ids("ForSequenceClassification", 70), []
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
            loss = model(ids, labels=torch.tensor([0, 1])).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("marked", [(), (0, 12)], ids=["local", "global"])
def test_padding_on_any_side_does_not_change_the_real_tokens(marked: tuple[int, ...], implementation: str):
    model, ids = make(attn_implementation=implementation), random_ids(1, 37)
    expected = model(ids, global_attention_mask=marks(*marked, shape=(1, 37)))
    for left in (0, 5, 30):
        padded = torch.full((1, 67), 1)
        padded[:, left : left + 37] = ids
        shifted = marks(*(left + position for position in marked), shape=(1, 67))
        outputs = model(padded, attention_mask=padded.ne(1).long(), global_attention_mask=shifted)
        torch.testing.assert_close(outputs.last_hidden_state[:, left : left + 37], expected.last_hidden_state)
        torch.testing.assert_close(outputs.pooler_output, expected.pooler_output)


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForQuestionAnswering", "ForMultipleChoice"])
def test_left_padding_does_not_change_what_a_head_finds_by_itself(head: str):
    model, ids = make(head), make_ids(head)
    ids[..., 0], ids[..., 7], ids[..., 8], ids[..., -1] = 0, 2, 2, 2
    expected = model(ids)
    padded = nn.functional.pad(ids, (13, 0), value=1)
    outputs = model(padded, attention_mask=padded.ne(1).long())
    if head == "ForQuestionAnswering":
        torch.testing.assert_close(outputs.start_logits[:, 13:], expected.start_logits)
        torch.testing.assert_close(outputs.end_logits[:, 13:], expected.end_logits)
    else:
        torch.testing.assert_close(outputs.logits, expected.logits)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_texts_do_not_see_the_rest_of_their_batch(implementation: str):
    model = make("ForQuestionAnswering", attn_implementation=implementation)
    lengths = (64, 9, 33, 1)
    ids = random_ids(4, 64)
    ids[:, 5] = 2
    real = torch.arange(64) < torch.tensor(lengths)[:, None]
    batch = model(ids.where(real, 1), attention_mask=real.long())
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length])
        torch.testing.assert_close(batch.start_logits[row : row + 1, :length], alone.start_logits)
        torch.testing.assert_close(batch.end_logits[row : row + 1, :length], alone.end_logits)


def test_dropout_is_for_training_only():
    model = make("ForMaskedLM", attention_probs_dropout_prob=0.5)
    ids = make_ids("ForMaskedLM")
    assert torch.equal(model(ids).logits, model(ids).logits)
    model.train()
    assert not torch.allclose(model(ids).logits, model(ids).logits, atol=1e-3)


@pytest.mark.usefixtures("nothing_is_small")
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_what_is_activated_again_gives_the_same_gradients(activation: str, monkeypatch: pytest.MonkeyPatch):
    model, ids = make("ForMaskedLM", hidden_act=activation).train(), make_ids("ForMaskedLM")
    gradients = []
    for again in (True, False):
        if not again:
            monkeypatch.setattr(feed_forward, "_can_recompute", lambda _: False)
        loss = model(ids, labels=ids).loss
        gradients.append(
            torch.autograd.grad(loss, list(model.longformer.encoder.layer.parameters()), allow_unused=True)
        )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.usefixtures("nothing_is_small")
@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"), reason="needs PyTorch 2.8: before, it is kept"
)
def test_the_widest_tensor_is_kept_once():
    model, ids = make(num_hidden_layers=1).train(), make_ids("Model")
    wide = []

    class Watched(nn.GELU):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            activated = super().forward(hidden_states)
            wide.append(weakref.ref(activated))
            return activated

    model.encoder.layer[0].intermediate.activation = Watched()
    states = model(ids).last_hidden_state
    gc.collect()
    assert wide[0]() is None
    states.sum().backward()
    assert len(wide) == 2  # activated again, once


@pytest.mark.usefixtures("nothing_is_small")
@pytest.mark.parametrize("at_once", [1, 4, 36, 1000])
@pytest.mark.parametrize(
    "options",
    [{}, {"norm_style": "pre", "is_decoder": True}, {"hidden_act": "gelu_new"}],
    ids=["encoder", "causal", "activation"],
)
def test_feed_forward_of_inference_goes_in_parts(
    options: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
):
    """In a workspace that layers share, and unless an adapter or a hook waits for what the whole text gives."""
    model, ids, buffers, sizes = make(**options), make_ids("Model"), [], []
    in_parts, whole = feed_forward.feed_forward_in_parts, feed_forward.feed_forward

    def count_buffers(intermediate: Any, output: Any, states: torch.Tensor, workspace: Any) -> torch.Tensor:
        narrowed = in_parts(intermediate, output, states, workspace)
        buffers.append((id(workspace.buffers["wide"]), len(workspace.buffers["wide"])))
        return narrowed

    def count_tokens(intermediate: Any, output: Any, states: torch.Tensor) -> torch.Tensor:
        sizes.append(states[..., 0].numel())
        return whole(intermediate, output, states)

    def forward(model: nn.Module) -> torch.Tensor:
        buffers.clear()
        sizes.clear()
        return model(ids).last_hidden_state.detach()

    monkeypatch.setattr(layers_hf_longformer, "feed_forward_in_parts", count_buffers)
    monkeypatch.setattr(layers_hf_longformer, "feed_forward", count_tokens)
    monkeypatch.setattr(feed_forward, "PART", at_once * model.config.intermediate_size * 8)
    expected = forward(model)  # gradients are wanted
    assert not buffers
    assert set(sizes) == {ids.numel()}
    with torch.no_grad():
        torch.testing.assert_close(forward(model), expected)
        assert not sizes
        assert len(buffers) == len(model.encoder.layer)
        assert len(set(buffers)) == 1
        assert buffers[0][1] == min(at_once, ids.numel()) * model.config.intermediate_size
        changed = copy.deepcopy(model)
        for layer in changed.encoder.layer:
            layer.intermediate.dense = Adapted(layer.intermediate.dense)
        torch.testing.assert_close(forward(changed), expected)
        assert not buffers
        assert set(sizes) == {ids.numel()}
        for layer in model.encoder.layer:
            layer.intermediate.activation.register_forward_hook(lambda *_: None)
        torch.testing.assert_close(forward(model), expected)
    assert not buffers
    assert set(sizes) == {ids.numel()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("tokens", [1, 5])
def test_states_are_widened_into_a_buffer(tokens: int, dtype: torch.dtype):
    """Whatever the order in memory, the buffer holds them, all but its own numbers."""
    torch.manual_seed(0)
    linear, states = nn.Linear(6, 11).to(dtype), torch.randn(tokens, 6, dtype=dtype)
    buffer = torch.full((11 * tokens,), torch.nan, dtype=dtype)
    with torch.no_grad():
        wide = feed_forward.widen_into(buffer, linear, states)
        torch.testing.assert_close(wide, linear(states))
    assert wide.data_ptr() == buffer.data_ptr()
    assert not buffer.isnan().any()


class Adapted(nn.Linear):
    """A linear layer that computes something of its own, as adapters do."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, dtype=linear.weight.dtype)
        self.load_state_dict(linear.state_dict())


def test_checkpoints_are_not_disturbed():
    """Under a checkpoint, and under hooks of others, everything that is kept goes through their hands."""
    model, ids = make(intermediate_size=53).train(), make_ids("Model")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        model(ids)
    assert sum(shape.numel() == 2 * 37 * 53 for shape in kept) == 2 * 2  # before and after the activation
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            getattr(model, f"{CHECKPOINTING}_enable")()
        model.zero_grad()
        model(ids).last_hidden_state.sin().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.encoder.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)
