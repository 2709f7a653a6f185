# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What is used of Transformers beyond its documented names, all of it in this file: a new release can break the package
here, and nowhere else. Every name says what documented way there is instead, or that there is none.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import initialization  # `torch.nn.init` would overwrite weights that were loaded: no other way
from transformers.cache_utils import DynamicSlidingWindowLayer  # no public layer keeps a window; `Cache` takes layers
from transformers.generation import GenerationConfig, GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer  # of remote code, too: no other way is documented
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.bart.modeling_bart import BartDecoder  # public names have it in whole models alone
from transformers.utils import (
    cached_file,  # `hf_hub_download` knows no folders
    can_return_tuple,  # five lines that every stock model has
    is_tracing,  # `torch.compiler` knows fewer tracers
    logging,
)

# Hooks that collect hidden states and attentions: none is public.
from transformers.utils.output_capturing import (
    OutputRecorder,
    capture_outputs,
)

logger = logging.get_logger(__name__)

OLDEST, NEWEST = "5.17.0", "5.24.0"  # the releases between which everything is tested

# What Transformers calls a cache where it passes or returns one: `past_key_values`, and from 5.24 on `cache`.
CACHE_NAME = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
# What it calls computing activations again instead of keeping them: `gradient_checkpointing`, from 5.23 on otherwise.
CHECKPOINTING = (
    "activation_checkpointing"
    if hasattr(transformers.PreTrainedModel, "activation_checkpointing_enable")
    else "gradient_checkpointing"
)

# Members with a leading underscore that classes of this package set or override where they are defined, and why.
DOCUMENTED_FOR_CUSTOM_MODELS = "the documented way of custom models"
OVERRIDDEN = {
    "_can_record_outputs": "what `capture_outputs` reads",
    "_can_set_attn_implementation": "theirs searches the source of a model for a name",
    "_from_config": "what `AutoModel.from_config` calls",
    "_init_weights": DOCUMENTED_FOR_CUSTOM_MODELS,
    "_input_embed_layer": "otherwise `get_input_embeddings` and its counterpart, both written out",
    "_no_split_modules": DOCUMENTED_FOR_CUSTOM_MODELS,
    "_supports_flash_attn": DOCUMENTED_FOR_CUSTOM_MODELS,
    "_supports_flex_attn": DOCUMENTED_FOR_CUSTOM_MODELS,
    "_supports_sdpa": DOCUMENTED_FOR_CUSTOM_MODELS,
    "_tied_weights_keys": DOCUMENTED_FOR_CUSTOM_MODELS,
}


def one_cache(cache: Any, past_key_values: Any) -> Any:
    """The cache that was given under either name; None if there is none.

    Raises:
        ValueError: If two were given.
    """
    if cache is not None and past_key_values is not None:
        raise ValueError("cache and past_key_values are two names of one argument, got both: leave past_key_values out")
    return past_key_values if cache is None else cache


