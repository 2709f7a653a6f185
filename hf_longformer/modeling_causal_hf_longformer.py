# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model of section 4 of the paper: it predicts the next token, and generates."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import logging

from .cache_hf_longformer import RollingCache
from .configuration_hf_longformer import HfLongformerConfig
from .modeling_heads_hf_longformer import HfLongformerLanguageModel, loss_keywords, what_was_recorded
from .modeling_hf_longformer import HfLongformerKwargs
from .transformers_internals import CACHE_NAME, GenerationChecks, can_return_tuple, one_cache

logger = logging.get_logger(__name__)

# What `generate` takes for other models, and what there is instead.
NOT_IN_GENERATION = {
    "cache_implementation": "the model keeps what its windows can reach, in a RollingCache of its own: leave it out",
    "prefill_chunk_size": "the cost of a long prompt is linear: leave it out, or read segments with past_key_values",
    "output_attentions": "ask a pass over the whole text for them: model(…, output_attentions=True, use_cache=False)",
    "position_ids": "the model counts positions by attention_mask: leave them out",
    "token_type_ids": "generated tokens would have none: leave them out",
    "neighbour_ids": "chunks end while it writes: give the model something to find neighbours with (set_retriever)",
    "neighbour_mask": "chunks end while it writes: give the model something to find neighbours with (set_retriever)",
}
# Chunks `(n, m)` to what is found for them, `(n, k, r)` ids, and what of these is real, `(n, k, r)` bool.
Retriever = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class HfLongformerCausalLMOutput(CausalLMOutputWithPast):
    """Logits `(batch, S, vocab_size)`; attentions as in `HfLongformerModelOutput`."""

    global_attentions: tuple[torch.Tensor, ...] | None = None


