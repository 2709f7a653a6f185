# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Parts of the models as other tools take them: named modules, outputs as tuples, weights of every call."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_ids, randomise, tiny_config
from torch import nn

import hf_longformer
from hf_longformer import HfLongformerForSequenceClassification, HfLongformerModel, dense_attention_weights

IDS = random_ids(2, 37)
HEADS: dict[str, dict[str, Any]] = {
    "Model": {},
    "ForMaskedLM": {"labels": IDS},
    "ForCausalLM": {"labels": IDS},
    "ForSequenceClassification": {"labels": torch.tensor([0, 1])},
    "ForQuestionAnswering": {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 4])},
    "ForTokenClassification": {"labels": IDS % 2},
    "ForMultipleChoice": {"labels": torch.tensor([0, 0])},
}


def make(head: str, **fields: Any) -> nn.Module:
    config = tiny_config(is_decoder=head == "ForCausalLM", **fields)
    return randomise(getattr(hf_longformer, f"HfLongformer{head}")(config))


@pytest.mark.parametrize("way", ["argument", "set", "loaded"])
@pytest.mark.parametrize(("head", "is_labelled"), list(product(HEADS, (False, True))))
def test_outputs_come_as_a_tuple(head: str, is_labelled: bool, way: str, tmp_path: Path):
    """The same values in the same order, asked for by the call or by the configuration."""
    model, asked = make(head), {}
    ids = IDS[:, None] if head == "ForMultipleChoice" else IDS
    inputs = {"input_ids": ids, "output_hidden_states": True, **(HEADS[head] if is_labelled else {})}
    expected = model(**inputs).to_tuple()
    if way == "argument":
        asked = {"return_dict": False}
    elif way == "set":
        model.config.return_dict = False
    else:
        model.save_pretrained(tmp_path)
        model = type(model).from_pretrained(tmp_path, return_dict=False).eval()
    found = model(**inputs, **asked)
    assert isinstance(found, tuple)
    assert len(found) == len(expected) >= 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("norm_style", ["post", "pre"])
def test_every_module_is_what_its_name_says(norm_style: str):
    """Tools choose modules by name, such as `LayerNorm`, and refuse what is none."""
    for head, size in product(HEADS, (None, 12)):
        model = make(head, norm_style=norm_style, embedding_size=size)
        assert not [name for name, module in model.named_modules() if isinstance(module, nn.Identity)]
        norms = [module for name, module in model.named_modules() if name.endswith("LayerNorm")]
        assert norms
        assert all(type(module) is nn.LayerNorm for module in norms)


def test_parts_can_be_called_alone():
    """As stock's can be: by hand, without a mask, they give what the model gives."""
    model = make("Model", global_attention="none")
    ids = IDS.clone()
    ids[1, 30:] = 1
    expected = model(ids)
    embedded = model.embeddings(ids)
    torch.testing.assert_close(
        embedded,
        model.embeddings(inputs_embeds=model.get_input_embeddings()(IDS)).where((ids == IDS)[..., None], embedded),
    )
    torch.testing.assert_close(model.encoder(embedded).last_hidden_state, expected.last_hidden_state)
    assert torch.equal(model.encoder(embedded)[0], model.encoder(embedded).last_hidden_state)


@pytest.mark.parametrize("head", ["Model", "ForCausalLM"])
def test_modules_return_tensors_that_can_be_cloned(head: str):
    """As tools that look into layers do with all they get."""
    model, found = make(head), []

    def clone(_: nn.Module, __: Any, output: Any) -> Any:
        found.append(1)
        return tuple(one.clone() for one in output) if isinstance(output, tuple) else output.clone()

    expected = model(IDS)[0]
    for name, module in model.named_modules():
        if ".layer.0" in name:
            module.register_forward_hook(clone)
    assert torch.equal(model(IDS)[0], expected)
    assert len(found) >= 10


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_weights_of_every_call_by_configuration(implementation: str, tmp_path: Path):
    """`config.output_attentions` changes neither the implementation nor the values."""
    model = make("ForSequenceClassification", attn_implementation=implementation)
    expected = model(IDS, output_attentions=True)
    model.save_pretrained(tmp_path)
    loaded = HfLongformerForSequenceClassification.from_pretrained(
        tmp_path, output_attentions=True, attn_implementation=implementation
    ).eval()
    by_default = HfLongformerForSequenceClassification.from_pretrained(tmp_path, output_attentions=True)
    assert by_default.config._attn_implementation == "sdpa"
    model.config.output_attentions = True
    for one in (model, loaded):
        assert one.config._attn_implementation == implementation
        found = one(IDS)
        torch.testing.assert_close(found.attentions, expected.attentions)
        torch.testing.assert_close(found.global_attentions, expected.global_attentions)
        assert one(IDS, output_attentions=False).attentions is None
    model.save_pretrained(tmp_path / "again")
    assert HfLongformerModel.from_pretrained(tmp_path / "again").config.output_attentions is True


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForQuestionAnswering", "ForMultipleChoice"])
def test_dense_weights_where_the_head_chose_the_global_tokens(head: str):
    model, ids = make(head), IDS.clone()
    ids[0, [5, 6]] = ids[1, [9, 10]] = 2
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    if head == "ForMultipleChoice":
        ids, mask = ids[:, None], mask[:, None]
    outputs = model(ids, attention_mask=mask, output_attentions=True)
    chosen = model.default_global_attention_mask(ids, mask)
    assert chosen.shape == (2, 37)
    dense = dense_attention_weights(outputs.attentions[0], outputs.global_attentions[0], chosen)
    torch.testing.assert_close(dense.sum(-1), mask.view(2, 1, 37).float().expand(-1, 3, -1))
    with pytest.raises(ValueError, match=r"model\.default_global_attention_mask\(input_ids, attention_mask\)"):
        dense_attention_weights(outputs.attentions[0], outputs.global_attentions[0])
