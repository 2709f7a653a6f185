# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model of section 4 of the paper: it predicts the next token, and generates."""

from dataclasses import dataclass
from typing import Any, Unpack

import torch
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from .cache_hf_longformer import RollingCache
from .configuration_hf_longformer import HfLongformerConfig
from .modeling_hf_longformer import (
    HfLongformerKwargs,
    HfLongformerLanguageModel,
    loss_keywords,
    what_was_recorded,
)


@dataclass
class HfLongformerCausalLMOutput(CausalLMOutputWithPast):
    """Logits `(batch, S, vocab_size)`; attentions as in `HfLongformerModelOutput`."""

    global_attentions: tuple[torch.Tensor, ...] | None = None


class HfLongformerForCausalLM(HfLongformerLanguageModel, GenerationMixin):
    """Predicts the next token, from windows that look back only.

    Generation, and reading a text in segments, keep what the windows can still reach (`RollingCache`): memory and time
    per token are constant, and the outputs are those of one pass over the whole text, to rounding.

    Raises:
        ValueError: If `config.is_decoder` is not set.
    """

    def __init__(self, config: HfLongformerConfig) -> None:
        if not config.is_decoder:
            raise ValueError("HfLongformerForCausalLM needs a causal configuration: set is_decoder=True, got False")
        super().__init__(config)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` begins a cache of our own

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: RollingCache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerCausalLMOutput:
        """Arguments as in `HfLongformerModel.forward`; `labels` `(batch, S)` are the tokens themselves, shifted here,
        and -100 where nothing is to be predicted.

        `logits_to_keep`: logits of so many last tokens only; 0: of all.
        """
        outputs = self.longformer(
            input_ids,
            attention_mask,
            global_attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **loss_keywords(kwargs))
        return HfLongformerCausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            **what_was_recorded(outputs),
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        past_key_values: RollingCache | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `generate` passes on: the prompt at first, then what is new. The model counts positions."""
        is_first = past_key_values is None or past_key_values.is_empty
        kept: dict[str, Any] = {
            name: kwargs[name] for name in ("use_cache", "logits_to_keep", "output_hidden_states") if name in kwargs
        }
        inputs: dict[str, Any] = {"past_key_values": past_key_values, "attention_mask": attention_mask, **kept}
        if is_first and inputs_embeds is not None:
            inputs["inputs_embeds"] = inputs_embeds
        elif is_first:
            inputs["input_ids"] = input_ids
        else:
            read = past_key_values.get_seq_length()
            inputs["input_ids"] = input_ids[:, read:] if input_ids.shape[1] > read else input_ids[:, -1:]
        if is_first:
            inputs["global_attention_mask"] = global_attention_mask
        return inputs


__all__ = ["HfLongformerForCausalLM"]
