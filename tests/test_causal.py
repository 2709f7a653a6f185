# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`HfLongformerForCausalLM`: exact in every kind of positions, step by step, in segments, and in generation."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_config
from transformers import AutoModelForCausalLM, DynamicCache

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerForCausalLM,
    HfLongformerModel,
    RollingCache,
    dense_attention_weights,
)
from hf_longformer.attention_causal import causal_rows
from hf_longformer.attention_decoder_hf_longformer import sinusoids
from hf_longformer.attention_reference import attention_reference
from hf_longformer.transformers_internals import CACHE_NAME, CHECKPOINTING
from hf_longformer.window_pattern import WindowPattern

POSITIONS = ("absolute", "rotary", "relative")
DILATIONS = {"none": 1, "layers": [1, 3], "heads": [[1, 1, 2, 3], [2, 1, 2, 2]]}


def make_model(dtype: torch.dtype = torch.float64, **options: Any) -> HfLongformerForCausalLM:
    torch.manual_seed(0)
    fixed: dict[str, Any] = {
        "is_decoder": True,
        "attention_window": [6, 10],
        "max_position_embeddings": 400,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.3,
        "num_hidden_layers": 2,
        "hidden_size": 24,
        "num_attention_heads": 4,
    }
    return HfLongformerForCausalLM(tiny_config(**{**fixed, **options})).to(dtype).eval()


