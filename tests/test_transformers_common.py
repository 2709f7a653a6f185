# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Transformers' own common tests of models and configurations, run against all of our classes.

They stand in its source distribution, which `fetch_transformers_tests.py` fetches.
"""

import importlib
import sys
import unittest
from unittest.mock import patch

import pytest
import torch
from fetch_transformers_tests import FOLDER, PACKAGE, is_fetched
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerEncoderDecoderConfig,
    HfLongformerEncoderDecoderModel,
    HfLongformerForCausalLM,
    HfLongformerForConditionalGeneration,
    HfLongformerForMaskedLM,
    HfLongformerForMultipleChoice,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
    HfLongformerForTokenClassification,
    HfLongformerModel,
)

if not is_fetched():
    pytest.skip(
        "Transformers' common tests are not there: run `python tests/fetch_transformers_tests.py`",
        allow_module_level=True,
    )
sys.path.append(str(FOLDER))
with patch.object(pytest.mark, "_config", None):  # their markers are not ours, and ours are strict
    configuration_common = importlib.import_module(f"{PACKAGE}.test_configuration_common")
    modeling_common = importlib.import_module(f"{PACKAGE}.test_modeling_common")

# The common tests look up by class name what a model is for, in these tables rather than in the Auto classes.
TABLES = {
    HfLongformerModel: modeling_auto.MODEL_MAPPING_NAMES,
    HfLongformerForMaskedLM: modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    HfLongformerForSequenceClassification: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    HfLongformerForQuestionAnswering: modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    HfLongformerForTokenClassification: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    HfLongformerForMultipleChoice: modeling_auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
}


class HfLongformerModelTester:
    """A tiny model and a batch for it, in the form that the common tests ask for."""

    batch_size = 13
    seq_length = 7
    attention_window = 4  # shorter than the text, so that there is a band
    num_global = 2
    key_length = num_global + attention_window + 1  # columns of `attentions`
    is_training = True
    num_hidden_layers = 2
    num_attention_heads = 4
    hidden_size = 32
    num_choices = 4

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> HfLongformerConfig:
        return HfLongformerConfig(
            vocab_size=99,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=37,
            max_position_embeddings=40,
            attention_window=self.attention_window,
            num_labels=3,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[HfLongformerConfig, dict[str, torch.Tensor]]:
        config = self.get_config()
        shape = (self.batch_size, self.seq_length)
        # Rows with one, two and no global tokens, none of them among the two outer tokens, which tests pad.
        global_attention_mask = torch.zeros(shape, dtype=torch.long)
        global_attention_mask[:, 3] = 1
        global_attention_mask[1::2, 2] = 1
        global_attention_mask[2] = 0
        attention_mask = modeling_common.random_attention_mask(shape).cpu() | global_attention_mask
        # Padding has the padding id, real tokens do not: positions are counted by ids, or by the mask without ids.
        first_id = config.pad_token_id + 1
        input_ids = modeling_common.ids_tensor(shape, config.vocab_size - first_id).cpu() + first_id
        input_ids = input_ids.masked_fill(attention_mask == 0, config.pad_token_id)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "global_attention_mask": global_attention_mask,
            "token_type_ids": modeling_common.ids_tensor(shape, 2),
        }
        return config, {name: tensor.to(modeling_common.torch_device) for name, tensor in inputs.items()}


def set_layer_norm_eps(config: PreTrainedConfig) -> None:
    for one in (config, *(getattr(config, name) for name in config.sub_configs)):
        if hasattr(one, "layer_norm_eps"):
            one.layer_norm_eps = 1.0


class HfLongformerModelTest(modeling_common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = tuple(TABLES)
    additional_model_inputs = ["global_attention_mask"]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for model_class, table in TABLES.items():
            cls.enterClassContext(patch.dict(table, {HfLongformerConfig.model_type: model_class.__name__}))
        # The original sets `layer_norm_eps` and six attributes that other models have; our config refuses to load them.
        cls.enterClassContext(patch.object(modeling_common, "set_config_for_less_flaky_test", set_layer_norm_eps))

    def setUp(self) -> None:
        self.model_tester = HfLongformerModelTester(self)
        self.config_tester = configuration_common.ConfigTester(self, config_class=HfLongformerConfig, hidden_size=36)

    def test_config(self) -> None:
        common_fields = {  # in place of a table that is not in the source distribution
            "architectures": ["HfLongformerModel"],
            "chunk_size_feed_forward": 3,
            "dtype": "float16",
            "id2label": {0: "good", 1: "bad"},
            "label2id": {"good": 0, "bad": 1},
            "output_attentions": True,
            "output_hidden_states": True,
            "problem_type": "single_label_classification",
            "return_dict": False,
        }
        with patch.dict(configuration_common.config_common_kwargs, common_fields):
            self.config_tester.run_common_tests()


class HfLongformerCausalModelTester(HfLongformerModelTester):
    """The same for the causal model, with rotary positions: these have no global tokens."""

    num_global = 0
    key_length = HfLongformerModelTester.attention_window + 1

    def get_config(self) -> HfLongformerConfig:
        config = super().get_config()
        fields = {"is_decoder": True, "position_embedding_type": "rotary", "norm_style": "pre"}
        return HfLongformerConfig(**{**config.to_diff_dict(), **fields})

    def prepare_config_and_inputs_for_common(self) -> tuple[HfLongformerConfig, dict[str, torch.Tensor]]:
        config, inputs = super().prepare_config_and_inputs_for_common()
        return config, {name: inputs[name] for name in ("input_ids", "attention_mask")}


class HfLongformerForCausalLMTest(modeling_common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (HfLongformerForCausalLM,)
    all_generative_model_classes = ()  # tests of `generate` are not in the source distribution

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        table = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        cls.enterClassContext(patch.dict(table, {HfLongformerConfig.model_type: HfLongformerForCausalLM.__name__}))
        cls.enterClassContext(patch.object(modeling_common, "set_config_for_less_flaky_test", set_layer_norm_eps))

    def setUp(self) -> None:
        self.model_tester = HfLongformerCausalModelTester(self)


class HfLongformerEncoderDecoderTester(HfLongformerModelTester):
    """The same for the encoder-decoder, whose second text is as long as the first."""

    def get_config(self) -> HfLongformerEncoderDecoderConfig:
        size = {"vocab_size": 99, "max_position_embeddings": 40}
        encoder = {
            **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37},
            "attention_window": self.attention_window,
        }
        decoder = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 37}
        return HfLongformerEncoderDecoderConfig(encoder=size | encoder, decoder=size | decoder, num_labels=3)

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
        config, inputs = super().prepare_config_and_inputs_for_common()
        del inputs["token_type_ids"]
        first_id = config.pad_token_id + 1
        inputs["global_attention_mask"] *= self.num_global > 0
        written = modeling_common.ids_tensor(inputs["input_ids"].shape, config.vocab_size - first_id) + first_id
        return config, {**inputs, "decoder_input_ids": written}


class HfLongformerEncoderDecoderTest(modeling_common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (HfLongformerEncoderDecoderModel, HfLongformerForConditionalGeneration)
    all_generative_model_classes = ()  # tests of `generate` are not in the source distribution
    is_encoder_decoder = True
    additional_model_inputs = ["global_attention_mask"]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        for model_class, table in (
            (HfLongformerEncoderDecoderModel, modeling_auto.MODEL_MAPPING_NAMES),
            (HfLongformerForConditionalGeneration, modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        ):
            name = HfLongformerEncoderDecoderConfig.model_type
            cls.enterClassContext(patch.dict(table, {name: model_class.__name__}))
        cls.enterClassContext(patch.object(modeling_common, "set_config_for_less_flaky_test", set_layer_norm_eps))

    def setUp(self) -> None:
        self.model_tester = HfLongformerEncoderDecoderTester(self)
        self.config_tester = configuration_common.ConfigTester(self, config_class=HfLongformerEncoderDecoderConfig)

    def test_attention_outputs(self) -> None:
        """Without global tokens: their weights would be an output more than the test counts; and with as many keys in a
        window as there are tokens, since the test takes one number for both.
        """
        tester = self.model_tester
        tester.num_global, tester.attention_window, tester.key_length = 0, tester.seq_length - 1, tester.seq_length
        super().test_attention_outputs()
