# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""With the same weights the encoder-decoder and stock LED are the same function: states, logits, gradients of every
parameter, and what they write. And it is BART's where windows reach over the whole text.
"""

import random
import re

import pytest
import torch
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration, LEDConfig, LEDForConditionalGeneration

from hf_longformer import HfLongformerEncoderDecoderConfig, HfLongformerForConditionalGeneration
from hf_longformer.modeling_encoder_decoder_hf_longformer import OF_LED, OF_TIED_WORDS, OF_UNTIED_WORDS

FAST, ALL = 50, 200  # random models; the rest of them are among the slow tests


def random_config(draw: random.Random) -> LEDConfig:
    layers, heads = draw.randint(1, 3), draw.choice((1, 2, 4))
    base = draw.choice((4, 6))  # stock pads to a multiple of the largest window, and fails at a window of 2
    windows = [base * draw.choice((1, 2)) for _ in range(layers)]
    largest = max(windows)
    return LEDConfig(
        vocab_size=40,
        d_model=heads * draw.choice((2, 4)),
        encoder_layers=layers,
        decoder_layers=draw.randint(1, 2),
        encoder_attention_heads=heads,
        decoder_attention_heads=draw.choice([number for number in (1, 2, 4) if heads % number == 0]),
        encoder_ffn_dim=draw.choice((5, 16)),
        decoder_ffn_dim=draw.choice((7, 12)),
        max_encoder_position_embeddings=-(-60 // largest) * largest,
        max_decoder_position_embeddings=12,
        attention_window=windows,
        activation_function=draw.choice(("gelu", "relu", "gelu_new")),
        tie_word_embeddings=draw.random() < 0.7,
    )


def random_batch(draw: random.Random) -> dict[str, torch.Tensor]:
    """Ragged texts with ragged global tokens, none at times; and what is to be written about them."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    batch, length = draw.randint(1, 3), draw.choice((1, 2, 5, 12, 13, 31, 50))
    lengths = [length, *(draw.randint(1, length) for _ in range(batch - 1))]
    ids = torch.randint(3, 40, (batch, length), generator=generator)
    mask = torch.zeros_like(ids)
    for row, real in enumerate(lengths):
        mask[row, :real] = 1
    ids[mask == 0] = 1
    share = draw.choice((0.0, 0.1, 0.6))
    marked = (torch.rand(ids.shape, generator=generator) < share).long() * mask
    labels = torch.randint(3, 40, (batch, draw.randint(1, 8)), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = -100
    labels[:, 0] = 5
    return {"input_ids": ids, "attention_mask": mask, "global_attention_mask": marked, "labels": labels}


def randomised(model: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*model.parameters(), model.final_logits_bias):
        with torch.no_grad():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.4)
    return model.double().eval()


def ours_of(stock: nn.Module, implementation: str = "sdpa") -> nn.Module:
    """Our model with the weights of a stock one, name by name."""
    names = OF_LED | (OF_TIED_WORDS if stock.config.tie_word_embeddings else OF_UNTIED_WORDS)
    ours = HfLongformerForConditionalGeneration._from_config(stock.config, attn_implementation=implementation).double()
    left = ours.state_dict()
    for name, tensor in stock.state_dict().items():
        for old, new in names.items():
            name = re.sub(old, new, name)
        if name in left:
            left.pop(name).copy_(tensor)
    assert not left
    return ours.eval()


def names_in_stock(ours: nn.Module, stock: nn.Module) -> dict[str, str]:
    """For every parameter of ours, the one of stock's that has its weights."""
    names = OF_LED | (OF_TIED_WORDS if stock.config.tie_word_embeddings else OF_UNTIED_WORDS)
    found = {}
    for name, _ in stock.named_parameters():
        new = name
        for old, by in names.items():
            new = re.sub(old, by, new)
        found[new] = name
    return {name: found[name] for name, _ in ours.named_parameters()}


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    scale = max(1.0, theirs.abs().max().item())
    error = (ours - theirs).abs().max().item()
    assert error <= 1e-10 * scale, f"{what}: {error:.1e} of {scale:.1e}"


TENS = [pytest.param(first, marks=[] if first < FAST else [pytest.mark.slow]) for first in range(0, ALL, 10)]


