# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`model(…, segment_length=…)`: inference in bounded memory gives what the definition gives for the whole text."""

from itertools import product
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from helpers import GLOBALS, PADDINGS, largest_error, make_masks, random_ids, randomise, tiny_config
from test_modeling_encoder_decoder import small_model
from torch import nn

import hf_longformer
from hf_longformer import text_segments

LENGTH = 67
FIELDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dilated": {"attention_dilation": [[1, 2, 3], [1, 1, 1]]},
    "window beyond the text": {"attention_window": [2, 400]},
    "norm first": {"norm_style": "pre"},
    "scores that grow with the length": {"global_scaling_length": 8},
    "shared projections": {"global_projections": "shared"},
    "narrow embeddings": {"embedding_size": 8},
    "positions that repeat": {"repeat_positions": True, "max_position_embeddings": 14},
}


def make(head: str = "Model", implementation: str = "sdpa", **fields: Any) -> Any:
    config = tiny_config(**fields, attn_implementation=implementation)
    return randomise(getattr(hf_longformer, f"HfLongformer{head}")(config)).double().eval()


def inputs_of(globals_: str = "one", padding: str = "none", length: int = LENGTH) -> dict[str, torch.Tensor]:
    is_global, real = make_masks(length, globals_, padding)
    ids = random_ids(2, length)
    given = {"input_ids": ids, "token_type_ids": ids % 2}
    if real is not None:
        given["attention_mask"] = real.long()
    return given | {"global_attention_mask": torch.zeros_like(ids) if is_global is None else is_global.long()}


