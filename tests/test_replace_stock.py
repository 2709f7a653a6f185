# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`replace_stock`: software that knows stock Longformer alone gets this package's models, the same numbers, and stock
again afterwards.
"""

import dataclasses
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import SIZES, random_ids, randomise, tiny_config, tiny_tokenizer
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    TOKENIZER_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoTokenizer,
    BertPreTrainedModel,
    LEDConfig,
    LongformerConfig,
    LongformerModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    pipeline,
)

import hf_longformer
from hf_longformer import AUTO_CLASSES, HfLongformerConfig, HfLongformerModel, replace_stock
from hf_longformer.configuration_hf_longformer import BEYOND_STOCK
from hf_longformer.conversion import export
from hf_longformer.transformers_internals import auto_mappings, registered

HEADS = {
    model.__name__: auto
    for model, auto in AUTO_CLASSES.items()
    if model.config_class is HfLongformerConfig and not model.__name__.endswith("CausalLM")
}
OUTPUTS = ("loss", "last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits")


pytestmark = pytest.mark.usefixtures("softmax_in_its_own_dtype")


@pytest.fixture(autouse=True)
def stock_again() -> Iterator[None]:
    yield
    replace_stock().undo()


def stock_config(**fields: Any) -> LongformerConfig:
    return LongformerConfig(**(SIZES | {"attention_window": [4, 8]} | fields))


def save_stock(name: str, folder: Path, **fields: Any) -> PreTrainedModel:
    """A stock model with large weights in float64, saved."""
    model = randomise(getattr(transformers, name)(stock_config(**fields))).double()
    model.save_pretrained(folder)
    return model


def what_is_registered() -> list[Any]:
    mappings = [*(mapping for mapping, _ in auto_mappings("longformer")), CONFIG_MAPPING, TOKENIZER_MAPPING]
    names = {name: value for name, value in vars(transformers).items() if "ongformer" in name}
    return [*(dict(registered(mapping)) for mapping in mappings), names, HfLongformerConfig.reads_stock_as_stock]


def inputs_for(name: str) -> dict[str, torch.Tensor]:
    """Two texts, one of them padded, with separators where a pair has them."""
    shape = (2, 3, 21) if "MultipleChoice" in name else (2, 21)
    ids, mask = random_ids(*shape), torch.ones(shape, dtype=torch.long)
    ids[..., 0], ids[..., 6:8], ids[..., 15] = 0, 2, 2
    ids[1, ..., 16:], mask[1, ..., 16:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


def assert_same(ours: Any, stock: Any, real: torch.Tensor) -> None:
    """All outputs in float64 on real tokens; attention weights of their rows, those of global tokens apart."""
    found = [name for name in OUTPUTS if stock.get(name) is not None]
    assert found
    for name in found:
        one, other = ours[name], stock[name]
        if one.shape[: real.dim()] == real.shape:
            one, other = one[real], other[real]
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    rows = real.flatten(0, -2)
    for one, other in zip(ours.hidden_states, stock.hidden_states, strict=True):
        torch.testing.assert_close(one[rows], other[rows], rtol=1e-10, atol=1e-10)
    for name in ("attentions", "global_attentions"):
        for one, other in zip(ours.get(name) or (), stock.get(name) or (), strict=True):
            other = other[:, :, : rows.shape[1]]  # stock's global ones are padded to the window
            assert one.shape == other.shape
            if name == "global_attentions":  # columns beyond the global tokens of a text are 0, and uniform in stock
                other = other * (one.sum(dim=2, keepdim=True) > 0)
            one, other = one.transpose(1, 2)[rows], other.transpose(1, 2)[rows]
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("marked", [False, True], ids=["default", "given"])
@pytest.mark.parametrize("name", HEADS)
def test_from_pretrained_gives_our_model_and_stocks_numbers(name: str, marked: bool, tmp_path: Path):
    stock = save_stock(name.removeprefix("Hf"), tmp_path)
    inputs = inputs_for(name)
    if marked:
        inputs["global_attention_mask"] = torch.zeros_like(inputs["input_ids"])
        inputs["global_attention_mask"][..., [0, 9]] = 1
    with replace_stock():
        ours, report = HEADS[name].from_pretrained(tmp_path, output_loading_info=True)
        assert type(HEADS[name].from_config(stock_config())) is type(ours)
    assert type(ours) is getattr(hf_longformer, name)
    assert not any(report.values()), report
    assert ours.dtype == torch.float64
    wanted = {"output_hidden_states": True, "output_attentions": True}
    assert_same(ours.eval()(**inputs, **wanted), stock(**inputs, **wanted), inputs["attention_mask"].bool())
    assert ours.config.attention_window == [4, 8]
    assert type(HEADS[name].from_pretrained(tmp_path)) is type(stock)


def test_keywords_of_from_pretrained(tmp_path: Path):
    save_stock("LongformerModel", tmp_path)
    with replace_stock():
        options: dict[str, Any] = {"dtype": torch.float32, "attention_window": 6, "add_pooling_layer": False}
        model = AutoModel.from_pretrained(tmp_path, attn_implementation="eager", **options)
    assert (model.dtype, model.pooler) == (torch.float32, None)
    assert model.config.attention_window == [6, 6]  # as stock's own models have it
    assert model.config._attn_implementation == "eager"


def test_configurations_that_stock_made_before(tmp_path: Path):
    stock = save_stock("LongformerModel", tmp_path)
    stock.config.output_hidden_states, stock.config.somebodys_field = True, {"a": 1}
    assert stock.config._attn_implementation == "eager"  # all that stock has, and no wish of anybody's
    before = stock.config.to_dict()
    with replace_stock():
        loaded = AutoModel.from_pretrained(tmp_path, config=stock.config).eval()
        made = AutoModel.from_config(stock.config, attn_implementation="blocked")
        plain = HfLongformerModel(stock.config)
    assert stock.config.to_dict() == before
    assert loaded.config._attn_implementation == plain.config._attn_implementation == "sdpa"
    assert made.config._attn_implementation == "blocked"
    assert {type(model) for model in (loaded, made, plain)} == {HfLongformerModel}
    assert loaded.config.somebodys_field == {"a": 1}
    inputs = inputs_for("Model")
    expected = stock(**inputs)
    torch.testing.assert_close(loaded(**inputs).pooler_output, expected.pooler_output, rtol=1e-10, atol=1e-10)
    assert len(loaded(**inputs).hidden_states) == 3


MASKS = {
    "real tokens masked": ({"attention_mask": [[1, 1, 0, 0, 1, 1, 1, 1, 0]]}, [[0, 5, 6, 7, 8, 9, 10, 2, 1]]),
    "padding not masked": ({}, [[0, 5, 6, 7, 8, 2, 1, 1, 1]]),
    "padding inside": ({"attention_mask": [[1, 1, 1, 0, 0, 1, 1, 1, 1]]}, [[0, 5, 6, 1, 1, 7, 8, 9, 2]]),
    "padding on the left": ({"attention_mask": [[0, 0, 1, 1, 1, 1, 1, 1, 1]]}, [[1, 1, 0, 5, 6, 7, 8, 9, 2]]),
    "padding by another id": ({"attention_mask": [[1, 1, 1, 1, 1, 1, 1, 0, 0]]}, [[0, 5, 6, 7, 8, 9, 2, 7, 7]]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_positions_are_counted_as_stock_counts_them(kind: str, tmp_path: Path):
    masks, ids = MASKS[kind]
    inputs = {name: torch.tensor(mask) for name, mask in masks.items()}
    stock = save_stock("LongformerModel", tmp_path)
    with replace_stock():
        ours = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    real = inputs.get("attention_mask", torch.ones(1, 9)).bool()
    embeds = stock.get_input_embeddings()(torch.tensor(ids))
    for given in ({"input_ids": torch.tensor(ids)}, {"inputs_embeds": embeds}):
        states = [model(**given, **inputs).last_hidden_state[real] for model in (ours, stock)]
        torch.testing.assert_close(*states, rtol=1e-10, atol=1e-10)
    ours.save_pretrained(tmp_path / "ours")
    again = AutoModel.from_pretrained(tmp_path / "ours", add_pooling_layer=False).eval()
    torch.testing.assert_close(again(**given, **inputs).last_hidden_state[real], states[1], rtol=1e-10, atol=1e-10)


def test_what_stock_computes_from_padding_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save_stock("LongformerForSequenceClassification", tmp_path / "a")
    save_stock("LongformerForQuestionAnswering", tmp_path / "b")
    with replace_stock():
        classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
        reader = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "b")
    ids, left = torch.tensor([[1, 1, 0, 5, 2, 2, 7, 2]]), torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
    with caplog.at_level(logging.WARNING):
        classifier(ids, left.flip(1))
        reader(ids, left)
        assert not [text for text in caplog.messages if "stock Longformer" in text]
        classifier(ids, left)
        reader(ids, left, start_positions=torch.tensor([6]), end_positions=torch.tensor([6]))
    said = [text for text in caplog.messages if "stock Longformer" in text]
    assert len(said) == 2
    assert "padded on the left" in said[0]
    assert "the loss leaves padding out" in said[1]


def test_what_is_refused(tmp_path: Path):
    save_stock("LongformerModel", tmp_path)
    ids = random_ids(1, 9)
    with replace_stock():
        model = AutoModel.from_pretrained(tmp_path)
        with pytest.raises(ValueError, match="global tokens belong in global_attention_mask"):
            model(ids, attention_mask=torch.tensor([[2, 1, 1, 1, 1, 1, 1, 1, 1]]))
        with pytest.raises(NotImplementedError, match="got is_decoder=True"):
            AutoModel.from_pretrained(tmp_path, is_decoder=True)
        with pytest.raises(NotImplementedError, match="got is_decoder=True"):
            AutoModel.from_config(stock_config(is_decoder=True))


def test_fields_that_stock_does_not_read_are_left_out_and_named(caplog: pytest.LogCaptureFixture):
    of_stock = {field.name for field in dataclasses.fields(LongformerConfig)}
    assert set(BEYOND_STOCK) == {field.name for field in dataclasses.fields(HfLongformerConfig)} - of_stock
    config = stock_config(classifier_dropout=0.3, attention_dilation=[2, 2], position_embedding_type="absolute")
    with caplog.at_level(logging.WARNING):
        ours = HfLongformerConfig.of_stock(config)
    assert (ours.classifier_dropout, ours.attention_dilation) == (None, 1)
    assert "not read, since stock Longformer does not read it: attention_dilation, classifier_dropout" in caplog.text


def test_everything_is_undone():
    before = what_is_registered()
    with replace_stock():
        during = what_is_registered()
        assert during != before
        with replace_stock():
            assert what_is_registered() == during
        assert what_is_registered() == during
    assert what_is_registered() == before

    replacement = replace_stock()
    replace_stock()
    assert what_is_registered() == during
    with replace_stock():
        pass
    assert what_is_registered() == during
    replacement.undo()
    replacement.undo()
    assert what_is_registered() == before

    with pytest.raises(KeyError), replace_stock():
        raise KeyError
    assert what_is_registered() == before
    with replace_stock() as replacement:
        with replacement:
            pass
        assert what_is_registered() == during
        replacement.undo()
        assert what_is_registered() == before
    assert what_is_registered() == before


def test_blocks_of_several_threads():
    """The block that is left last makes stock stock again, whichever was entered first."""
    before = what_is_registered()
    first, second, last = replace_stock(), replace_stock(), replace_stock()
    with first:
        entered = second.__enter__()
    assert entered is second
    assert type(AutoModel.from_config(stock_config())) is HfLongformerModel
    second.__exit__(None, None, None)
    assert what_is_registered() == before
    with last:  # made before others were left, entered behind
        assert type(AutoModel.from_config(stock_config())) is HfLongformerModel
    assert what_is_registered() == before

    found, left = [], threading.Event()

    def work() -> None:
        with replace_stock():
            inside.set()
            left.wait(30)
            found.append(type(AutoModel.from_config(stock_config())))

    inside, thread = threading.Event(), threading.Thread(target=work)
    with replace_stock():
        thread.start()
        inside.wait(30)
    left.set()
    thread.join()
    assert found == [HfLongformerModel]
    assert what_is_registered() == before


def test_all_is_replaced_or_nothing(monkeypatch: pytest.MonkeyPatch):
    before = what_is_registered()
    monkeypatch.delitem(registered(TOKENIZER_MAPPING), LongformerConfig, raising=False)
    monkeypatch.setattr("hf_longformer.stock.TOKENIZER_MAPPING", {})
    monkeypatch.setattr("hf_longformer.stock.registered", lambda mapping: getattr(mapping, "_extra_content", mapping))
    with pytest.raises(KeyError):
        replace_stock()
    assert what_is_registered() == before


def test_configurations_made_by_their_model_type():
    with replace_stock():
        made = [AutoConfig.for_model("longformer", **SIZES), CONFIG_MAPPING["longformer"](**SIZES)]
        with pytest.raises(NotImplementedError, match="got is_decoder=True"):
            AutoConfig.for_model("longformer", is_decoder=True)
        models = [AutoModel.from_config(config) for config in made]
    for config, model in zip(made, models, strict=True):
        assert type(config) is HfLongformerConfig
        assert (config.position_counting, config.model_type) == ("input_ids", "hf_longformer")
        assert config.hidden_size == SIZES["hidden_size"]
        assert type(model) is HfLongformerModel


def test_what_somebody_else_registered_stands_again():
    class Other(LongformerModel):
        config_class = LongformerConfig

    try:
        AutoModel.register(LongformerConfig, Other, exist_ok=True)
        with replace_stock():
            assert type(AutoModel.from_config(stock_config())) is HfLongformerModel
        assert type(AutoModel.from_config(stock_config())) is Other
    finally:
        del registered(AutoModel._model_mapping)[LongformerConfig]


def test_other_models_and_ours_stay_what_they_are(tmp_path: Path):
    HfLongformerModel(tiny_config()).save_pretrained(tmp_path)
    with replace_stock():
        assert type(AutoModel.from_config(RobertaConfig(**SIZES))) is RobertaModel
        assert AutoModel.from_pretrained(tmp_path).config.position_counting == "attention_mask"
        assert "led" in CONFIG_MAPPING
        assert type(AutoModelForPreTraining.from_config(stock_config())).__name__ == "HfLongformerForMaskedLM"
        assert type(AutoModelForTextEncoding.from_config(stock_config())) is HfLongformerModel


@pytest.mark.parametrize("with_config", [True, False], ids=["with tokenizer_config.json", "without"])
def test_auto_tokenizer_gives_the_same(with_config: bool, tmp_path: Path):
    save_stock("LongformerModel", tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    if not with_config:  # as on the Hub
        (tmp_path / "tokenizer_config.json").unlink()
    expected = AutoTokenizer.from_pretrained(tmp_path)
    with replace_stock():
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer) is type(expected)
    assert tokenizer("the quick fox").input_ids == expected("the quick fox").input_ids
    assert isinstance(tokenizer, PreTrainedTokenizerFast)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_saved_is_ours_and_exported_to_stock_again(name: str, tmp_path: Path):
    stock = save_stock(name.removeprefix("Hf"), tmp_path / "stock")
    with replace_stock():
        HEADS[name].from_pretrained(tmp_path / "stock").save_pretrained(tmp_path / "ours")
    config = AutoConfig.from_pretrained(tmp_path / "ours")
    assert (config.model_type, config.position_counting) == ("hf_longformer", "input_ids")
    ours = HEADS[name].from_pretrained(tmp_path / "ours").eval()
    assert type(ours) is getattr(hf_longformer, name)
    inputs, wanted = inputs_for(name), {"output_hidden_states": True}
    assert_same(ours(**inputs, **wanted), stock(**inputs, **wanted), inputs["attention_mask"].bool())
    export(tmp_path / "ours", tmp_path / "again")
    again = HEADS[name].from_pretrained(tmp_path / "again")
    assert type(again) is type(stock)
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in stock.state_dict().items())


class MentionModel(BertPreTrainedModel):
    """As coreference packages build theirs: any encoder under the name of its own prefix, and a head beside it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.max_span_length = config.coref_head["max_span_length"]
        encoder = AutoModel.from_config(config)
        MentionModel.base_model_prefix = encoder.base_model_prefix
        MentionModel.config_class = encoder.config_class
        setattr(self, self.base_model_prefix, encoder)
        self.mention_scores = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = getattr(self, self.base_model_prefix)(input_ids, attention_mask=attention_mask)[0]
        return self.mention_scores(states)[..., 0]