class GenerationChecks(GenerationMixin):
    """`GenerationMixin` that asks the model at four points; `generate` itself cannot be wrapped, since what is to be
    checked is worked out inside.
    """

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` begins a cache of its own

    def generate(self, *args: Any, cache: Any = None, past_key_values: Any = None, **kwargs: Any) -> Any:
        """As Transformers' own, with a cache under either name."""
        given = one_cache(cache, past_key_values)
        if given is not None:
            kwargs[CACHE_NAME] = given
        return super().generate(*args, **kwargs)  # type: ignore[misc]

    def check_generation(self, config: GenerationConfig, is_assisted: bool) -> None:
        """Refuses what cannot be had, before anything is read."""

    def check_model_arguments(self, arguments: dict[str, Any]) -> None:
        """Refuses arguments of `forward` that cannot be had."""

    def default_length(self, read: int, wanted: int) -> int:
        """Tokens in all where nobody asked for a number, from those of the prompt and what Transformers would take."""
        return read + wanted

    def check_length(self, length: int, arguments: dict[str, Any]) -> None:
        """Refuses more tokens than the model can have."""

    def _validate_generation_mode(self, generation_mode: Any, generation_config: GenerationConfig, *args: Any) -> None:
        self.check_generation(generation_config, generation_mode.value == "assisted_generation")
        super()._validate_generation_mode(generation_mode, generation_config, *args)  # type: ignore[misc]

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        self.check_model_arguments(model_kwargs)
        super()._validate_model_kwargs(model_kwargs)  # type: ignore[misc]

    def _prepare_generated_length(
        self, generation_config: GenerationConfig, has_default_max_length: bool, *args: Any, **kwargs: Any
    ) -> GenerationConfig:
        by_default = generation_config.max_length
        prepared = super()._prepare_generated_length(  # type: ignore[misc]
            generation_config, has_default_max_length, *args, **kwargs
        )
        if has_default_max_length and generation_config.max_new_tokens is None:
            prepared.max_length = self.default_length(kwargs["input_ids_length"], by_default)
        return prepared

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        self.check_length(generation_config.max_length, model_kwargs)
        return super()._prepare_cache_for_generation(  # type: ignore[misc]
            generation_config, model_kwargs, *args, **kwargs
        )


def auto_mappings(model_type: str) -> list[tuple[Any, str]]:
    """The mapping of every `AutoModel…` class that knows a model type, from classes of configurations to classes of
    models, and the name of the model that Transformers itself has there. No list of these is documented.
    """
    classes = [getattr(transformers, name) for name in dir(transformers) if name.startswith("AutoModel")]
    mappings = [auto_class._model_mapping for auto_class in classes if auto_class._model_mapping is not None]
    known = [(mapping, mapping._model_mapping.get(model_type)) for mapping in mappings]
    return [(mapping, name) for mapping, name in known if name is not None]


def registered(mapping: Any) -> dict[Any, Any]:
    """What was registered with the mapping of an Auto class, which comes first there: `register` cannot be undone."""
    return mapping._extra_content


@cache
def trainer_samplers() -> tuple[Any, Any]:
    """`BatchRebalanceSampler`, which `Trainer` leaves as it is in runs of several processes (there is no other such
    class), and `LengthGroupedSampler`. Imported where they are needed, as all that only training needs.
    """
    from transformers.trainer_pt_utils import BatchRebalanceSampler, LengthGroupedSampler

    return BatchRebalanceSampler, LengthGroupedSampler


@cache
def trainer_with_hooks() -> Any:
    """`Trainer` that asks its methods `train_sampler`, `eval_sampler` and `items_in_batch`, and offers
    `prepared_inputs`. The documented way, data loaders of one's own, would repeat what `Trainer` does for several
    processes.
    """
    from transformers import Trainer

    class TrainerWithHooks(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return self.train_sampler()

        def _get_eval_sampler(self, eval_dataset: Any) -> Any:
            return self.eval_sampler(eval_dataset)

        def _get_num_items_in_batch(self, batch_samples: list, device: Any) -> Any:
            return self.items_in_batch(batch_samples, device)

        def train_sampler(self) -> Any:
            """The order of the training data."""
            return super()._get_train_sampler(self.train_dataset)

        def eval_sampler(self, dataset: Any) -> Any:
            """The order of data to be measured."""
            return super()._get_eval_sampler(dataset)

        def items_in_batch(self, batches: list, device: Any) -> Any:
            """What the loss of a step is divided by."""
            return super()._get_num_items_in_batch(batches, device)

        def prepared_inputs(self, inputs: Any) -> Any:
            """A batch on the device."""
            return self._prepare_inputs(inputs)

    return TrainerWithHooks


def find_file(checkpoint: str, name: str, **where: Any) -> Path | None:
    """A file of a folder, or of a Hub name; None if there is none, or nobody to ask.

    Args:
        checkpoint: The folder or the name.
        name: Of the file.
        **where: `revision`, `local_files_only`.
    """
    found = cached_file(
        checkpoint,
        name,
        **where,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def warn_if_untested(version: str = transformers.__version__) -> None:
    """Says, in one line, that the installed Transformers is newer than all that the package was tested with."""
    if release(version) > release(NEWEST):
        logger.warning(
            f"hf-longformer was tested with Transformers {OLDEST} to {NEWEST}, got {version}, which is newer: should "
            f"anything be odd, try `pip install 'transformers<={NEWEST}'`"
        )


def release(version: str) -> tuple[int, ...]:
    """Major and minor number: patches change no interface."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


__all__ = [
    "CACHE_NAME",
    "CHECKPOINTING",
    "NEWEST",
    "OLDEST",
    "OVERRIDDEN",
    "BartDecoder",
    "DynamicSlidingWindowLayer",
    "GenerationChecks",
    "GradientCheckpointingLayer",
    "OutputRecorder",
    "auto_mappings",
    "can_return_tuple",
    "capture_outputs",
    "find_file",
    "initialization",
    "is_tracing",
    "one_cache",
    "registered",
    "release",
    "trainer_samplers",
    "trainer_with_hooks",
    "warn_if_untested",
]
