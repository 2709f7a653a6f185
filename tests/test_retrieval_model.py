# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`config.retrieval` of `HfLongformerForCausalLM`: chunked cross-attention is what loops over tokens compute, looks at
nothing that comes later, and is the same token by token, in segments, padded, and in generation.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_config
from torch import nn
from transformers import LongformerConfig

from hf_longformer import (
    AUTO_CLASSES,
    HfLongformerConfig,
    HfLongformerEncoderDecoderConfig,
    HfLongformerForCausalLM,
    HfLongformerForCoreference,
    HfLongformerForEvidenceQuestionAnswering,
    HfLongformerForMaskedLM,
    HfLongformerForSequenceClassification,
    HfLongformerModel,
    RollingCache,
)
from hf_longformer.conversion import InputError, export as export_to_stock
from hf_longformer.exporting import FORMATS, export
from hf_longformer.modeling_encoder_decoder_hf_longformer import HfLongformerForConditionalGeneration
from hf_longformer.token_roles import TokenRoles
from hf_longformer.transformers_internals import CHECKPOINTING

M, K, R = 4, 2, 7  # tokens of a chunk, neighbours of one, tokens of a neighbour
RETRIEVAL = {"chunk_size": M, "neighbours": K, "neighbour_length": R, "layers": [1, 2], "encoder_layers": 2}
POSITIONS = ("absolute", "rotary", "relative")
Place = tuple[torch.Tensor, int]  # a token's state, and where it stands


def make_model(retrieval: Any = RETRIEVAL, **options: Any) -> HfLongformerForCausalLM:
    """With weights that are not 0 behind the cross-attention."""
    torch.manual_seed(0)
    fixed: dict[str, Any] = {
        **{"is_decoder": True, "attention_window": 10, "hidden_dropout_prob": 0.0},
        **{"attention_probs_dropout_prob": 0.0, "initializer_range": 0.3, "num_hidden_layers": 3},
        **{"hidden_size": 24, "num_attention_heads": 4, "max_position_embeddings": 400},
        **{"position_embedding_type": "rotary", "retrieval": retrieval},
    }
    model = HfLongformerForCausalLM(tiny_config(**{**fixed, **options}))
    for layer in model.longformer.encoder.layer:
        if layer.chunked_crossattention is not None:
            nn.init.normal_(layer.chunked_crossattention.dense.weight, std=0.3)
            nn.init.normal_(layer.chunked_crossattention.dense.bias, std=0.3)
    return model.double().eval()


def make_ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 40, shape, generator=torch.Generator().manual_seed(seed))