def make_ids(length: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 40, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm_style", ["post", "pre"])
@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("length", [1, 7, 150])
def test_fast_path_is_the_definition(positions: str, dilation: str, norm_style: str, length: int) -> None:
    """Logits and every gradient, beside the dense reference, with padding on either side."""
    ids = make_ids(length)
    mask = torch.ones_like(ids)
    mask[0, : length // 3] = 0
    mask[1, length - length // 4 :] = 0
    options = {"position_embedding_type": positions, "norm_style": norm_style}
    found = {}
    for implementation in ("eager", "sdpa"):
        model = make_model(attention_dilation=DILATIONS[dilation], **options)
        model.set_attn_implementation(implementation)
        output = model(ids.where(mask.bool(), 1), attention_mask=mask, labels=ids.where(mask.bool(), -100))
        if output.loss.isfinite():
            output.loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found[implementation] = (output.logits[mask.bool()], gradients)
    torch.testing.assert_close(found["sdpa"][0], found["eager"][0], atol=1e-9, rtol=1e-7)
    for name, gradient in found["eager"][1].items():
        torch.testing.assert_close(
            found["sdpa"][1].get(name, torch.zeros_like(gradient)), gradient, atol=1e-9, rtol=1e-6
        )


def test_relative_scores_are_those_of_transformer_xl() -> None:
    """Worked out token by token from the formula."""
    model = make_model(
        position_embedding_type="relative", num_hidden_layers=1, attention_window=6, attention_dilation=2
    )
    attention = model.longformer.encoder.layer[0].attention.self
    states = torch.randn(1, 14, 24, dtype=torch.float64)
    roles = type("Roles", (), {"num_global": 0, "not_in_windows": None, "is_global": None, "key_padding_mask": None})()
    found = attention(states, roles)[0]
    heads, size = 4, 6
    query, key, value = (p(states).view(14, heads, size) for p in (attention.query, attention.key, attention.value))
    for row in range(14):
        columns = [row - 2 * step for step in range(4) if row - 2 * step >= 0]
        for head in range(heads):
            scores = []
            for column in columns:
                sines = sinusoids(torch.tensor([float(row - column)], dtype=torch.float64), 24)[0]
                distance = attention.relative(sines).view(heads, size)[head]
                content = (query[row, head] + attention.content_bias[head]) @ key[column, head]
                scores.append((content + (query[row, head] + attention.position_bias[head]) @ distance) / size**0.5)
            weights = torch.stack(scores).softmax(dim=0)
            expected = sum(weight * value[column, head] for weight, column in zip(weights, columns, strict=True))
            torch.testing.assert_close(found[0, row, head * size : (head + 1) * size], expected)


@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("positions", POSITIONS)
def test_step_by_step_is_one_pass(positions: str, dilation: str) -> None:
    """At every position, far past what the cache keeps, with left padding in one row."""
    model = make_model(position_embedding_type=positions, attention_dilation=DILATIONS[dilation])
    ids = make_ids(60)
    mask = torch.ones_like(ids)
    mask[1, :9] = 0
    ids = ids.where(mask.bool(), 1)
    with torch.no_grad():
        whole = model(ids, attention_mask=mask).logits
        cache, found = None, []
        for step in range(60):
            output = model(
                ids[:, step : step + 1], attention_mask=mask[:, : step + 1], past_key_values=cache, use_cache=True
            )
            cache = output.past_key_values
            found.append(output.logits)
    real = mask.bool()
    torch.testing.assert_close(torch.cat(found, dim=1)[real], whole[real], atol=1e-9, rtol=1e-7)
    assert all(layer.keys.shape[2] <= cache.reach for layer in cache.layers)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("sizes", [(1, 1, 58), (30, 30), (7, 29, 1, 23), (59, 1)])
def test_segments_are_one_pass(positions: str, sizes: tuple[int, ...]) -> None:
    model = make_model(position_embedding_type=positions, attention_dilation=DILATIONS["heads"])
    ids = make_ids(60)
    with torch.no_grad():
        whole = model(ids).logits
        cache, found = None, []
        for segment in ids.split(sizes, dim=1):
            output = model(segment, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found.append(output.logits)
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-9, rtol=1e-7)


def test_global_tokens_of_the_first_segment_are_kept() -> None:
    """Long after the windows have left them behind; in a later segment they are refused."""
    model = make_model(attention_dilation=[1, 2])
    ids, chosen = make_ids(60), torch.zeros(2, 60, dtype=torch.long)
    chosen[0, 2] = chosen[1, [0, 5]] = 1
    chosen[0, 7] = 1
    with torch.no_grad():
        whole = model(ids, global_attention_mask=chosen).logits
        assert not torch.allclose(whole, model(ids).logits)
        output = model(ids[:, :20], global_attention_mask=chosen[:, :20], use_cache=True)
        found = [output.logits]
        for step in range(20, 60):
            output = model(ids[:, step : step + 1], past_key_values=output.past_key_values)
            found.append(output.logits)
        torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-9, rtol=1e-7)
        with pytest.raises(NotImplementedError, match="first segment, got 1 in a later one"):
            model(ids[:, :5], global_attention_mask=chosen[:, 2:7], past_key_values=output.past_key_values)


@pytest.mark.parametrize("kind", ["cls", "question"])
def test_global_attention_by_default_is_decided_once_per_text(kind: str) -> None:
    """In the first segment, by the configuration: one pass, segments and generation agree; also padded on the left."""
    model = make_model(global_attention=kind, sep_token_id=2, eos_token_id=None)
    ids = make_ids(40)
    mask = torch.ones_like(ids)
    mask[1, :6] = 0
    ids[:, 9] = 2
    with torch.no_grad():
        whole = model(ids, attention_mask=mask).logits
        nothing = model(ids, attention_mask=mask, global_attention_mask=torch.zeros_like(ids)).logits
        assert not torch.allclose(whole[:, 30:], nothing[:, 30:])
        cache, found = None, []
        for start, end in ((0, 12), (12, 13), (13, 40)):
            output = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
            cache = output[CACHE_NAME]
            found.append(output.logits)
        found_logits = torch.cat(found, dim=1)
    torch.testing.assert_close(found_logits[mask.bool()], whole[mask.bool()], atol=1e-9, rtol=1e-7)
    settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 15, "do_sample": False, "pad_token_id": 1}
    assert torch.equal(model.generate(ids, **settings), model.generate(ids, use_cache=False, **settings))
    cache = model(ids[:, :4], attention_mask=mask[:, :4], use_cache=True)[CACHE_NAME]  # the second text begins later
    with pytest.raises(NotImplementedError, match="must stand in the first segment, got 1 "):
        model(ids[:, 4:], attention_mask=mask, past_key_values=cache)


def test_cache_keeps_what_each_run_of_heads_can_reach() -> None:
    model = make_model(attention_dilation=DILATIONS["heads"], position_embedding_type="rotary")
    with torch.no_grad():
        cache = model(make_ids(200), use_cache=True).past_key_values
    assert [tuple(layer.keys.shape[1:3]) for layer in cache.layers] == [
        *((2, 3), (1, 6), (1, 9)),  # one-sided window 3: two heads without gaps, then dilation 2, then 3
        *((1, 10), (1, 5), (2, 10)),
    ]
    assert cache.get_seq_length() == 200


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}, {"num_beams": 2, "do_sample": True}])
def test_generation_with_the_cache_is_generation_without(positions: str, options: dict[str, Any]) -> None:
    """Greedy, beams and sampling; a batch of prompts of two lengths, padded on the left."""
    model = make_model(position_embedding_type=positions, attention_dilation=DILATIONS["heads"])
    ids = make_ids(11)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    ids = ids.where(mask.bool(), 1)
    found = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        settings = {"max_new_tokens": 30, "use_cache": use_cache, "pad_token_id": 1, "eos_token_id": None, **options}
        found.append(model.generate(ids, attention_mask=mask, **settings))
    assert found[0].shape == (2, 41)
    assert torch.equal(*found)


