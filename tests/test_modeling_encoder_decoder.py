# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder-decoder: padding, global tokens, generation, loading of stock LED checkpoints, losses and limits."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    LEDConfig,
    LEDForConditionalGeneration,
    LEDModel,
    Trainer,
    TrainingArguments,
)

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerEncoderDecoderConfig,
    HfLongformerEncoderDecoderModel,
    HfLongformerForConditionalGeneration,
    feed_forward,
)
from hf_longformer.transformers_internals import release

ENCODER: dict[str, Any] = {
    **{"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    **{"max_position_embeddings": 80, "attention_window": [4, 8]},
}
DECODER: dict[str, Any] = {
    **{"vocab_size": 60, "d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 20},
    "max_position_embeddings": 24,
}
LENGTHS = (50, 31, 7)
NAME = {"_name_or_path": ""}  # what a configuration has of the folder that it comes from


def small_config(encoder: dict[str, Any] | None = None, **fields: Any) -> HfLongformerEncoderDecoderConfig:
    decoder = {**DECODER, **fields.pop("decoder", {})}
    return HfLongformerEncoderDecoderConfig(encoder={**ENCODER, **(encoder or {})}, decoder=decoder, **fields)


def small_model(encoder: dict[str, Any] | None = None, **fields: Any) -> Any:
    model = HfLongformerForConditionalGeneration(small_config(encoder, **fields))
    with torch.no_grad():
        for tensor in (*model.parameters(), model.final_logits_bias):
            tensor.copy_(torch.randn(tensor.shape) * 0.4)
    return model.double().eval()


@pytest.fixture
def model() -> Any:
    return small_model()


def texts() -> list[torch.Tensor]:
    return [torch.randint(3, 60, (length,)) for length in LENGTHS]


def batch_of(rows: list[torch.Tensor], side: str = "right") -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids, mask = (torch.full((len(rows), longest), fill) for fill in (1, 0))
    for row, text in enumerate(rows):
        place = slice(0, len(text)) if side == "right" else slice(longest - len(text), longest)
        ids[row, place], mask[row, place] = text, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_batch_equals_its_texts_alone(model: Any, side: str):
    rows, written = texts(), torch.randint(3, 60, (3, 6))
    batch = batch_of(rows, side)
    together = model(**batch, decoder_input_ids=written)
    for row, text in enumerate(rows):
        alone = model(text[None], decoder_input_ids=written[row : row + 1])
        states = together.encoder_last_hidden_state[row, batch["attention_mask"][row].bool()]
        torch.testing.assert_close(states, alone.encoder_last_hidden_state[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(together.logits[row], alone.logits[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("beams", [1, 4])
def test_generate_without_a_mask_does_not_read_padding(model: Any, side: str, beams: int):
    rows = texts()
    batch = batch_of(rows, side)
    settings = {"num_beams": beams, "max_new_tokens": 10, "min_new_tokens": 10}
    without = model.generate(batch["input_ids"], **settings)
    assert torch.equal(without, model.generate(**batch, **settings))
    assert torch.equal(without, model.generate(input_ids=batch["input_ids"], **settings))
    for row, text in enumerate(rows):
        assert torch.equal(without[row], model.generate(text[None], **settings)[0])
    written = torch.randint(3, 60, (3, 6))
    outputs = [
        model(**inputs, decoder_input_ids=written).logits for inputs in ({"input_ids": batch["input_ids"]}, batch)
    ]
    assert torch.equal(*outputs)


def test_first_token_is_global_unless_the_configuration_says_otherwise(model: Any):
    batch = batch_of(texts(), "left")
    first, none = (torch.zeros_like(batch["input_ids"]) for _ in range(2))
    first[torch.arange(3), batch["attention_mask"].argmax(1)] = 1

    def encoded(one: Any, **more: torch.Tensor) -> torch.Tensor:
        return one(**batch, **more, decoder_input_ids=torch.full((3, 1), 2)).encoder_last_hidden_state

    by_default, marked, unmarked = encoded(model), *(encoded(model, global_attention_mask=m) for m in (first, none))
    assert torch.equal(by_default, marked)
    assert (by_default - unmarked).abs().max() > 1e-3
    assert torch.equal(model.get_encoder()(**batch).last_hidden_state, by_default)
    model.config.encoder.global_attention = "none"
    assert torch.equal(encoded(model), unmarked)


@pytest.mark.parametrize("beams", [1, 3])
def test_global_attention_mask_reaches_the_encoder_through_generate(model: Any, beams: int):
    batch = batch_of(texts())
    marked = torch.zeros_like(batch["input_ids"])
    marked[0, 4] = marked[1, [0, 9, 20]] = 1
    settings = {"num_beams": beams, "num_return_sequences": beams, "max_new_tokens": 8, "min_new_tokens": 8}
    settings |= {"output_scores": True, "return_dict_in_generate": True}
    through = model.generate(**batch, global_attention_mask=marked, **settings)
    encoded = model.get_encoder()(**batch, global_attention_mask=marked)
    given = model.generate(encoder_outputs=encoded, attention_mask=batch["attention_mask"], **settings)
    assert torch.equal(through.sequences, given.sequences)
    without = model.generate(**batch, **settings)
    assert not torch.allclose(through.scores[0], without.scores[0])


def test_encoder_runs_once_and_its_outputs_can_be_used_again(model: Any):
    calls = []
    model.get_encoder().register_forward_hook(lambda *_: calls.append(1))
    batch = batch_of(texts())
    model.generate(**batch, num_beams=4, max_new_tokens=12, min_new_tokens=12)
    assert len(calls) == 1
    written = torch.randint(3, 60, (3, 6))
    first = model(**batch, decoder_input_ids=written)
    mask = batch["attention_mask"]
    for given in (
        model.get_encoder()(**batch),
        (first.encoder_last_hidden_state,),
        (first.encoder_last_hidden_state, None, None),
    ):
        again = model(encoder_outputs=given, attention_mask=mask, decoder_input_ids=written)
        assert torch.equal(again.logits, first.logits)
    assert len(calls) == 3


def test_assisted_decoding_writes_the_same(model: Any):
    helper, batch = small_model({"num_hidden_layers": 1, "attention_window": 4}), batch_of(texts()[:1])
    settings = {"max_new_tokens": 15, "min_new_tokens": 15}
    expected = model.generate(**batch, **settings)
    assert torch.equal(expected, model.generate(**batch, **settings, assistant_model=helper))
    if release(transformers.__version__) >= (5, 23):  # before, BART writes something else with it, too
        assert torch.equal(expected, model.generate(**batch, **settings, prompt_lookup_num_tokens=2))


def test_cache_changes_nothing(model: Any):
    batch, written = batch_of(texts()), torch.randint(3, 60, (3, 9))
    whole = model(**batch, decoder_input_ids=written, use_cache=False)
    assert whole.past_key_values is None
    first = model(**batch, decoder_input_ids=written[:, :5], use_cache=True)
    rest = model(**batch, decoder_input_ids=written[:, 5:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), whole.logits, rtol=0, atol=1e-12)


def test_limits_are_refused_in_one_sentence(model: Any):
    ids, written = torch.randint(3, 60, (1, 81)), torch.randint(3, 60, (1, 25))
    with pytest.raises(ValueError, match="the longest text has 81 tokens, the model takes 80"):
        model(ids, decoder_input_ids=written[:, :2])
    with pytest.raises(ValueError, match="the longest text has 81 tokens"):
        model.generate(ids)
    for given in ({"decoder_input_ids": written}, {"labels": written}, {}):
        with pytest.raises(ValueError, match=r"the decoder takes 24 tokens, got \d\d"):
            model(ids[:, :80], **given)
    with pytest.raises(ValueError, match="ask for at most 24"):
        model.generate(ids[:, :80], max_new_tokens=25)
    assert model.generate(ids[:, :80], max_new_tokens=24, min_new_tokens=24).shape == (1, 25)
    assert model.generate(ids[:, :80]).shape[1] <= 21
    with pytest.raises(ValueError, match="got none of them"):
        model(inputs_embeds=torch.randn(1, 5, 16).double())
    with pytest.raises(TypeError, match="did you mean 'global_attention_mask'"):
        model(ids[:, :9], global_atention_mask=ids[:, :9])


def test_base_model_reads_its_own_input_one_token_later_as_bart(model: Any):
    ids = torch.randint(3, 60, (2, 20))
    later = torch.cat([torch.full((2, 1), 2), ids[:, :-1]], dim=1)
    assert torch.equal(model.model(ids).last_hidden_state, model.model(ids, decoder_input_ids=later).last_hidden_state)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("head", [LEDModel, LEDForConditionalGeneration])
def test_led_checkpoints_load_and_are_saved_as_ours(head: type, tie: bool, tmp_path: Path):
    fields = {"vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "attention_window": [4, 8]}
    fields |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 8}
    fields |= {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 20}
    stock = head(LEDConfig(**fields, tie_word_embeddings=tie)).eval()
    for parameter in stock.parameters():
        nn.init.normal_(parameter, std=0.4)
    stock.save_pretrained(tmp_path / "led")
    auto = AutoModel if head is LEDModel else AutoModelForSeq2SeqLM
    ours_class = HfLongformerEncoderDecoderModel if head is LEDModel else HfLongformerForConditionalGeneration
    ours, report = ours_class.from_pretrained(tmp_path / "led", output_loading_info=True)
    assert not any(report.values())
    ours.eval()
    inputs = batch_of(texts()) | {"decoder_input_ids": torch.randint(3, 60, (3, 6))}
    marked = torch.zeros_like(inputs["input_ids"])
    marked[:, 0] = 1
    expected = stock(**inputs, global_attention_mask=marked)[0]
    torch.testing.assert_close(ours(**inputs)[0], expected, rtol=0, atol=2e-5)
    ours.save_pretrained(tmp_path / "ours")
    again, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    assert type(again) is ours_class
    assert torch.equal(again.eval()(**inputs)[0], ours(**inputs)[0])
    assert ours.config.to_dict() | NAME == again.config.to_dict() | NAME


def test_base_checkpoint_of_led_gets_a_head(tmp_path: Path):
    fields = {"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "attention_window": 4}
    fields |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_encoder_position_embeddings": 64}
    LEDModel(LEDConfig(**fields)).save_pretrained(tmp_path)
    model = HfLongformerForConditionalGeneration.from_pretrained(tmp_path)
    words = load_file(tmp_path / "model.safetensors")["shared.weight"]
    assert torch.equal(model.lm_head.weight, words)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight


def test_led_checkpoint_without_all_weights_is_refused(tmp_path: Path):
    """Files of Transformers 4 with embeddings that are not tied lack those of both halves; 5 takes random ones."""
    fields = {"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "attention_window": 4}
    fields |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_encoder_position_embeddings": 64}
    LEDForConditionalGeneration(LEDConfig(**fields, tie_word_embeddings=False)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: one for name, one in weights.items() if "embed_tokens" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"must hold all weights .* got none for .*embed_tokens"):
        HfLongformerForConditionalGeneration.from_pretrained(tmp_path)


def test_loss_is_the_mean_over_all_labels_of_a_step(model: Any, tmp_path: Path):
    """Also with gradient accumulation, where stock multiplies it, and with labels of different lengths."""
    rows, lengths = texts() + texts()[:1], (3, 9, 1, 6)
    labels = [torch.randint(3, 60, (length,)) for length in lengths]
    rows = [{"input_ids": text, "labels": label} for text, label in zip(rows, labels, strict=True)]

    def collate(features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        padded = nn.utils.rnn.pad_sequence([one["labels"] for one in features], True, -100)
        return batch_of([one["input_ids"] for one in features]) | {"labels": padded}

    made = {}
    for size, times in ((4, 1), (1, 4), (2, 2)):
        one = small_model()
        one.load_state_dict(model.state_dict())
        for module in one.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for layer in one.model.decoder.layers:
            layer.dropout = layer.self_attn.dropout = layer.encoder_attn.dropout = 0.0
        one.model.decoder.dropout = 0.0
        for layer in one.model.encoder.encoder.layer:
            layer.attention.self.dropout = 0.0
        arguments = TrainingArguments(
            str(tmp_path / f"{size}"),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=times,
            max_steps=1,
            learning_rate=1.0,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        result = Trainer(one, arguments, train_dataset=rows, data_collator=collate).train()
        made[size] = (result.training_loss, one.state_dict())
    for size in (1, 2):
        assert made[size][0] == pytest.approx(made[4][0], rel=1e-9)
        for name, tensor in made[size][1].items():
            torch.testing.assert_close(tensor, made[4][1][name], rtol=0, atol=1e-9)


def test_loss_without_trainer_is_the_mean_over_labels(model: Any):
    batch, labels = batch_of(texts()), torch.randint(3, 60, (3, 6))
    labels[0, 3:] = -100
    outputs = model(**batch, labels=labels)
    expected = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(outputs.loss, expected)
    later = model.prepare_decoder_input_ids_from_labels(labels)
    assert later[0].tolist() == [2, *labels[0, :3].tolist(), 1, 1]
    assert torch.equal(model(**batch, decoder_input_ids=later).logits, outputs.logits)


@pytest.mark.parametrize("tie", [True, False])
def test_vocabulary_can_grow_and_shrink(tie: bool, tmp_path: Path):
    model = small_model(tie_word_embeddings=tie)
    inputs = {"input_ids": torch.randint(3, 50, (2, 9)), "decoder_input_ids": torch.randint(3, 50, (2, 4))}
    before = model(**inputs).logits
    for size in (70, 55):
        model.resize_token_embeddings(size)
        config = model.config
        assert (config.vocab_size, config.encoder.vocab_size, config.decoder.vocab_size) == (size,) * 3
        common = min(size, 60)
        torch.testing.assert_close(model(**inputs).logits[..., :common], before[..., :common])
    model.save_pretrained(tmp_path)
    again = HfLongformerForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float64).eval()
    kept, state = model.state_dict(), again.state_dict()
    assert kept.keys() == state.keys()
    assert all(torch.equal(state[name], kept[name]) for name in state)
    torch.testing.assert_close(
        again(**inputs).logits, model(**inputs).logits
    )  # where weights lie in memory decides bits


@pytest.mark.parametrize("name", ["eager", "blocked", "cpu"])
def test_attn_implementation_is_the_encoders(model: Any, name: str, tmp_path: Path):
    batch, written = batch_of(texts()), torch.randint(3, 60, (3, 6))
    expected = model(**batch, decoder_input_ids=written).logits
    model.save_pretrained(tmp_path)
    loaded = HfLongformerForConditionalGeneration.from_pretrained(
        tmp_path, attn_implementation=name, dtype=torch.float64
    ).eval()
    model.set_attn_implementation(name)
    for one in (model, loaded):
        assert one.model.encoder.config._attn_implementation == name
        assert one.model.decoder.config._attn_implementation == ("eager" if name == "eager" else "sdpa")
        torch.testing.assert_close(one(**batch, decoder_input_ids=written).logits, expected, rtol=0, atol=1e-12)


def test_weights_and_states_are_given_whatever_computes_them(model: Any):
    batch, written = batch_of(texts()), torch.randint(3, 60, (3, 6))
    plain = model(**batch, decoder_input_ids=written)
    outputs = model(**batch, decoder_input_ids=written, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, plain.logits, rtol=0, atol=1e-12)
    assert [tuple(one.shape) for one in outputs.decoder_attentions] == [(3, 4, 6, 6)] * 2
    assert [tuple(one.shape) for one in outputs.cross_attentions] == [(3, 4, 6, 50)] * 2
    assert [tuple(one.shape) for one in outputs.encoder_attentions] == [(3, 2, 50, 1 + 5), (3, 2, 50, 1 + 9)]
    assert [tuple(one.shape) for one in outputs.encoder_global_attentions] == [(3, 2, 50, 1)] * 2
    assert len(outputs.encoder_hidden_states) == len(outputs.decoder_hidden_states) == 3
    assert model.model.decoder.config._attn_implementation == "sdpa"
    model.config.output_attentions = True
    assert model(**batch, decoder_input_ids=written).cross_attentions[0].shape == (3, 4, 6, 50)
    as_tuple = model(**batch, decoder_input_ids=written, return_dict=False)
    assert torch.equal(as_tuple[0], outputs.logits)


def test_layerdrop_leaves_layers_out_in_training_alone():
    model = small_model({"layerdrop": 1.0, "hidden_dropout_prob": 0.0})
    ids = torch.randint(3, 60, (2, 9))
    encoder = model.get_encoder()
    whole = encoder(ids).last_hidden_state
    encoder.train()
    left_out = encoder(ids).last_hidden_state
    assert torch.equal(left_out, encoder.embeddings(ids))
    assert not torch.equal(left_out, whole)


def test_dropout_behind_the_activation_is_computed_again_as_it_was(monkeypatch: pytest.MonkeyPatch):
    """In training the widest tensor is kept once; what is computed again for the backward pass is the same."""
    model = small_model({"activation_dropout": 0.3}).train()
    batch, labels = batch_of(texts()), torch.randint(3, 60, (3, 6))
    found = []
    for can in (True, False):
        if not can:
            monkeypatch.setattr(feed_forward, "_can_recompute", lambda intermediate: False)
        torch.manual_seed(3)
        model.zero_grad()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        found.append([loss, *(one.grad for one in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    torch.manual_seed(3)
    without = small_model().train()
    without.load_state_dict(model.state_dict())
    assert without(**batch, labels=labels).loss != found[0][0]


def test_checkpointing_changes_no_gradient(model: Any):
    batch, labels = batch_of(texts()), torch.randint(3, 60, (3, 6))
    found = []
    for _ in range(2):
        model.train()
        torch.manual_seed(0)
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()
        found.append([one.grad for one in model.parameters()])
        model.gradient_checkpointing_enable()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_compiled_whole(model: Any):
    batch, written = batch_of(texts()), torch.randint(3, 60, (3, 6))
    expected = model(**batch, decoder_input_ids=written, use_cache=False).logits
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    outputs = compiled(**batch, decoder_input_ids=written, use_cache=False)
    torch.testing.assert_close(outputs.logits, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(model: Any, dtype: torch.dtype):
    batch, written = batch_of(texts()), torch.randint(3, 60, (3, 6))
    expected = model(**batch, decoder_input_ids=written).logits
    error = (model.to(dtype)(**batch, decoder_input_ids=written).logits.double() - expected).abs().max()
    assert error < (0.5 if dtype == torch.bfloat16 else 0.06)


class TestConfig:
    def test_halves_must_fit(self):
        for fields, words in (
            (
                {"encoder": {"hidden_size": 32}},
                "hidden_size and d_model of encoder and decoder must be the same, got 32",
            ),
            ({"decoder": {"vocab_size": 61}}, "vocab_size of encoder and decoder must be the same, got 60 and 61"),
            ({"decoder": {"pad_token_id": 3}}, "pad_token_id"),
            ({"decoder": {"scale_embedding": True}}, "scale_embedding"),
            ({"encoder": {"is_decoder": True}}, "must look both ways"),
            ({"encoder": {"embedding_size": 8}}, "as wide as its layers"),
            ({"decoder": {"decoder_attention_heads": 3}}, "multiple of decoder_attention_heads"),
        ):
            with pytest.raises(ValueError, match=words):
                small_config(**fields)

    def test_misspelt_fields_are_refused(self):
        with pytest.raises(ValueError, match="did you mean 'decoder_start_token_id'"):
            small_config(decoder_start_tokenid=3)
        with pytest.raises(ValueError, match="did you mean 'attention_window'"):
            small_config({"attention_windows": 8})

    def test_defaults_are_those_of_led(self):
        ours, stock = HfLongformerEncoderDecoderConfig(), HfLongformerEncoderDecoderConfig.of_stock(LEDConfig())
        ours, stock = (one.to_dict() for one in (ours, stock))
        ours["decoder"]["forced_eos_token_id"] = None
        ours["encoder"]["global_attention"] = "none"
        for one in (ours, stock):
            one["encoder"]["attention_window"] = 512
            for part in (one, one["encoder"], one["decoder"]):
                part.pop("id2label"), part.pop("label2id")
        assert ours == stock

    def test_what_is_saved_is_what_is_loaded(self, tmp_path: Path):
        config = small_config({"attention_dilation": [[1, 2], [2, 2]], "global_attention": "none"}, eos_token_id=5)
        config.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is HfLongformerEncoderDecoderConfig
        assert type(loaded.encoder) is HfLongformerConfig
        assert loaded.to_dict() | NAME == config.to_dict() | NAME
        assert loaded.encoder.attention_dilation == [[1, 2], [2, 2]]
        assert loaded.decoder.eos_token_id == loaded.encoder.eos_token_id == 5

    def test_stock_config_stays_as_it_is(self):
        stock = LEDConfig(attention_window=[4] * 12)
        before = stock.to_dict()
        made = HfLongformerEncoderDecoderConfig.of_stock(stock)
        made.encoder.attention_window[0] = 8
        assert stock.to_dict() == before
        assert made.encoder.first_position == made.encoder.type_vocab_size == 0
        assert made.max_length_tokens == 16384
