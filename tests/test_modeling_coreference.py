# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`HfLongformerForCoreference`: its scores and its loss by their definition, blocks, batches, and what it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_longformer import HfLongformerConfig, HfLongformerForCoreference, modeling_coreference_hf_longformer as modeling

KEYS = [0x1F3A, 0x5BD21, 0x90E7C3, 0xC4411A9, 0x77FE2D05, 0xA0B1C2D3]  # no two sums of which are equal, as of hashes
SETTINGS = {"size": 12, "width": 4, "share": 0.8, "singletons": True}


def make_model(**settings: Any) -> HfLongformerForCoreference:
    config = HfLongformerConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=50,
        max_position_embeddings=120,
        attention_window=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.4,
        coreference={**SETTINGS, **settings},
    )
    model = HfLongformerForCoreference(config).eval()
    torch.nn.init.normal_(model.antecedent_scorer.pair.weight, std=0.1)
    return model


def make_text(words: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Words of one to three tokens, with a special token at either end, and gold mentions of three clusters."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 4, (words,), generator=generator)
    ends = sizes.cumsum(0)
    tokens = torch.stack([ends - sizes + 1, ends], dim=1)
    ids = torch.randint(5, 50, (int(ends[-1]) + 2,), generator=generator)
    places = torch.randperm(words - 2, generator=generator)[: words // 3].sort().values
    mentions = torch.stack([places, places + torch.arange(len(places)) % 3], dim=1)
    return {
        "input_ids": ids,
        "word_tokens": tokens,
        "word_keys": torch.tensor(KEYS)[torch.randint(0, 6, (words,), generator=generator)],
        "mentions": mentions,
        "labels": torch.arange(len(places)) % 3,
    }


def batch_of(*texts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    paddings = {"input_ids": 1, "word_tokens": -1, "word_keys": 0, "mentions": -1, "labels": -100}
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([text[name] for text in texts], batch_first=True, padding_value=padding)
        for name, padding in paddings.items()
    }
    lengths = torch.tensor([len(text["input_ids"]) for text in texts])
    batch["attention_mask"] = (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long()
    return batch


def by_definition(model: HfLongformerForCoreference, text: dict[str, torch.Tensor]) -> tuple[Any, Any, Any, float]:
    """Spans, antecedents and mention scores, span by span and pair by pair, and the loss."""
    states = model.longformer(text["input_ids"][None]).last_hidden_state[0]
    words, width = len(text["word_tokens"]), model.width
    first, last = (states[text["word_tokens"][:, side]] for side in (0, 1))
    scorer, pairs = model.mention_scorer, model.antecedent_scorer
    starts, ends = scorer.start(first), scorer.end(last)
    scores = {}
    for i in range(words):
        for j in range(i, min(words, i + width)):
            together = scorer.together(starts[i]) @ ends[j] / math.sqrt(starts.shape[1])
            scores[i, j] = scorer.start_out(starts[i])[0] + scorer.end_out(ends[j])[0] + together
    gold = {tuple(m): int(c) for m, c in zip(text["mentions"].tolist(), text["labels"], strict=True)}
    loss = sum(float(torch.nn.functional.softplus(-score if span in gold else score)) for span, score in scores.items())
    spans = sorted(sorted(scores, key=lambda span: -float(scores[span]))[: int(model.share * words)])
    edges = [torch.cat([pairs.start(first[i]), pairs.end(last[j])]) for i, j in spans]
    keys = text["word_keys"].tolist()
    antecedents = []
    for q, (i, j) in enumerate(spans):
        table = {}
        for c, (k, m) in enumerate(spans[:q]):
            if model.farthest and q - c > model.farthest:
                continue
            relation = 1 if keys[j] == keys[m] else 2
            relation = 0 if sorted(keys[i : j + 1]) == sorted(keys[k : m + 1]) else relation
            bucket = int(math.log2(max(1, i - k)))
            bias = pairs.pair(edges[q])[relation * modeling.DISTANCES + bucket]
            product = pairs.together(edges[q]) @ edges[c] / math.sqrt(len(edges[q]))
            table[c] = float(product + bias + scores[i, j] + scores[k, m])
        best = max(table, key=table.__getitem__, default=-1)
        antecedents.append(best)
        right = [c for c in table if gold.get(spans[c], -1) == gold.get((i, j), -2)]
        total = math.log(1 + sum(map(math.exp, table.values())))
        loss += total - (math.log(sum(math.exp(table[c]) for c in right)) if right else 0.0)
    return spans, antecedents, [float(scores[span]) for span in spans], loss / len(gold)


@torch.no_grad()
@pytest.mark.parametrize("rows", [3, 7, 256])
@pytest.mark.parametrize("farthest", [None, 5])
def test_scores_and_loss_are_those_of_the_definition(
    rows: int, farthest: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modeling, "ROWS", rows)
    for seed, words in enumerate((3, 11, 24)):
        model, text = make_model(farthest=farthest).double(), make_text(words, seed)
        outputs = model(**batch_of(text))
        spans, antecedents, scores, loss = by_definition(model, text)
        assert outputs.spans[0].tolist() == [list(span) for span in spans]
        assert outputs.antecedents[0].tolist() == antecedents
        assert outputs.mention_logits[0].tolist() == pytest.approx(scores, abs=1e-5)
        assert float(outputs.loss) == pytest.approx(loss, rel=1e-5)


def test_blocks_give_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    text, found = make_text(24), []
    for rows in (4, 256):
        monkeypatch.setattr(modeling, "ROWS", rows)
        torch.manual_seed(0)
        model = make_model()
        model(**batch_of(text)).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 30
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_batch_is_its_texts_alone() -> None:
    model, texts = make_model(), [make_text(24, 1), make_text(9, 2)]
    together = model(**batch_of(*texts))
    alone = [model(**batch_of(text)) for text in texts]
    for row, one in enumerate(alone):
        number = one.spans.shape[1]
        assert together.spans[row, :number].equal(one.spans[0])
        assert (together.spans[row, number:] == -1).all()
        assert together.antecedents[row, :number].equal(one.antecedents[0])
        torch.testing.assert_close(together.mention_logits[row, :number], one.mention_logits[0], rtol=1e-4, atol=1e-5)
    counts = [len(text["labels"]) for text in texts]
    mean = sum(one.loss.item() * count for one, count in zip(alone, counts, strict=True)) / sum(counts)
    assert float(together.loss) == pytest.approx(mean, rel=1e-4)
    share = model(**batch_of(texts[1]), num_items_in_batch=torch.tensor(sum(counts))).loss
    assert float(share) == pytest.approx(float(alone[1].loss) * counts[1] / sum(counts), rel=1e-4)


def test_a_text_without_mentions_has_a_finite_loss() -> None:
    text = {**make_text(9), "mentions": torch.zeros(0, 2, dtype=torch.long), "labels": torch.zeros(0, dtype=torch.long)}
    for items in ({}, {"num_items_in_batch": torch.tensor(0)}):
        loss = make_model()(**batch_of(text), **items).loss
        assert 0 < loss.item() < float("inf")


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    model, batch = make_model(), batch_of(make_text(12))
    model.save_pretrained(tmp_path)
    loaded = HfLongformerForCoreference.from_pretrained(tmp_path).eval()
    assert loaded.config.coreference == {**SETTINGS}
    torch.testing.assert_close(loaded(**batch).to_tuple()[1:], model(**batch).to_tuple()[1:])


def test_what_is_needed_is_said() -> None:
    batch = batch_of(make_text(9))
    with pytest.raises(ValueError, match="word_tokens and word_keys are needed"):
        make_model()(batch["input_ids"])
    with pytest.raises(ValueError, match="mentions and labels belong together"):
        make_model()(**{name: value for name, value in batch.items() if name != "labels"})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"depth": 3}, "coreference knows size, width, share, farthest, singletons, got depth"),
        ({"width": 0}, "coreference must have a whole number of at least 1 as width, got 0"),
        ({"size": None}, "coreference must have a whole number of at least 1 as size, got None"),
        ({"share": 0}, "coreference must have a share above 0 and at most 10, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HfLongformerConfig(coreference=settings)


def test_spans_are_unlikely_before_training_and_loaded_ones_stay_as_they_are(tmp_path: Path) -> None:
    model = make_model()
    assert model.mention_scorer.start_out.bias.item() == modeling.RARE
    with torch.no_grad():
        model.mention_scorer.start_out.bias.fill_(0.25)
    model.save_pretrained(tmp_path)
    assert HfLongformerForCoreference.from_pretrained(tmp_path).mention_scorer.start_out.bias.item() == 0.25
