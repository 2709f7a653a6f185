# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a source and a result compute on texts made for it, so that both can be compared."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from .plan import Plan
from .source import base_model

SHORTEST_TEXT = 2  # tokens
LONGEST_DECODED, GENERATED = 1024, 20  # tokens that the decoder reads, and writes
NOT_SETTINGS = ("transformers_version", "_from_model_config")
BEAMS = {"greedy tokens": 1, "tokens of 4 beams": 4}
OUTPUTS = {
    "logits": "logits",
    "start_logits": "start logits",
    "end_logits": "end logits",
    "pooler_output": "pooled outputs",
}


@dataclass
class Reference:
    """What the source computes.

    Args:
        long: The last hidden states of a text as long as the source takes, by name, and what is written about it.
        short: All outputs of a short text, by name.
        length: Of the long text, in tokens.
        short_length: Of the short text, in tokens.
        settings: How it generates; empty if it does not.
    """

    long: dict[str, torch.Tensor]
    short: dict[str, torch.Tensor]
    length: int
    short_length: int
    settings: dict[str, Any] = field(default_factory=dict)


@torch.no_grad()
def outputs_on_texts(
    plan: Plan, model: Any, length: int, short_length: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Of the encoder on a long text, and of the whole model on a short one, of real tokens only."""
    if plan.source.family.is_encoder_decoder:
        return _of_halves(plan, base_model(model), model, length), _of_encoder_decoder(plan, model, short_length)
    head, base = plan.source.head, base_model(model)
    inputs = sample_inputs(plan, length)
    real = inputs["attention_mask"].bool()
    outputs = base(**inputs, return_dict=True)  # whatever config.json says
    long = {"last hidden states": outputs.last_hidden_state[real]}
    inputs = sample_inputs(plan, short_length)
    real = inputs["attention_mask"].bool()
    if head == "ForMultipleChoice":
        inputs = {name: tensor[None] for name, tensor in inputs.items()}
    outputs = model(**inputs, output_hidden_states=True, return_dict=True)
    short = {"hidden states": torch.stack([states[real] for states in outputs.hidden_states[1:]])}
    for name, title in OUTPUTS.items():
        if outputs.get(name) is not None and not (name == "pooler_output" and plan.source.lacks_pooler):
            per_token = outputs[name].shape[:2] == real.shape
            short[title] = outputs[name][real] if per_token else outputs[name]
    return long, short


def sample_inputs(plan: Plan, length: int) -> dict[str, torch.Tensor]:
    """Two texts of random tokens and separators, the second half as long and padded: `(2, length)`."""
    config = plan.encoder
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    special = {config.pad_token_id, config.bos_token_id, config.sep_token_id, *ends}
    words = [token for token in range(config.vocab_size) if token not in special]
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.tensor(words)[torch.randint(len(words), (2, length), generator=generator)]
    if config.sep_token_id is not None:
        input_ids[:, length // 3] = config.sep_token_id
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length // 2 + 1 :] = 0
    input_ids[attention_mask == 0] = config.pad_token_id or 0
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if config.type_vocab_size > 1:
        inputs["token_type_ids"] = (torch.arange(length) > length // 3).long().expand(2, -1)
    if plan.source.family.is_long:  # its global projections may differ from the local ones
        inputs["global_attention_mask"] = torch.zeros_like(input_ids)
        inputs["global_attention_mask"][:, 0] = inputs["global_attention_mask"][0, length // 2] = 1
    return inputs


def _of_halves(plan: Plan, base: Any, model: Any, length: int) -> dict[str, torch.Tensor]:
    """Of encoder and decoder on texts as long as both take, of real tokens only, and what they write about them."""
    inputs = sample_inputs(plan, length)
    read = sample_inputs(plan, min(plan.config.decoder.max_position_embeddings, LONGEST_DECODED))["input_ids"]
    outputs = base(**inputs, decoder_input_ids=read, use_cache=False, return_dict=True)
    real = inputs["attention_mask"].bool()
    found = {
        "last hidden states": outputs.encoder_last_hidden_state[real],
        f"last hidden states of the decoder, {read.shape[1]} tokens of its own,": outputs.last_hidden_state,
    }
    if plan.source.head != "ForConditionalGeneration":
        return found
    tokens, states = min(GENERATED, plan.config.decoder.max_position_embeddings), outputs.encoder_last_hidden_state
    return found | {name: _written(model, inputs, states, beams, tokens) for name, beams in BEAMS.items()}


def _of_encoder_decoder(plan: Plan, model: Any, length: int) -> dict[str, torch.Tensor]:
    """Of the whole model on a short text, of real tokens only."""
    inputs = sample_inputs(plan, length)
    read = sample_inputs(plan, min(length, plan.config.decoder.max_position_embeddings))["input_ids"].flip(0)
    outputs = model(**inputs, decoder_input_ids=read, output_hidden_states=True, use_cache=False, return_dict=True)
    real = inputs["attention_mask"].bool()
    found = {
        "hidden states": torch.stack([states[real] for states in outputs.encoder_hidden_states[1:]]),
        "hidden states of the decoder": torch.stack(list(outputs.decoder_hidden_states[1:])),
    }
    return found if outputs.get("logits") is None else {**found, "logits": outputs.logits}


def _written(
    model: Any, inputs: dict[str, torch.Tensor], states: torch.Tensor, beams: int, tokens: int
) -> torch.Tensor:
    """What a model writes by its own settings, but with this many beams and tokens: `(2, tokens + 1)`."""
    settings = deepcopy(model.generation_config)
    length = {"max_length": tokens + 1, "min_length": tokens + 1, "max_new_tokens": None, "min_new_tokens": None}
    plain = {"do_sample": False, "num_return_sequences": 1, "return_dict_in_generate": False}
    unwanted = dict.fromkeys(("output_scores", "output_logits", "output_attentions", "output_hidden_states"), False)
    settings.update(num_beams=beams, **length, **plain, **unwanted)
    encoded = BaseModelOutput(last_hidden_state=states)  # which `generate` repeats for its beams
    written = model.generate(**inputs, encoder_outputs=encoded, generation_config=settings)
    return torch.nn.functional.pad(written, (0, tokens + 1 - written.shape[1]), value=-1)


def last_states(model: Any, input_ids: torch.Tensor, **masks: torch.Tensor) -> torch.Tensor:
    """Last hidden states of a model, and those of its decoder, if it has one, behind them: `(numbers,)`."""
    base = base_model(model)
    if not hasattr(base, "decoder"):
        return base(input_ids, **masks).last_hidden_state.flatten()
    outputs = base(input_ids, decoder_input_ids=input_ids[:, :SHORTEST_TEXT], use_cache=False, **masks)
    return torch.cat([outputs.encoder_last_hidden_state.flatten(), outputs.last_hidden_state.flatten()])


def settings_of(model: Any) -> dict[str, Any]:
    """How a model generates: what differs from Transformers' defaults; nothing if it does not generate."""
    settings = getattr(model, "generation_config", None)
    known = {} if settings is None else settings.to_diff_dict()
    return {name: value for name, value in known.items() if name not in NOT_SETTINGS}


def compute_in(dtype: torch.dtype, model: Any) -> Any:
    """Makes a model compute in another dtype, in which only the layer at work is held in memory.

    Args:
        dtype: To compute in.
        model: Any encoder, changed in place.
    """
    if model.dtype == dtype:
        return model
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    layers = [layer for one in lists for layer in one]  # of encoder and decoder
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in inside:
            parameter.data = parameter.data.to(dtype)
    stored: dict[torch.nn.Parameter, torch.Tensor] = {}

    def cast(layer: torch.nn.Module, inputs: Any) -> None:
        stored.update({parameter: parameter.data for parameter in layer.parameters()})
        layer.to(dtype)

    def put_back(layer: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        for parameter in layer.parameters():
            parameter.data = stored.pop(parameter)

    for layer in layers:
        layer.register_forward_pre_hook(cast)
        layer.register_forward_hook(put_back)
    return model