def retriever(chunks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Something that depends on every token of a chunk, and now and then has padding or finds nothing."""
    seeds = (chunks * (torch.arange(M) + 1) ** 3).sum(dim=1).tolist()
    ids = torch.stack([make_ids(K, R, seed=seed) for seed in seeds])
    mask = torch.ones_like(ids, dtype=torch.bool)
    for row, seed in enumerate(seeds):
        mask[row, 0, R - seed % 4 :] = seed % 4 == 0
        mask[row] &= seed % 5 != 0
    return ids, mask


def rotated(vector: torch.Tensor, position: int, theta: float) -> torch.Tensor:
    """One head's query or key, turned pair by pair."""
    half, turned = len(vector) // 2, [torch.zeros(())] * len(vector)
    for pair in range(half):
        angle = torch.tensor(position * theta ** (-2 * pair / len(vector)), dtype=torch.float64)
        one, other = vector[pair], vector[pair + half]
        turned[pair] = one * angle.cos() - other * angle.sin()
        turned[pair + half] = other * angle.cos() + one * angle.sin()
    return torch.stack(turned)


def attended(module: Any, rows: list[Place], context: list[Place]) -> list[torch.Tensor]:
    """What tokens read of others, each with a position, head by head."""
    heads, theta = module.heads, module.config.rope_theta
    keys = [[rotated(head, where, theta) for head in module.key(one).view(heads, -1)] for one, where in context]
    values = torch.stack([module.value(one).view(heads, -1) for one, _ in context])
    outputs = []
    for state, position in rows:
        query = module.query(module.LayerNorm(state)).view(heads, -1)
        of_heads = []
        for head in range(heads):
            turned = rotated(query[head], position, theta)
            weights = torch.stack([turned @ key[head] / len(turned) ** 0.5 for key in keys]).softmax(dim=0)
            of_heads.append(weights @ values[:, head])
        outputs.append(module.dense(torch.cat(of_heads)))
    return outputs


def encoded(encoder: Any, embedded: list[torch.Tensor], chunk: torch.Tensor) -> list[torch.Tensor]:
    """A neighbour's real tokens, beside the chunk that it was found for."""
    beside = [(encoder.chunk_norm(state), place) for place, state in enumerate(chunk)]
    for layer in encoder.layer:
        rows = [(state, place) for place, state in enumerate(embedded)]
        own = [(layer.attention.LayerNorm(state), place) for state, place in rows]
        embedded = [state + added for state, added in zip(embedded, attended(layer.attention, rows, own), strict=True)]
        rows = [(state, place) for place, state in enumerate(embedded)]
        read = attended(layer.crossattention, rows, beside)
        embedded = [state + added for state, added in zip(embedded, read, strict=True)]
        embedded = [
            state + layer.output(layer.activation(layer.intermediate(layer.LayerNorm(state)))) for state in embedded
        ]
    return [encoder.LayerNorm(state) for state in embedded]


def by_loops(model: Any, ids: torch.Tensor, neighbours: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Logits `(S, vocab)` of one text without padding, `(S,)`, token by token but for the self-attention."""
    body, config = model.longformer, model.config
    positions = torch.arange(len(ids))[None] + config.first_position
    states, found = body.embeddings(ids[None], position_ids=positions), []
    for index, layer in enumerate(body.encoder.layer):
        if index == config.retrieval_settings["layers"][0]:
            for u in range(len(ids) // M):
                chunk = states[0, u * M : (u + 1) * M]
                words = body.embeddings.word_embeddings(neighbours[u])
                kept = [[words[j, i] for i in range(R) if mask[u, j, i]] for j in range(K)]
                found.append([encoded(body.encoder.neighbour_encoder, one, chunk) if one else [] for one in kept])
        states = layer.attention(states, TokenRoles(), False, position_ids=positions)
        if layer.chunked_crossattention is not None:
            rows = []
            for t in range(len(ids)):
                u = (t + 1) // M - 1
                context = [
                    (state, place)
                    for j in range(K if u >= 0 else 0)
                    for place, state in zip([i for i in range(R) if mask[u, j, i]], found[u][j], strict=True)
                ]
                row = (states[0, t], t - u * M)
                added = attended(layer.chunked_crossattention, [row], context)[0] if context else 0.0
                rows.append(row[0] + added)
            states = torch.stack(rows)[None]
        states = layer.feed_forward(states, TokenRoles())
    if body.encoder.LayerNorm is not None:
        states = body.encoder.LayerNorm(states)
    return model.lm_head(states)[0]


PADDINGS = {"none": (0, 0), "left": (5, 0), "right": (0, 3), "both": (2, 6)}


KINDS = [("rotary", [1, 2], "pre"), ("absolute", [0], "post"), ("relative", [0, 2], "pre")]


@pytest.mark.parametrize(("positions", "layers", "norm_style"), KINDS)
@pytest.mark.parametrize(("length", "padding"), [(11, "none"), (12, "left"), (14, "both"), (13, "right"), (4, "none")])
def test_chunked_cross_attention_is_loops(
    length: int, padding: str, positions: str, layers: list[int], norm_style: str
) -> None:
    """Logits and every gradient of two texts of other lengths, beside each of them alone."""
    options = {"position_embedding_type": positions, "norm_style": norm_style}
    model = make_model({**RETRIEVAL, "layers": layers}, **options)
    model.set_retriever(retriever)
    before, behind = PADDINGS[padding]
    ids, mask = make_ids(2, length), torch.ones(2, length, dtype=torch.long)
    mask[0, :before] = 0
    mask[1, length - behind :] = 0
    given = model.neighbours_of(ids, mask)
    weights = torch.randn(2, length, model.config.vocab_size, dtype=torch.float64)
    found = model(ids.where(mask.bool(), 1), attention_mask=mask, **given).logits
    (found * weights * mask[..., None]).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for text in range(2):
        real = mask[text].bool()
        chunks = int(real.sum()) // M
        expected = by_loops(model, ids[text][real], *(given[name][text][:chunks] for name in given))
        torch.testing.assert_close(found[text][real], expected, atol=1e-9, rtol=1e-8)
        (expected * weights[text][real]).sum().backward()
    learned = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert any("neighbour_encoder" in name for name in learned)  # and not all of the rest, where chunks are few
    for name, gradient in learned.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-8, rtol=1e-7)
    assert all(not gradients[name].any() for name in gradients if name not in learned)


@pytest.mark.parametrize("positions", POSITIONS)
def test_nothing_that_comes_later_is_seen(positions: str) -> None:
    """Another token changes no logit before it, though neighbours are looked for again; and some behind it."""
    model = make_model(position_embedding_type=positions)
    model.set_retriever(retriever)
    ids = make_ids(1, 15)
    with torch.no_grad():
        before = model(ids, **model.neighbours_of(ids)).logits[0]
        for t in range(15):
            other = ids.clone()
            other[0, t] = 41
            after = model(other, **model.neighbours_of(other)).logits[0]
            assert torch.equal(after[:t], before[:t])
            assert not torch.allclose(after[t:], before[t:])


def test_the_last_token_of_a_chunk_is_the_first_to_see_its_neighbours() -> None:
    model = make_model()
    ids, found = make_ids(1, 15), make_ids(1, 3, K, R, seed=1)
    with torch.no_grad():
        before = model(ids, neighbour_ids=found).logits[0]
        for u in range(3):
            other = found.clone()
            other[0, u] = 42
            changed = (model(ids, neighbour_ids=other).logits[0] != before).any(dim=-1)
            assert changed.nonzero()[0] == u * M + M - 1
        one_layer = make_model({**RETRIEVAL, "layers": [2]}, attention_window=2)  # what is read is handed on to nobody
        before, other = one_layer(ids, neighbour_ids=found).logits[0], found.clone()
        other[0, 1] = 42
        changed = (one_layer(ids, neighbour_ids=other).logits[0] != before).any(dim=-1)
        assert changed.nonzero().flatten().tolist() == [7, 8, 9, 10]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("sizes", [(1,) * 23, (9, 1, 13), (3, 3, 3, 14), (22, 1)])
def test_segments_are_one_pass(sizes: tuple[int, ...], positions: str) -> None:
    """With a cache, and padding on the left of one text, so that its chunks end elsewhere."""
    model = make_model(position_embedding_type=positions)
    model.set_retriever(retriever)
    ids, mask = make_ids(2, 23), torch.ones(2, 23, dtype=torch.long)
    mask[1, :6] = 0
    mask[0, 10] = 0
    ids = ids.where(mask.bool(), 1)
    with torch.no_grad():
        whole = model(ids, attention_mask=mask, **model.neighbours_of(ids, mask)).logits
        cache, found, read = None, [], 0
        for size in sizes:
            seen = slice(0, read + size)
            given = model.neighbours_of(ids[:, seen], mask[:, seen], read)
            output = model(
                ids[:, read : read + size], attention_mask=mask[:, seen], past_key_values=cache, use_cache=True, **given
            )
            cache, read = output.past_key_values, read + size
            found.append(output.logits)
    real = mask.bool()
    torch.testing.assert_close(torch.cat(found, dim=1)[real], whole[real], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
def test_generation_finds_neighbours_when_a_chunk_ends(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Greedily what passes over the whole text would choose; with the cache what comes without, in every manner."""
    model = make_model()
    model.set_retriever(retriever)
    ids, mask = make_ids(2, 10), torch.ones(2, 10, dtype=torch.long)
    mask[1, :3] = 0
    ids = ids.where(mask.bool(), 1)
    settings: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 12, "eos_token_id": None, **options}
    found = []
    for use_cache in (True, False):
        torch.manual_seed(1)
        found.append(model.generate(ids, use_cache=use_cache, **settings))
    assert torch.equal(*found)
    model.set_retriever(None)
    torch.manual_seed(1)
    assert not torch.equal(model.generate(ids, **settings), found[0])
    assert "reads what is found in an index, and writes without" in caplog.text
    if options:
        return
    model.set_retriever(retriever)
    text, whole_mask = found[0], torch.cat([mask, torch.ones(2, 12, dtype=torch.long)], dim=1)
    with torch.no_grad():
        logits = model(text, attention_mask=whole_mask, **model.neighbours_of(text, whole_mask)).logits
    assert torch.equal(logits[:, 9:-1].argmax(dim=-1), text[:, 10:])


def test_segments_learn_what_one_pass_learns() -> None:
    ids, found = make_ids(2, 14), make_ids(2, 3, K, R, seed=1)
    gradients = []
    for segments in ([14], [6, 8]):
        model, cache, first, loss = make_model(), None, 0, 0.0
        for size in segments:
            chunks = slice(first // M, (first + size) // M)
            output = model(
                ids[:, first : first + size], past_key_values=cache, use_cache=True, neighbour_ids=found[:, chunks]
            )
            cache, loss, first = output.past_key_values, loss + output.logits.square().sum(), first + size
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_learn_the_same(reentrant: bool) -> None:
    ids, found, gradients = make_ids(2, 14), make_ids(2, 3, K, R, seed=1), []
    for checkpointed in (False, True):
        model = make_model().train()
        if checkpointed:
            getattr(model, f"{CHECKPOINTING}_enable")({"use_reentrant": reentrant})
        model(ids, neighbour_ids=found, labels=ids).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-9, rtol=1e-9)


def test_trained_models_are_what_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bit by bit, whatever was found, until the new weights are trained; these are reported as new."""
    model = make_model(None, attention_window=[6, 10, 4]).float()
    model.save_pretrained(tmp_path / "plain")
    ids, found = make_ids(2, 14), make_ids(2, 3, K, R, seed=1)
    place = str(tmp_path / "plain")
    made, report = HfLongformerForCausalLM.from_pretrained(place, retrieval=RETRIEVAL, output_loading_info=True)
    assert {"neighbour_encoder", "chunked_crossattention"} == {
        part for name in report["missing_keys"] for part in name.split(".") if "neighbour" in part or "chunked" in part
    }
    assert not report["unexpected_keys"]
    made.eval()
    with torch.no_grad():
        expected = model(ids).logits
        assert torch.equal(made(ids).logits, expected)
        assert torch.equal(made(ids, neighbour_ids=found).logits, expected)
        nn.init.normal_(made.longformer.encoder.layer[1].chunked_crossattention.dense.weight)
        made.save_pretrained(tmp_path / "retro")
        again = HfLongformerForCausalLM.from_pretrained(tmp_path / "retro").eval()
        assert again.config.retrieval == RETRIEVAL
        assert torch.equal(again(ids, neighbour_ids=found).logits, made(ids, neighbour_ids=found).logits)
        assert not torch.equal(again(ids, neighbour_ids=found).logits, expected)


def test_models_without_retrieval_have_nothing_of_it() -> None:
    model = make_model(None)
    assert not [name for name, _ in model.named_modules() if "neighbour" in name or "crossattention" in name]
    assert model.config.to_dict()["retrieval"] is None


def test_beams_and_rows_take_what_was_found_along() -> None:
    model, cache = make_model(), None
    ids, found = make_ids(2, 6), make_ids(2, 1, K, R, seed=1)
    with torch.no_grad():
        cache = model(ids, neighbour_ids=found, use_cache=True).past_key_values
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([1, 3, 0]))
        cache.reorder_cache(torch.tensor([2, 0, 1]))
        rows = torch.tensor([0, 0, 1])
        expected = model(ids[rows], neighbour_ids=found[rows], use_cache=True).past_key_values
        assert set(cache.of_chunks) == {"read", "pending", "states", "mask"}
        for name, tensor in expected.of_chunks.items():
            torch.testing.assert_close(cache.of_chunks[name], tensor)
    cache.reset()
    assert not cache.of_chunks


@pytest.mark.parametrize(
    ("retrieval", "options", "error", "message"),
    [
        ({"chunks": 3}, {}, ValueError, "retrieval knows chunk_size, neighbours, neighbour_length, layers, enc"),
        ({"chunk_size": 0}, {}, ValueError, "a whole number of at least 1 as chunk_size, got 0"),
        ({"chunk_size": "4"}, {}, ValueError, "as chunk_size, got '4'"),
        ({"neighbours": True}, {}, ValueError, "as neighbours, got True"),
        ({"layers": [2, 1]}, {}, ValueError, r"some of the layers 0 to 2, in order, as layers, got \[2, 1\]"),
        ({"layers": [3]}, {}, ValueError, r"got \[3\]"),
        ({"layers": []}, {}, ValueError, r"got \[\]"),
        ({}, {"is_decoder": False, "position_embedding_type": "absolute"}, NotImplementedError, "of causal models"),
        ({}, {"num_attention_heads": 8}, ValueError, "an even number of dimensions per head, got 3"),
    ],
)
def test_settings_that_cannot_be_had(retrieval: dict, options: dict, error: type[Exception], message: str) -> None:
    fixed = {"is_decoder": True, "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3}
    with pytest.raises(error, match=message):
        HfLongformerConfig(**{**fixed, "retrieval": retrieval, **options})


@pytest.mark.parametrize(("number", "layers"), [(1, [0]), (2, [0]), (6, [2, 5]), (12, [5, 8, 11])])
def test_settings_that_are_left_out(number: int, layers: list[int]) -> None:
    """Layers 6, 9 and 12 of 12, as in the paper."""
    settings = HfLongformerConfig(is_decoder=True, num_hidden_layers=number, retrieval={}).retrieval_settings
    expected = {"chunk_size": 64, "neighbours": 2, "neighbour_length": 128, "encoder_layers": 2, "layers": layers}
    assert settings == expected


OTHERS = sorted(
    {*AUTO_CLASSES, HfLongformerForCoreference, HfLongformerForEvidenceQuestionAnswering}
    - {HfLongformerForCausalLM, HfLongformerModel, HfLongformerForConditionalGeneration}
    - {model for model in AUTO_CLASSES if model.config_class is HfLongformerEncoderDecoderConfig},
    key=lambda model: model.__name__,
)


@pytest.mark.parametrize("model", OTHERS, ids=lambda model: model.__name__)
def test_other_heads_refuse(model: Any) -> None:
    config = make_model().config
    with pytest.raises(NotImplementedError, match="HfLongformerForCausalLM alone"):
        model(config)


def test_encoder_decoders_refuse() -> None:
    config = HfLongformerEncoderDecoderConfig()
    with pytest.raises(NotImplementedError, match="retrieval is of causal models"):
        HfLongformerEncoderDecoderConfig(
            encoder={**config.encoder.to_dict(), "retrieval": {}}, decoder=config.decoder.to_dict()
        )


def test_requests_that_cannot_be_had() -> None:
    model, plain = make_model(), make_model(None)
    ids, found = make_ids(1, 9), make_ids(1, 2, K, R)
    wanted = r"neighbour_ids must have the shape \(batch, chunks, k, r\) = \(1, 2, 2, 7\), of the chunks of 4 tokens"
    for wrong in (found[:, :1], found[..., :-1], found[:, :, :1], found[0], make_ids(2, 2, K, R)):
        with pytest.raises(ValueError, match=wanted):
            model(ids, neighbour_ids=wrong)
    with pytest.raises(ValueError, match=r"neighbour_ids must be from 0 to .*, got -1 to"):
        model(ids, neighbour_ids=found.index_fill(3, torch.tensor([2]), -1))
    with pytest.raises(ValueError, match="neighbour_mask must have the shape of neighbour_ids"):
        model(ids, neighbour_ids=found, neighbour_mask=found[:, :1])
    with pytest.raises(ValueError, match="neighbour_mask says what of neighbour_ids is real"):
        model(ids, neighbour_mask=found)
    with pytest.raises(ValueError, match=r"read by models with config.retrieval, got them"):
        plain(ids, neighbour_ids=found)
    with pytest.raises(ValueError, match=r"a retriever is of models with config.retrieval"):
        plain.set_retriever(retriever)
    with pytest.raises(ValueError, match="call set_retriever first"):
        model.neighbours_of(ids)
    with pytest.raises(NotImplementedError, match="give the model something to find neighbours"):
        model.generate(ids, neighbour_ids=found, max_new_tokens=2)
    other = type("Other", (), {"chunk_size": 5})()
    with pytest.raises(ValueError, match="the index must be of chunks of 4 tokens, as the model's are, got 5"):
        model.set_retriever(other)
    model.set_retriever(retriever)
    embeds = model.get_input_embeddings()(ids)
    with pytest.raises(NotImplementedError, match="pass them as input_ids"):
        model.generate(inputs_embeds=embeds, max_new_tokens=2)
    with pytest.raises(ValueError, match="other windows, dilations, heads or chunks"):
        model(ids, past_key_values=RollingCache(plain.config))
    with pytest.raises(TypeError, match="did you mean 'neighbour_ids'"):
        HfLongformerForMaskedLM(tiny_config())(ids, neighbor_ids=found)
    with pytest.raises(ValueError, match=r"read by models with config.retrieval"):
        HfLongformerForSequenceClassification(tiny_config())(ids, neighbour_ids=found)


@pytest.mark.parametrize("with_padding", [False, True])
def test_compiled_models_read_neighbours(with_padding: bool) -> None:
    """One graph for all numbers of chunks."""
    model = make_model(position_embedding_type="absolute")
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    for length in (13, 22):
        ids, found = make_ids(2, length), make_ids(2, length // M, K, R, seed=1)
        mask = torch.ones_like(ids)
        if with_padding:
            mask[1, :2] = 0
        given = {"attention_mask": mask, "neighbour_ids": found, "use_cache": False}
        with torch.no_grad():
            torch.testing.assert_close(compiled(ids, **given).logits, model(ids, **given).logits)


def test_half_precision_is_finite() -> None:
    model, ids, found = make_model().bfloat16().train(), make_ids(2, 14), make_ids(2, 3, K, R, seed=1)
    mask = torch.ones_like(found)
    mask[:, 1] = 0  # a chunk for which nothing was found
    loss = model(ids, neighbour_ids=found, neighbour_mask=mask, labels=ids).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_doors_that_are_shut(tmp_path: Path) -> None:
    """Segments of `forward`, and exports, as of any causal model."""
    model, ids, found = make_model(), make_ids(1, 9), make_ids(1, 2, K, R)
    with torch.no_grad(), pytest.raises(NotImplementedError, match="segments of causal models are passed one by one"):
        model(ids, neighbour_ids=found, segment_length=4)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="causal"):
        export_to_stock(tmp_path / "model", tmp_path / "stock")
    for name in FORMATS:
        with pytest.raises(InputError, match="cannot be exported to a graph"):
            export(tmp_path / "model", tmp_path / "graph", format=name)
    stock = LongformerConfig(retrieval=RETRIEVAL, attention_window=[4] * 12)
    assert HfLongformerConfig.of_stock(stock).retrieval is None  # which stock does not read


def test_learns_to_read() -> None:
    """What follows a chunk stands in its neighbour alone, behind what is like the chunk: without it, all is chance."""
    torch.manual_seed(0)
    settings = {"chunk_size": 4, "neighbours": 1, "layers": [0], "encoder_layers": 1}
    model = make_model(settings, num_hidden_layers=2, initializer_range=0.1, norm_style="pre").float().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        texts = torch.randint(5, 37, (64, 8), generator=generator)
        return texts, torch.cat([texts[:, None, None], torch.full((64, 1, 1, 8), 4)], dim=1)  # nothing for the second

    def loss_of(**given: torch.Tensor) -> torch.Tensor:
        labels = texts.clone()
        labels[:, :4] = -100
        return model(texts, labels=labels, **given).loss

    for _ in range(150):
        texts, found = draw()
        loss_of(neighbour_ids=found).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    texts, found = draw()
    with torch.no_grad():
        assert loss_of(neighbour_ids=found) < 0.7  # of the 3.5 of chance
        assert loss_of() > 3.0
        assert loss_of(neighbour_ids=found.roll(1, dims=0)) > 3.0
