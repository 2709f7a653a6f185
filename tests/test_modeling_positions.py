# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What decides positions: `attention_mask`, and ids only where there is none. One rule for one pass, segments,
generation, embeddings, compiled and padded batches, encoder and causal.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import randomise, tiny_config
from transformers import LongformerConfig, LongformerModel

from hf_longformer import HfLongformerForCausalLM, HfLongformerForMaskedLM, HfLongformerModel
from hf_longformer.transformers_internals import CACHE_NAME

POSITIONS = ("absolute", "rotary", "relative")
# pad_token_id and eos_token_id of the model, and the id that stands where the mask is 0.
SPECIAL = {
    "own id": (1, 2, 1),
    "another id": (1, 2, 7),
    "the end of a text": (2, 2, 2),
    "one of two ends": (2, [9, 2], 2),
    "none": (None, 2, 7),
}
LENGTH, PADDED = 40, 9


def make(kind: str = "absolute", special: str = "own id", is_decoder: bool = True, **fields: Any) -> Any:
    pad, end, _ = SPECIAL[special]
    fields = {"pad_token_id": pad, "eos_token_id": end, "position_embedding_type": kind, **fields}
    head = HfLongformerForCausalLM if is_decoder else HfLongformerForMaskedLM
    return randomise(head(tiny_config(is_decoder=is_decoder, hidden_size=24, num_attention_heads=2, **fields))).double()