@pytest.mark.parametrize("read_before", [False, True], ids=["config read inside", "config read before"])
def test_a_model_that_holds_one_made_from_its_configuration(
    read_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(MentionModel, "base_model_prefix", "bert")
    monkeypatch.setattr(MentionModel, "config_class", MentionModel.config_class)
    encoder = randomise(LongformerModel(stock_config(coref_head={"max_span_length": 30}))).double()
    head = nn.Linear(24, 1).double()
    weights = {f"longformer.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights |= {f"mention_scores.{name}": tensor for name, tensor in head.state_dict().items()}
    encoder.config.save_pretrained(tmp_path)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    config = AutoConfig.from_pretrained(tmp_path) if read_before else None
    with replace_stock():
        model, report = MentionModel.from_pretrained(
            tmp_path, config=config or AutoConfig.from_pretrained(tmp_path), output_loading_info=True, dtype="float64"
        )
    assert not any(report.values()), report
    assert type(model.longformer) is HfLongformerModel
    assert model.longformer.config._attn_implementation == "sdpa"
    inputs = inputs_for("Model")
    expected = head(encoder(**inputs).last_hidden_state)[..., 0]
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(model.eval()(**inputs)[real], expected[real], rtol=1e-10, atol=1e-10)


def test_a_model_around_one_gets_more_tokens(monkeypatch: pytest.MonkeyPatch):
    """Which only its own configuration is told."""
    monkeypatch.setattr(MentionModel, "base_model_prefix", "bert")
    monkeypatch.setattr(MentionModel, "config_class", MentionModel.config_class)
    with replace_stock():
        model = MentionModel(stock_config(coref_head={"max_span_length": 30}))
    ids = torch.tensor([[0, SIZES["vocab_size"] + 1, 2]])
    with pytest.raises(ValueError, match=r"word_embeddings.num_embeddings=99"):
        model(ids, torch.ones_like(ids))
    model.resize_token_embeddings(SIZES["vocab_size"] + 2)
    assert model(ids, torch.ones_like(ids)).isfinite().all()


def test_a_module_that_loads_its_encoder_by_name(tmp_path: Path):
    """As another coreference package does: an encoder, its configuration, its tokenizer, and three tokens more."""
    stock = save_stock("LongformerModel", tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with replace_stock():
        encoder = AutoModel.from_pretrained(str(tmp_path)).eval()
        width = AutoConfig.from_pretrained(str(tmp_path)).hidden_size
        tokenizer = AutoTokenizer.from_pretrained(str(tmp_path), use_fast=True, add_prefix_space=True)
    encoder.resize_token_embeddings(encoder.embeddings.word_embeddings.num_embeddings + 3)
    tokenizer.add_tokens(["[SPEAKER_START]", "[SPEAKER_END]"])
    assert type(encoder) is HfLongformerModel
    encoded = tokenizer(["the", "quick", "brown", "fox", "jumps"], is_split_into_words=True)
    inputs = {name: torch.tensor(encoded[name])[None] for name in ("input_ids", "attention_mask")}
    states = encoder(**inputs)["last_hidden_state"]
    assert states.shape == (1, len(encoded["input_ids"]), width)
    torch.testing.assert_close(states, stock(**inputs).last_hidden_state, rtol=1e-10, atol=1e-10)


SCRIPT = """
from transformers import LongformerConfig, LongformerForSequenceClassification
from transformers import LongformerModel, LongformerPreTrainedModel


class Tagger(LongformerPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.longformer = LongformerModel(config, add_pooling_layer=False)
        self.post_init()


config = LongformerConfig.from_pretrained(folder)
classifier = LongformerForSequenceClassification.from_pretrained(folder)
encoder = LongformerModel(config)
tagger = Tagger.from_pretrained(folder)
"""


def test_a_script_that_imports_classes_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    stock = save_stock("LongformerForSequenceClassification", tmp_path)
    names: dict[str, Any] = {"folder": tmp_path}
    with replace_stock(), caplog.at_level(logging.WARNING):
        exec(SCRIPT, names)  # noqa: S102
    assert not [text for text in caplog.messages if "You are using a model of type" in text]
    assert type(names["classifier"]) is hf_longformer.HfLongformerForSequenceClassification
    assert type(names["encoder"]) is type(names["tagger"].longformer) is HfLongformerModel
    assert type(names["config"]) is LongformerConfig
    inputs = inputs_for("ForSequenceClassification")
    logits = [model.eval()(**inputs).logits for model in (names["classifier"], stock)]
    torch.testing.assert_close(*logits, rtol=1e-10, atol=1e-10)
    states = [model.eval().longformer(**inputs).last_hidden_state for model in (names["tagger"], stock)]
    torch.testing.assert_close(states[0][0], states[1][0], rtol=1e-10, atol=1e-10)
    exec(SCRIPT, names)  # noqa: S102
    assert type(names["encoder"]) is LongformerModel  # the limit, too: names that were imported stay what they are
    with replace_stock():
        assert type(LongformerModel(stock_config())).__module__.startswith("transformers.")


def test_pipelines(tmp_path: Path):
    save_stock("LongformerForSequenceClassification", tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    text = "the quick brown fox"
    expected = pipeline("text-classification", model=str(tmp_path))(text)
    with replace_stock():
        classify = pipeline("text-classification", model=str(tmp_path))
    assert type(classify.model).__name__ == "HfLongformerForSequenceClassification"
    (answer,), (other,) = classify(text), expected
    assert answer["label"] == other["label"]
    assert answer["score"] == pytest.approx(other["score"], abs=1e-10)


LED_CLASSES = {
    "LEDModel": (AutoModel, hf_longformer.HfLongformerEncoderDecoderModel),
    "LEDForConditionalGeneration": (AutoModelForSeq2SeqLM, hf_longformer.HfLongformerForConditionalGeneration),
}


@pytest.mark.parametrize("name", LED_CLASSES)
def test_led_is_replaced_too(name: str, tmp_path: Path):
    auto, ours_class = LED_CLASSES[name]
    config = LEDConfig(
        **{"vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "attention_window": [4, 8]},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 8},
        **{"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 20},
    )
    stock = randomise(getattr(transformers, name)(config)).double()
    stock.save_pretrained(tmp_path)
    before = config.to_dict()
    ids = torch.randint(3, 60, (2, 37))
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": torch.randint(3, 60, (2, 6))}
    marked = torch.zeros_like(ids)
    marked[:, [0, 7]] = 1
    with replace_stock():
        made = {
            "loaded": auto.from_pretrained(tmp_path, dtype=torch.float64),
            "by name": getattr(transformers, name).from_pretrained(tmp_path, dtype=torch.float64),
        }
        assert type(auto.from_config(config)) is type(getattr(transformers, name)(config)) is ours_class
        assert type(AutoConfig.from_pretrained(tmp_path)) is hf_longformer.HfLongformerEncoderDecoderConfig
    for what, model in made.items():
        assert type(model) is ours_class, what
        for more in ({}, {"global_attention_mask": marked}):
            expected = stock(**inputs, **more)[0]
            torch.testing.assert_close(model.eval()(**inputs, **more)[0], expected, rtol=0, atol=1e-12)
    assert config.to_dict() == before
    assert type(auto.from_pretrained(tmp_path)) is type(stock) is getattr(transformers, name)
    assert type(AutoConfig.from_pretrained(tmp_path)) is LEDConfig