def test_generation_from_embeddings_and_from_a_kept_text() -> None:
    model = make_model(position_embedding_type="rotary")
    ids = make_ids(20)
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    expected = model.generate(ids, **settings)[:, 20:]
    embeddings = model.get_input_embeddings()(ids)
    assert torch.equal(model.generate(inputs_embeds=embeddings, **settings), expected)
    with torch.no_grad():
        cache = model(ids[:, :12], use_cache=True)[CACHE_NAME]
    assert torch.equal(model.generate(ids, **{CACHE_NAME: cache}, **settings)[:, 20:], expected)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_generation_reads_every_token_once(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this version of Transformers calls the cache: without one it would go on, token by token slower."""
    model, read = make_model(position_embedding_type="rotary"), []
    hook = model.longformer.embeddings.register_forward_hook(lambda _, given, __: read.append(given[0].shape[1]))
    model.generate(make_ids(20), max_new_tokens=5, do_sample=False, pad_token_id=1, eos_token_id=None, **options)
    hook.remove()
    assert read == [20, 1, 1, 1, 1]


def test_a_cache_has_two_names() -> None:
    """`past_key_values`, and `cache` as in Transformers 5.24; outputs have that of the installed version."""
    model, ids = make_model(), make_ids(20)
    with torch.no_grad():
        whole = model(ids).logits[:, 12:]
        for name in ("cache", "past_key_values"):
            cache = model(ids[:, :12], use_cache=True)[CACHE_NAME]
            output = model(ids[:, 12:], **{name: cache})
            assert output[CACHE_NAME] is cache
            torch.testing.assert_close(output.logits, whole)
        output = model.longformer(ids, use_cache=True)
    assert isinstance(output[CACHE_NAME], RollingCache)
    assert output.past_key_values is output[CACHE_NAME]
    with pytest.raises(ValueError, match="two names of one argument"):
        model(ids, cache=cache, past_key_values=cache)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_generate_takes_a_cache_under_both_names(name: str) -> None:
    model, ids = make_model(position_embedding_type="rotary"), make_ids(20)
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    read = []
    with torch.no_grad():
        cache = model(ids[:, :12], use_cache=True)[CACHE_NAME]
    model.longformer.embeddings.register_forward_hook(lambda _, given, __: read.append(given[0].shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        found = model.generate(ids, **{name: cache}, **settings)
    assert read == [8, 1, 1, 1]
    assert torch.equal(found, model.generate(ids, **settings))
    with pytest.raises(ValueError, match="two names of one argument"):
        model.generate(ids, cache=cache, past_key_values=cache, **settings)


@pytest.mark.parametrize("reentrant", [False, True], ids=["modern", "reentrant"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_a_cache_and_checkpoints_do_not_go_together(positions: str, reentrant: bool) -> None:
    """Layers whose activations are computed again would put their keys into it twice. Without gradients nothing is."""
    model, ids = make_model(position_embedding_type=positions).train(), make_ids(30)
    expected = model(ids).logits.detach()
    getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": reentrant})
    for asked in ({"use_cache": True}, {"past_key_values": RollingCache(model.config)}):
        for one in (model, model.longformer):
            with pytest.raises(
                NotImplementedError, match=r"switch checkpointing off to train on segments .*, got (use|a)"
            ):
                one(ids, **asked)
    model.config.use_cache = True  # as files have it: nobody asked
    output = model(ids, labels=ids)
    output.loss.backward()
    assert output.get(CACHE_NAME) is None
    with torch.no_grad():
        cache = model(ids[:, :12], use_cache=True)[CACHE_NAME]
        assert cache.get_seq_length() == 12
        torch.testing.assert_close(model(ids[:, 12:], past_key_values=cache).logits, expected[:, 12:])
    settings: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    assert torch.equal(model.generate(ids, **settings), model.eval().generate(ids, **settings))


@pytest.mark.parametrize("positions", POSITIONS)
def test_segments_learn_what_one_pass_learns(positions: str) -> None:
    """Gradients of the last tokens reach the first segment through what is kept of it."""
    model, ids = make_model(position_embedding_type=positions).train(), make_ids(30)
    gradients = []
    for sizes in ((30,), (17, 13)):
        model.zero_grad()
        cache, logits = RollingCache(model.config), []
        for segment in ids.split(sizes, dim=1):
            logits.append(model(segment, past_key_values=cache).logits)
        torch.cat(logits, dim=1).sin().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda text, n=name: f"{n} {text}")


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_length_is_not_limited_by_positions_that_are_not_learned(positions: str) -> None:
    model = make_model(torch.float32, position_embedding_type=positions, max_position_embeddings=20)
    assert model(make_ids(300, batch=1)).logits.shape == (1, 300, model.config.vocab_size)


def test_prompt_longer_than_learned_positions_is_refused() -> None:
    model = make_model(max_position_embeddings=32)
    # Which of the two it is depends on what `generate` of the installed version does first.
    with pytest.raises(ValueError, match=r"has 40 tokens, the model takes 30|learned 30 positions, got a prompt of 40"):
        model.generate(make_ids(40), max_new_tokens=2)
    with torch.no_grad():
        cache = model(make_ids(30), use_cache=True).past_key_values
        with pytest.raises(ValueError, match="position_ids must lie in 0 … 31"):
            model(make_ids(1), past_key_values=cache)


def test_generation_beyond_learned_positions_is_refused_before_it_begins() -> None:
    model = make_model(max_position_embeddings=32, eos_token_id=None, bos_token_id=None)
    ids = make_ids(24)
    ids[:, :4] = 1  # padding takes no position
    mask = (ids != 1).long()
    assert model.generate(ids, attention_mask=mask, max_new_tokens=11, do_sample=False).shape == (2, 35)
    with pytest.raises(ValueError, match=r"30 positions, got a prompt of 20 tokens and 12 .* at most 11 "):
        model.generate(ids, attention_mask=mask, max_new_tokens=12)
    assert model.generate(make_ids(24), do_sample=False).shape == (2, 30), "20 tokens by default, as far as they go"


def test_generation_of_default_length_knows_no_limit_without_learned_positions() -> None:
    model = make_model(position_embedding_type="rotary", max_position_embeddings=32, eos_token_id=None)
    assert model.generate(make_ids(40), do_sample=False).shape == (2, 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_implementation": "static"}, "cannot do cache_implementation=static here: .* RollingCache"),
        ({"prefill_chunk_size": 4}, "cannot do prefill_chunk_size=4 here: the cost of a long prompt is linear"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "cannot do output_attentions=True here"),
        ({"prompt_lookup_num_tokens": 3}, "assisted generation takes tokens back"),
        ({"position_ids": torch.arange(12)[None]}, "cannot do position_ids=.* the model counts positions"),
        ({"token_type_ids": torch.ones(2, 12, dtype=torch.long)}, "cannot do token_type_ids"),
        ({CACHE_NAME: DynamicCache()}, "must be a RollingCache, .* got DynamicCache"),
    ],
)
def test_generation_options_that_cannot_be_had(options: dict[str, Any], message: str) -> None:
    model = make_model(position_embedding_type="rotary")
    with pytest.raises(NotImplementedError, match=message):
        model.generate(make_ids(12), max_new_tokens=3, **options)


def test_generation_takes_what_a_tokenizer_gives_and_returns_what_was_asked_for() -> None:
    model = make_model(position_embedding_type="rotary", eos_token_id=None)
    ids = make_ids(12)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    asked: dict[str, Any] = {"output_hidden_states": True, "output_logits": True, "return_dict_in_generate": True}
    found = model.generate(**given, max_new_tokens=4, do_sample=False, **asked)
    whole = model(found.sequences[:, :-1], output_hidden_states=True)
    torch.testing.assert_close(torch.stack(found.logits, dim=1), whole.logits[:, 11:].float())
    for step, states in enumerate(found.hidden_states):
        torch.testing.assert_close(states[-1][:, -1], whole.hidden_states[-1][:, 11 + step])


def test_learns_to_repeat() -> None:
    """A pattern of seven tokens, from relative positions alone."""
    model = make_model(
        torch.float32, position_embedding_type="relative", norm_style="pre", initializer_range=0.1
    ).train()
    ids = make_ids(7, batch=1).repeat(4, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.3
    text = model.eval().generate(ids[:1, :14], max_new_tokens=21, do_sample=False, pad_token_id=1, eos_token_id=None)
    assert torch.equal(text, ids[:1, :35])


@pytest.mark.parametrize("positions", POSITIONS)
def test_checkpoint_is_saved_and_loaded(positions: str, tmp_path: Path) -> None:
    model = make_model(torch.float32, position_embedding_type=positions, norm_style="pre")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, HfLongformerForCausalLM)
    ids = make_ids(30)
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
    names = {name.split(".")[-2] for name in model.state_dict()}
    assert ("query_global" in names) == (positions == "absolute")
    assert ("relative" in names) == (positions == "relative")


def test_dropout_of_relative_attention_is_that_of_its_weights() -> None:
    """The mean over many draws is the output without dropout, and gradients are those of the draw."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    settings: dict[str, Any] = {"one_sided_window": 3}
    exact = causal_rows(query, key, value, **settings)
    draws = torch.stack([causal_rows(query, key, value, dropout=0.3, **settings) for _ in range(3000)])
    torch.testing.assert_close(draws.mean(dim=0), exact, atol=0.05, rtol=0.05)

    def drawn(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return causal_rows(*tensors, dropout=0.3, **settings)

    assert torch.autograd.gradcheck(drawn, (query, key, value))


@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("kept", [0, 1, 13, 140])
@pytest.mark.parametrize("rows", [1, 5, 129, 300])
def test_causal_rows_are_the_last_rows_of_the_reference(dilation: int, kept: int, rows: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, kept + rows, 4, dtype=torch.float64)
    hidden = torch.rand(2, kept + rows) < 0.2
    pattern = WindowPattern(10, dilation, is_causal=True)
    local = (query, key, value)
    expected = attention_reference(*local, *local, pattern=pattern, key_padding_mask=~hidden)[0][:, :, kept:]
    found = causal_rows(query[:, :, kept:], key, value, one_sided_window=5, dilation=dilation, not_in_windows=hidden)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"position_embedding_type": "rotary", "hidden_size": 12},
            ValueError,
            "even number of dimensions per head, got 3",
        ),
        ({"position_embedding_type": "rotary", "is_decoder": False}, NotImplementedError, "without is_decoder=True"),
        (
            {"position_embedding_type": "relative", "global_attention": "cls"},
            NotImplementedError,
            "know no global tokens",
        ),
        ({"is_decoder": False}, ValueError, "set is_decoder=True"),
    ],
)
def test_configuration_that_cannot_be_had(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_model(**options)


def test_encoder_has_no_cache_whatever_its_configuration_says() -> None:
    """Those of RoBERTa checkpoints have `use_cache=True`."""
    model = HfLongformerModel(tiny_config()).eval()
    model.config.use_cache = True
    assert model(make_ids(9), use_cache=True).past_key_values is None
    with pytest.raises(ValueError, match="past_key_values need a causal model"):
        model(make_ids(9), past_key_values=RollingCache(model.config))


def test_weights_with_rotary_positions_are_those_of_the_output() -> None:
    model = make_model(position_embedding_type="rotary", num_hidden_layers=1, attention_window=6)
    ids, kept = make_ids(19), []
    ids[0, :3] = 1
    mask = (ids != 1).long()
    projection = model.longformer.encoder.layer[0].attention
    projection.self.value.register_forward_hook(
        lambda module, given, value: kept.append(projection.self.split_heads(value))
    )
    projection.output.dense.register_forward_hook(lambda module, given, found: kept.append(given[0]))
    found = model(ids, attention_mask=mask, output_attentions=True, use_cache=False)
    value, output = kept
    dense = dense_attention_weights(found.attentions[0])
    torch.testing.assert_close((dense @ value).transpose(1, 2).flatten(2), output)
    torch.testing.assert_close(dense.sum(-1), mask[:, None].double().expand(-1, 4, -1))
    assert dense.triu(1).abs().max() == 0
    torch.testing.assert_close(found.logits, model(ids, attention_mask=mask).logits)


def test_requests_that_cannot_be_had() -> None:
    model = make_model(position_embedding_type="rotary")
    ids = make_ids(8)
    with pytest.raises(NotImplementedError, match="rotary positions know no global tokens, got 1"):
        model(ids, global_attention_mask=torch.tensor([[1, *[0] * 7]] * 2))
    with pytest.raises(NotImplementedError, match=r"attention weights are returned without a cache .* and a cache"):
        model(ids, output_attentions=True, use_cache=True)
    with pytest.raises(NotImplementedError, match=r"not with relative positions, got .*'relative' and no cache"):
        make_model(position_embedding_type="relative")(ids, output_attentions=True, use_cache=False)
    with pytest.raises(NotImplementedError, match=r"must be a RollingCache, .* got DynamicCache"):
        model(ids, past_key_values=DynamicCache())
    with torch.no_grad(), pytest.raises(ValueError, match=r"the cache holds a batch of 2 texts, got 1 that go on"):
        model(ids[:1], past_key_values=model(ids, use_cache=True).past_key_values)
    with pytest.raises(ValueError, match=r"the cache was made for other windows, .* got a cache of .*\[4, 4\]"):
        model(ids, past_key_values=RollingCache(HfLongformerConfig(**model.config.to_dict() | {"attention_window": 4})))
    encoder = AutoModelForCausalLM.from_config(
        HfLongformerConfig(is_decoder=True, hidden_size=24, num_attention_heads=4)
    )
    assert isinstance(encoder, HfLongformerForCausalLM)


def test_cache_forgets_and_reorders() -> None:
    model = make_model(position_embedding_type="rotary")
    ids = make_ids(15)
    ids[0, :3] = 1
    with torch.no_grad():
        cache = model(ids, attention_mask=(ids != 1).long(), use_cache=True).past_key_values
        cache.reorder_cache(torch.tensor([1, 0]))
        follow = make_ids(3, seed=9)
        found = model(follow, past_key_values=cache).logits
        expected = model(
            torch.cat([ids.flip(0), follow], 1), attention_mask=torch.cat([ids.flip(0) != 1, follow > 0], 1).long()
        )
        torch.testing.assert_close(found, expected.logits[:, -3:])
        cache.reset()
        assert cache.is_empty
        assert isinstance(cache, RollingCache)
        torch.testing.assert_close(model(follow, past_key_values=cache).logits, model(follow).logits)