@torch.no_grad()
def states(model: Any, inputs: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    found = model(**inputs, **settings).last_hidden_state
    real = inputs.get("attention_mask")
    return found if real is None else found * real[..., None]


MASKS = list(product(GLOBALS, PADDINGS))


@pytest.mark.parametrize(
    ("kind", "globals_", "padding"),
    [("plain", *masks) for masks in MASKS]
    + [(kind, *masks) for kind in FIELDS for masks in (("none", "none"), ("one", "left"), ("ragged", "interior"))],
)
def test_states_are_those_of_the_definition(kind: str, globals_: str, padding: str) -> None:
    fields = FIELDS[kind]
    exact = make(implementation="eager", **fields)
    model = make(**fields)
    model.load_state_dict(exact.state_dict())
    inputs = inputs_of(globals_, padding)
    expected = states(exact, inputs)
    for segment_length in (1, 22, 66, 1000):
        assert largest_error(states(model, inputs, segment_length=segment_length), expected) < 1e-12


@pytest.mark.parametrize("implementation", ["sdpa", "cpu", "blocked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_low_precision_is_as_good_as_without_segments(dtype: torch.dtype, implementation: str) -> None:
    exact, model = make(implementation="eager"), make(implementation=implementation)
    model.load_state_dict(exact.state_dict())
    model.to(dtype)
    exact.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    inputs = inputs_of("ragged", "right")
    expected = states(exact, inputs)
    whole = largest_error(states(model, inputs).double(), expected)
    assert largest_error(states(model, inputs, segment_length=16).double(), expected) <= 2 * whole


def test_autocast_gives_what_it_gives_without_segments() -> None:
    model, inputs = make().float(), inputs_of()
    with torch.autocast("cpu", torch.bfloat16):
        whole, parts = states(model, inputs), states(model, inputs, segment_length=16)
    assert parts.dtype == whole.dtype
    assert largest_error(parts, whole) < 0.1


@pytest.mark.parametrize(
    "head", ["ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
)
def test_heads_read_the_same(head: str) -> None:
    model, inputs = make(head), inputs_of(padding="left")
    with torch.no_grad():
        whole, parts = model(**inputs), model(**inputs, segment_length=9)
    for name in whole:
        mask = inputs["attention_mask"].bool()
        one, other = (x[mask] if x.shape[:2] == mask.shape else x for x in (whole[name], parts[name]))
        assert largest_error(other, one) < 1e-12


def test_labels_may_be_passed() -> None:
    model, inputs = make("ForSequenceClassification"), inputs_of()
    with torch.no_grad():
        losses = [model(**inputs, **kind, labels=torch.tensor([0, 1])).loss for kind in ({}, {"segment_length": 9})]
    assert abs(losses[0] - losses[1]) < 1e-12


def test_the_encoder_of_an_encoder_decoder_takes_them() -> None:
    model, ids = small_model(), random_ids(2, 20) % 50 + 5
    with torch.no_grad():
        whole, parts = model(input_ids=ids), model(input_ids=ids, segment_length=7)
    assert largest_error(parts.encoder_last_hidden_state, whole.encoder_last_hidden_state) < 1e-12


def test_long_texts_are_walked_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[int] = []

    def spy(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        walked.append(inputs[2].shape[1])
        return text_segments.encode_in_segments(model, inputs, *args, **kwargs)

    monkeypatch.setattr("hf_longformer.modeling_hf_longformer.encode_in_segments", spy)
    monkeypatch.setattr(text_segments, "LONG_TEXT", 60)
    monkeypatch.setattr(text_segments, "SEGMENT", 16)
    model = make()
    for length in (60, 61):
        inputs = inputs_of(length=length)
        expected = model(**inputs).last_hidden_state.detach()  # with gradients it is encoded whole
        assert largest_error(states(model, inputs), expected) < 1e-12
    with torch.no_grad():
        assert len(model(**inputs, output_hidden_states=True).hidden_states) == 3
    assert walked == [61]


def test_states_may_stand_elsewhere() -> None:
    model, inputs = make(), inputs_of("ragged", "interior")
    assert largest_error(states(model, inputs, states_device="cpu"), states(model, inputs)) < 1e-12
    assert states(model, inputs, states_device=torch.device("cpu")).device.type == "cpu"


def adapted(model: nn.Module) -> nn.Module:
    class Adapter(nn.Module):  # sits in a layer's place, as adapters of PEFT do
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.linear(states) + 0.5

    for layer in model.encoder.layer:
        for name in ("query", "key_global", "value_global"):
            setattr(layer.attention.self, name, Adapter(getattr(layer.attention.self, name)))
    return model


def test_adapters_are_called() -> None:
    model, inputs = make(), inputs_of()
    before = states(model, inputs)
    adapted(model)
    parts = states(model, inputs, segment_length=8)
    assert largest_error(parts, states(model, inputs)) < 1e-12 < largest_error(parts, before)


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "weights": ({}, {"output_attentions": True}, NotImplementedError, "neither attention weights"),
    "definition": ({"implementation": "eager"}, {}, NotImplementedError, "got 'eager'"),
    "no tokens": ({}, {"segment_length": 0}, ValueError, "at least 1, got 0"),
    "no number": ({}, {"segment_length": "16"}, ValueError, "got '16'"),
    "a head elsewhere": ({"head": "ForMaskedLM"}, {"states_device": "cpu"}, NotImplementedError, "call the base model"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_refused(case: tuple[dict[str, Any], dict[str, Any], type[Exception], str]) -> None:
    fields, settings, kind, sentence = case
    with torch.no_grad(), pytest.raises(kind, match=sentence):
        make(**fields)(**inputs_of(), **{"segment_length": 8, **settings})


def test_training_is_refused() -> None:
    model, inputs = make(), inputs_of()
    with pytest.raises(NotImplementedError, match="no_grad"):
        model(**inputs, segment_length=8)
    with torch.no_grad(), pytest.raises(NotImplementedError, match="eval"):
        model.train()(**inputs, segment_length=8)


def test_hooks_are_refused() -> None:
    model = make()
    model.encoder.layer[0].register_forward_hook(lambda *_: None)
    with torch.no_grad(), pytest.raises(NotImplementedError, match="hooks"):
        model(**inputs_of(), segment_length=8)


def test_models_that_are_spread_over_devices_are_encoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = make(), inputs_of()
    expected = states(model, inputs)
    dispatch_model(model, {"": "cpu"}, main_device="cpu", force_hooks=True)
    with torch.no_grad(), pytest.raises(NotImplementedError, match="spread over several"):
        model(**inputs, segment_length=8)
    monkeypatch.setattr(text_segments, "LONG_TEXT", 10)
    assert largest_error(states(model, inputs), expected) < 1e-12


def test_causal_models_are_refused() -> None:
    model = make("ForCausalLM", is_decoder=True)
    with torch.no_grad(), pytest.raises(NotImplementedError, match="past_key_values"):
        model(random_ids(1, 20), segment_length=8)


def test_texts_of_padding_alone() -> None:
    model, ids = make(), torch.full((2, 5), 1)
    with torch.no_grad():
        found = model(ids, attention_mask=torch.zeros_like(ids), segment_length=2).last_hidden_state
    assert found.shape == (2, 5, 24)
    assert bool((found == 0).all())