class HfLongformerForCausalLM(HfLongformerLanguageModel, GenerationChecks, GenerationMixin):  # whose name is looked for
    """Predicts the next token, from windows that look back only.

    Generation, and reading a text in segments, keep what the windows can still reach (`RollingCache`): memory and time
    per token are constant, and the outputs are those of one pass over the whole text, to rounding.

    With `config.retrieval` it reads what was found for every chunk of `m` tokens in an index, as RETRO does (arXiv
    2112.04426): a token sees what was found for the last chunk that ended with it or before. A trained model that is
    loaded with `retrieval` computes what it did until the new weights are trained.

    Raises:
        ValueError: If `config.is_decoder` is not set.
    """

    takes_retrieval = True

    def __init__(self, config: HfLongformerConfig) -> None:
        if not config.is_decoder:
            raise ValueError("HfLongformerForCausalLM needs a causal configuration: set is_decoder=True, got False")
        super().__init__(config)
        self.retriever: Retriever | None = None

    def set_retriever(self, retriever: Retriever | None) -> None:
        """Takes what `generate` and `neighbours_of` find neighbours with; None takes it away.

        Args:
            retriever: A function of chunks `(n, chunk_size)` that gives ids `(n, neighbours, neighbour_length)` and
                what of them is real, bool: an open `hf_longformer.retrieval.Index`, for one.

        Raises:
            ValueError: If `config.retrieval` is not set, or the retriever is of other chunks.
        """
        settings = self.config.retrieval_settings
        if retriever is not None and self.config.retrieval is None:
            raise ValueError("a retriever is of models with config.retrieval, got config.retrieval=None")
        size = getattr(retriever, "chunk_size", settings["chunk_size"])
        if size != settings["chunk_size"]:
            raise ValueError(
                f"the index must be of chunks of {settings['chunk_size']} tokens, as the model's are, got {size}"
            )
        self.retriever = retriever

    def neighbours_of(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, read: int = 0
    ) -> dict[str, torch.Tensor]:
        """What the retriever finds for chunks of texts: arguments of `forward`, none where no chunk ends.

        Args:
            input_ids: `(batch, S)`, the texts from their beginning.
            attention_mask: `(batch, S)`, 1 for real tokens, over which chunks are counted; all, if left out.
            read: How many of the S tokens stand in a cache already: chunks that end there are left out.

        Raises:
            ValueError: If there is no retriever.
        """
        if self.retriever is None:
            raise ValueError("neighbours are found by a retriever: call set_retriever first, got none")
        size = self.config.retrieval_settings["chunk_size"]
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        real = real.bool()
        first, last = (real[:, :stop].sum(dim=1) // size for stop in (read, input_ids.shape[1]))
        ended = last - first
        if not int(ended.max()):
            return {}
        texts = [ids[chosen] for ids, chosen in zip(input_ids, real, strict=True)]
        bounds = zip(texts, (first * size).tolist(), (last * size).tolist(), strict=True)
        ids, mask = self.retriever(torch.cat([text[start:stop] for text, start, stop in bounds]).view(-1, size))
        ids, mask = ids.to(input_ids.device), mask.to(input_ids.device)
        place = torch.arange(int(ended.max()), device=input_ids.device) < ended[:, None]
        neighbour_ids = ids.new_zeros(*place.shape, *ids.shape[1:])
        neighbour_mask = torch.zeros_like(neighbour_ids, dtype=torch.bool)
        neighbour_ids[place], neighbour_mask[place] = ids, mask
        return {"neighbour_ids": neighbour_ids, "neighbour_mask": neighbour_mask}

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
        cache: RollingCache | None = None,
        neighbour_ids: torch.Tensor | None = None,
        neighbour_mask: torch.Tensor | None = None,
        **kwargs: Unpack[HfLongformerKwargs],
    ) -> tuple | HfLongformerCausalLMOutput:
        """Arguments as in `HfLongformerModel.forward`; `labels` `(batch, S)` are the tokens themselves, shifted here,
        and -100 where nothing is to be predicted.

        `logits_to_keep`: logits of so many last tokens only; 0: of all.
        """
        outputs = self.encode(
            input_ids,
            attention_mask,
            global_attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            past_key_values=one_cache(cache, past_key_values),
            use_cache=use_cache,
            neighbour_ids=neighbour_ids,
            neighbour_mask=neighbour_mask,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **loss_keywords(kwargs))
        kept = {CACHE_NAME: outputs.get(CACHE_NAME), **what_was_recorded(outputs)}
        return HfLongformerCausalLMOutput(loss=loss, logits=logits, **kept)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        past_key_values: RollingCache | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        cache: RollingCache | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `generate` passes on: the prompt at first, then what is new. The model counts positions."""
        past_key_values = one_cache(cache, past_key_values)
        is_first = not isinstance(past_key_values, RollingCache) or past_key_values.is_empty  # `forward` refuses others
        kept: dict[str, Any] = {
            name: kwargs[name] for name in ("use_cache", "logits_to_keep", "output_hidden_states") if name in kwargs
        }
        inputs: dict[str, Any] = {CACHE_NAME: past_key_values, "attention_mask": attention_mask, **kept}
        if is_first and inputs_embeds is not None:
            inputs["inputs_embeds"] = inputs_embeds
        elif is_first:
            inputs["input_ids"] = input_ids
        else:
            read = past_key_values.get_seq_length()
            inputs["input_ids"] = input_ids[:, read:] if input_ids.shape[1] > read else input_ids[:, -1:]
        if is_first:
            inputs["global_attention_mask"] = global_attention_mask
        if self.retriever is None:
            return inputs
        read = 0 if past_key_values is None else past_key_values.get_seq_length()
        if "inputs_embeds" in inputs or input_ids.shape[1] <= read:
            raise NotImplementedError(
                "neighbours are found for tokens of the whole text: pass them as input_ids, those in the cache too, or "
                f"set_retriever(None); got {'inputs_embeds' if is_first else f'{read} tokens in the cache alone'}"
            )
        return inputs | self.neighbours_of(input_ids, attention_mask, read)

    def check_generation(self, config: GenerationConfig, is_assisted: bool) -> None:
        """Refuses what this model, or a `RollingCache`, cannot do, before anything is read.

        Raises:
            NotImplementedError: If such a thing is asked for.
        """
        _refuse({name: getattr(config, name, None) for name in NOT_IN_GENERATION})
        if self.config.retrieval is not None and self.retriever is None:
            logger.warning_once("this model reads what is found in an index, and writes without: no set_retriever")
        if is_assisted:
            raise NotImplementedError(
                "assisted generation takes tokens back, and a RollingCache has forgotten what was before them: "
                "leave the assistant, or prompt_lookup_num_tokens, out"
            )

    def check_model_arguments(self, arguments: dict[str, Any]) -> None:
        """The same for what `generate` would pass on to `forward`."""
        asked = {name: arguments.get(name) for name in NOT_IN_GENERATION}
        types = asked["token_type_ids"]
        if types is not None and not types.any():  # what a tokenizer gives without being asked
            del asked["token_type_ids"]
        _refuse(asked)

    def default_length(self, read: int, wanted: int) -> int:
        """Without a length asked for, 20 tokens are generated, unless positions end before: those alone are learned."""
        limit = self.config.max_length_tokens if self.config.position_embedding_type == "absolute" else math.inf
        return int(max(read + 1, min(read + wanted, limit)))

    def check_length(self, length: int, arguments: dict[str, Any]) -> None:
        """Refuses at once what learned positions do not suffice for. The last token is not read again.

        Raises:
            ValueError: If there are too few.
        """
        mask, limit = arguments.get("attention_mask"), self.config.max_length_tokens
        if self.config.position_embedding_type != "absolute" or mask is None:
            return
        real = int(mask.sum(dim=1).max())
        new = length - mask.shape[1]
        if real + new - 1 > limit:
            raise ValueError(
                f"this model has learned {limit:,} positions, got a prompt of {real:,} tokens and {new:,} to generate: "
                f"ask for at most {max(0, limit + 1 - real):,} (max_new_tokens), or shorten the prompt"
            )


def _refuse(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None and value is not False:
            raise NotImplementedError(f"generate cannot do {name}={str(value)[:40]} here: {NOT_IN_GENERATION[name]}")


__all__ = ["HfLongformerForCausalLM"]