@pytest.mark.usefixtures("softmax_in_its_own_dtype")
@pytest.mark.parametrize("seed", TENS)
def test_random_models_equal_led(seed: int):
    for number in range(seed, seed + 10):
        draw = random.Random(number)
        stock = randomised(LEDForConditionalGeneration(random_config(draw)), number)
        ours = ours_of(stock, draw.choice(("sdpa", "eager", "blocked")))
        inputs = random_batch(draw)
        real = inputs["attention_mask"].bool()
        theirs, mine = stock(**inputs), ours(**inputs)
        assert_near(
            mine.encoder_last_hidden_state[real], theirs.encoder_last_hidden_state[: len(real)][real], "encoder"
        )
        assert_near(mine.logits, theirs.logits, "logits")
        assert_near(mine.loss, theirs.loss, "loss")
        theirs.loss.backward()
        mine.loss.backward()
        expected = dict(stock.named_parameters())
        for name, parameter in ours.named_parameters():
            grad, of_stock = parameter.grad, expected[names_in_stock(ours, stock)[name]].grad
            zeros = torch.zeros_like(parameter)
            assert_near(zeros if grad is None else grad, zeros if of_stock is None else of_stock, name)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_equals_led(seed: int):
    draw = random.Random(seed)
    stock = randomised(LEDForConditionalGeneration(random_config(draw)), seed)
    ours = ours_of(stock)
    inputs = random_batch(draw)
    del inputs["labels"]
    for settings in (
        {},
        {"num_beams": 4},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 2.0, "no_repeat_ngram_size": 2},
        {"do_sample": True, "top_k": 5, "num_return_sequences": 2},
    ):
        written = []
        for model in (stock, ours):
            read = dict(inputs)
            if "do_sample" in settings:  # some releases of stock's encoder draw numbers, too
                read = {"attention_mask": read["attention_mask"], "encoder_outputs": model.get_encoder()(**read)}
            torch.manual_seed(seed)
            written.append(model.generate(**read, **settings, max_new_tokens=9, pad_token_id=1))
        assert torch.equal(*written), settings


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("tie", [True, False])
def test_bart_is_a_window_over_the_whole_text(scale: bool, tie: bool):
    config = BartConfig(
        **{"vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4},
        **{"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20, "max_position_embeddings": 20},
        **{"scale_embedding": scale, "tie_word_embeddings": tie},
    )
    bart = randomised(BartForConditionalGeneration(config), 0)
    ours = randomised(HfLongformerForConditionalGeneration(HfLongformerEncoderDecoderConfig.of_bart(config, 60, 38)), 1)
    state = bart.state_dict()
    named = {
        f"led.{name.removeprefix('model.')}": tensor for name, tensor in state.items() if name.startswith("model.")
    }
    left, names = ours.state_dict(), OF_LED | (OF_TIED_WORDS if tie else OF_UNTIED_WORDS)
    for name, tensor in named.items():
        name = name.replace(".self_attn.out_proj.", ".self_attn.output.") if ".encoder." in name else name
        for one, other in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            if ".encoder." in name:
                name = name.replace(f"self_attn.{one}", f"self_attn.longformer_self_attn.{other}")
        for old, new in names.items():
            name = re.sub(old, new, name)
        if "position" in name:
            rows = tensor[2:]
            tensor = rows.repeat(3, 1) if "encoder." in name.removeprefix("model.")[:8] else rows
        if name in left:
            left.pop(name).copy_(tensor)
        if ".attention.self." in name:
            left.pop(re.sub(r"(query|key|value)", r"\1_global", name)).copy_(tensor)
    left.pop("final_logits_bias").copy_(state["final_logits_bias"])
    left.pop("lm_head.weight").copy_(state["lm_head.weight"])
    assert not left, left.keys()
    ids = torch.randint(3, 40, (2, 20))
    mask = torch.ones_like(ids)
    mask[1, 14:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": torch.randint(3, 40, (2, 7))}
    theirs, mine = bart(**inputs), ours(**inputs)
    real = mask.bool()
    assert_near(mine.encoder_last_hidden_state[real], theirs.encoder_last_hidden_state[real], "encoder")
    assert_near(mine.logits, theirs.logits, "logits")
    del inputs["labels"]
    for beams in (1, 4):
        settings = {"num_beams": beams, "max_new_tokens": 12, "forced_eos_token_id": 2}
        assert torch.equal(bart.generate(**inputs, **settings), ours.generate(**inputs, **settings))