def text(special: str, side: str = "left") -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts in which ids that often stand for padding are words, the second of them padded."""
    pad, _, filler = SPECIAL[special]
    ids = torch.randint(5, 99, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[:, 12] = ids[:, 25] = filler if pad is None else pad
    mask = torch.ones_like(ids)
    mask[1, slice(0, PADDED) if side == "left" else slice(LENGTH - PADDED, LENGTH)] = 0
    return ids.where(mask.bool(), torch.tensor(filler)), mask


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["encoder", *POSITIONS])
def test_a_padded_text_is_what_it_is_alone(kind: str, side: str, special: str):
    """Whatever id stands for padding, and whatever ids the text holds; by ids and by embeddings."""
    model = make("absolute" if kind == "encoder" else kind, special, is_decoder=kind != "encoder")
    ids, mask = text(special, side)
    real = mask[1].bool()
    alone = model(ids[1:, real], attention_mask=mask[1:, real]).logits[0]
    embeddings = model.get_input_embeddings()(ids)
    for given in ({"input_ids": ids}, {"inputs_embeds": embeddings}):
        torch.testing.assert_close(model(**given, attention_mask=mask).logits[1, real], alone)
    torch.testing.assert_close(model(inputs_embeds=embeddings[1:, real]).logits[0], alone)


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("kind", POSITIONS)
def test_one_pass_is_segments_is_generation(kind: str, special: str):
    model = make(kind, special)
    ids, mask = text(special)
    with torch.no_grad():
        whole, cache, found = model(ids, attention_mask=mask).logits, None, []
        for start, end in ((0, 14), (14, 15), (15, 33), (33, LENGTH)):  # given as `generate` does, and by themselves
            given = mask[:, :end] if start % 2 else mask[:, start:end]
            output = model(ids[:, start:end], attention_mask=given, use_cache=True, past_key_values=cache)
            cache = output[CACHE_NAME]
            found.append(output.logits)
    torch.testing.assert_close(torch.cat(found, dim=1)[mask.bool()], whole[mask.bool()])
    settings: dict[str, Any] = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 1}
    settings |= {"output_logits": True, "return_dict_in_generate": True}
    by_cache, without = (model.generate(ids, attention_mask=mask, use_cache=c, **settings) for c in (True, False))
    assert torch.equal(by_cache.sequences, without.sequences)
    more = torch.cat([mask, torch.ones(2, 11, dtype=torch.long)], dim=1)
    expected = model(by_cache.sequences[:, :-1], attention_mask=more).logits[:, LENGTH - 1 :].float()
    for outputs in (by_cache, without):
        torch.testing.assert_close(torch.stack(outputs.logits, dim=1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("special", ["the end of a text", "one of two ends", "none"])
def test_without_a_mask_no_id_is_padding_if_it_may_be_a_word(special: str):
    """As `generate` decides: it makes a mask by ids only if padding does not end texts, too."""
    for is_decoder in (False, True):
        model = make("absolute", special, is_decoder)
        ids, _ = text(special)
        expected = model(ids, attention_mask=torch.ones_like(ids)).logits
        torch.testing.assert_close(model(ids).logits, expected)
    settings: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    tokens = model.generate(ids, **settings, pad_token_id=model.config.pad_token_id)
    assert torch.equal(tokens, model.generate(ids, attention_mask=torch.ones_like(ids), **settings, pad_token_id=2))
    output = model(ids[:, :20], use_cache=True)
    torch.testing.assert_close(model(ids[:, 20:], past_key_values=output[CACHE_NAME]).logits, expected[:, 20:])


def test_without_a_mask_ids_decide_as_in_roberta():
    """Also in segments: what took no position in the first is not counted in the second."""
    model = make()
    ids, _ = text("own id")
    number = (ids != 1).long().cumsum(1)
    expected = model(ids, position_ids=(number + 1).where(ids != 1, torch.tensor(1))).logits
    torch.testing.assert_close(model(ids).logits, expected)
    with torch.no_grad():
        cache = model(ids[:, :20], use_cache=True)[CACHE_NAME]
        torch.testing.assert_close(model(ids[:, 20:], past_key_values=cache).logits, expected[:, 20:])


def test_where_the_mask_and_ids_agree_positions_are_those_of_stock():
    fields: dict[str, Any] = {"hidden_size": 24, "num_attention_heads": 2}
    config = tiny_config(**fields)
    stock_config = LongformerConfig(
        **{name: getattr(config, name) for name in vars(LongformerConfig()) if hasattr(config, name)}
    )
    stock = LongformerModel(stock_config, add_pooling_layer=False).eval()
    ours = HfLongformerModel(config, add_pooling_layer=False).eval()
    ours.load_state_dict(stock.state_dict(), strict=False)
    for side in ("left", "right"):
        ids, mask = text("own id", side)
        ids[:, [12, 25]] = 30
        expected, real = stock(ids, attention_mask=mask).last_hidden_state, mask.bool()
        torch.testing.assert_close(ours(ids, attention_mask=mask).last_hidden_state[real], expected[real])


@pytest.mark.parametrize("way", ["set", "loaded", "saved"])
def test_positions_stay_where_they_were_learned_whatever_stands_for_padding(way: str, tmp_path: Path):
    """`Trainer` and users give a model the `pad_token_id` of a tokenizer, often the end of a text."""
    model = make(is_decoder=False, special="own id").float()
    ids, mask = text("own id")
    expected = model(ids, attention_mask=mask).logits
    model.save_pretrained(tmp_path / "first")
    if way == "loaded":
        model = HfLongformerForMaskedLM.from_pretrained(tmp_path / "first", pad_token_id=2)
    else:
        model.config.pad_token_id = 2
    if way == "saved":
        model.save_pretrained(tmp_path / "second")
        model = HfLongformerForMaskedLM.from_pretrained(tmp_path / "second")
    assert (model.config.pad_token_id, model.config.first_position) == (2, 2)
    torch.testing.assert_close(model.eval()(ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("special", ["own id", "another id", "none"])
def test_compiled_and_exported_models_count_alike(special: str):
    model = make("absolute", special, is_decoder=False).float()
    ids, mask = text(special)
    expected = model(ids, attention_mask=mask).logits
    real = mask.bool()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(ids, attention_mask=mask).logits[real], expected[real])
    program = torch.export.export(model, (), {"input_ids": ids, "attention_mask": mask})
    exported = program.module()(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(exported[real], expected[real])
