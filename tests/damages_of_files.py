# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Damages beside weights and config.json: to tokenizers, modules, pickles, and to what is no file at all."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from damages import ABSURD, INDEX, PICKLE, WEIGHTS, Case, change_json, flip, shown
from sources import edit_json


def tokenizer_json(case: Case) -> str:
    source = case.copy("roberta", "bert", "xlm-roberta", "camembert", "sentence")
    file, luck = case.folder / "tokenizer.json", case.luck
    kind = luck.choice(("anything", "anything", "bytes", "section", "section", "empty", "deep", "merges", "ids"))
    content = json.loads(file.read_text())
    if kind == "anything":
        return f"{source}: {change_json(file, luck, luck.choice((1, 1, 3)))}"
    if kind == "bytes":
        return f"{source}: {flip(file, luck)}"
    if kind == "empty":
        file.write_bytes(luck.choice((b"", b"{}", b"[]", b"null", b'{"model": {}}', b"\xff\xfe")))
        return f"{source}: tokenizer.json is {file.read_bytes()!r}"
    if kind == "deep":
        file.write_bytes(b'{"a":' * 10**5)
        return f"{source}: tokenizer.json is deep"
    if kind == "ids":
        model = content["model"]["vocab"]
        where = luck.choice(list(model)) if isinstance(model, dict) else luck.randrange(len(model))
        value = model[where] = luck.choice((10**6, 10**9, 2**31, 2**32, -1, 0, 1.5, "x", None, [], ["a", 10**9]))
    elif kind == "merges":
        where, value = "merges", luck.choice(([], [["a"]], ["a b c"], [["zz", "yy"]], [["", ""]], {"a": 1}, None))
        content["model"]["merges"] = value
    else:
        where, value = luck.choice(SECTIONS)
        content[where] = value
    file.write_text(json.dumps(content))
    return f"{source}: {where} of tokenizer.json = {shown(value)}"


PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
TRUNCATION = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
SECTIONS = (
    ("padding", {**PADDING, "strategy": {"Fixed": 10**9}}),
    ("padding", {**PADDING, "strategy": {"Fixed": 2**63}}),
    ("padding", {**PADDING, "strategy": "BatchLongest", "pad_to_multiple_of": 10**9}),
    ("padding", {**PADDING, "strategy": {"Fixed": 64}, "pad_id": 2**32 - 1}),
    ("padding", 7),
    ("truncation", {**TRUNCATION, "max_length": 0}),
    ("truncation", {**TRUNCATION, "max_length": 1, "stride": 10**9}),
    ("truncation", {**TRUNCATION, "max_length": 10**12}),
    ("truncation", {**TRUNCATION, "max_length": -1}),
    ("truncation", []),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": "["}, "content": "b"}),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": ".*"}, "content": ""}),
    ("normalizer", {"type": "Replace", "pattern": {"String": ""}, "content": "b"}),
    ("normalizer", {"type": "Prepend", "prepend": "x" * 10**5}),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Lowercase"}] * 1000}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(.*)*x"}, "behavior": "Removed", "invert": False}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": True}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": ".*"}, "behavior": "Removed", "invert": False}),
    ("pre_tokenizer", {"type": "FixedLength", "length": 0}),
    ("pre_tokenizer", None),
    ("post_processor", None),
    ("post_processor", {"type": "RobertaProcessing", "sep": ["</s>", 10**9], "cls": ["<s>", 2**32 - 1]}),
    ("post_processor", {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", -1]}),
    ("post_processor", {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
    (
        "post_processor",
        {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "x", "type_id": 0}}] * 5000 + [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"x": {"id": "x", "ids": [10**9], "tokens": ["x"]}},
        },
    ),
    ("decoder", {"type": "x"}),
    ("version", "99.0"),
    ("added_tokens", []),
    ("added_tokens", [{"id": 10**9, "content": "the", "single_word": False, "lstrip": False, "rstrip": False,
                       "normalized": False, "special": True}]),
    ("added_tokens", [{"id": 0, "content": "", "single_word": False, "lstrip": False, "rstrip": False,
                       "normalized": True, "special": False}]),
    ("model", {"type": "WordLevel", "vocab": {}, "unk_token": "x"}),
    ("model", {"type": "WordLevel", "vocab": {"the": 10**9, "x": 3}, "unk_token": "x"}),
    ("model", {"type": "BPE", "vocab": {}, "merges": []}),
    ("model", {"type": "Unigram", "unk_id": 10**9, "vocab": [["a", -1.0]]}),
    ("model", {"type": "Unigram", "unk_id": None, "vocab": []}),
    ("model", {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "?", "continuing_subword_prefix": "",
               "max_input_chars_per_word": 0}),
)  # fmt: skip


TOKENIZER_FIELDS = (
    *("model_max_length", "tokenizer_class", "auto_map", "special_tokens_map", "added_tokens_decoder", "mask_token"),
    *("pad_token", "cls_token", "sep_token", "unk_token", "bos_token", "additional_special_tokens", "padding_side"),
    *("extra_special_tokens", "chat_template", "backend", "truncation_side", "max_length", "pad_to_multiple_of"),
    *("add_prefix_space", "clean_up_tokenization_spaces", "do_lower_case", "fix_mistral_regex", "vocab_file", "x"),
    *("tokenizer_file", "model_input_names", "stride", "truncation_strategy", "name_or_path", "is_local", "vocab"),
    *("transformers_version", "processor_class", "split_special_tokens", "added_tokens", "use_fast", "from_slow"),
)
TOKENIZER_CLASSES = (
    *("Unknown", "LlamaTokenizer", "GPT2Tokenizer", "GPT2TokenizerFast", "BertJapaneseTokenizer", "T5Tokenizer"),
    *(
        "os.system",
        "builtins.exec",
        "PreTrainedTokenizer",
        "PreTrainedTokenizerFast",
        "BertTokenizer",
        "PreTrainedModel",
    ),
    *("RobertaTokenizer", "CamembertTokenizer", "MBartTokenizer", "WhisperTokenizer", "ByT5Tokenizer", "evil.Evil"),
    *("Wav2Vec2CTCTokenizer", "XLMTokenizer", "TokenizersBackend", "MistralCommonBackend"),
    *(
        "PythonBackend",
        "SentencePieceBackend",
        "EsmTokenizer",
        "TapasTokenizer",
        "LayoutLMv2Tokenizer",
        "AutoTokenizer",
    ),
)
AUTO_MAPS = (
    *({"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}, {"AutoTokenizer": "evil.Evil"}),
    *({"AutoTokenizer": ["other/repo--tokenization_evil.Evil", None]}, ["tokenization_evil.Evil", None], "evil.Evil"),
    *({"AutoConfig": "configuration_evil.Evil", "AutoModel": "modeling_evil.Evil"}, {"AutoTokenizer": 3}, {"x": {}}),
)


def tokenizer_config(case: Case) -> str:
    source = case.copy("roberta", "bert", "xlm-roberta", "electra", "vocabulary", "sentence")
    file, luck = case.folder / "tokenizer_config.json", case.luck
    kind = luck.choice(
        ("field", "field", "field", "class", "class", "auto_map", "both", "bytes", "anything", "no file")
    )
    if kind == "bytes":
        return f"{source}: {flip(file, luck)}"
    if kind == "anything":
        return f"{source}: {change_json(file, luck)}"
    changes: dict[str, Any] = {}
    if kind == "field":
        token = luck.choice(({"content": "x"}, {"__type": "AddedToken", "content": luck.choice(ABSURD)}, {"": 1}))
        decoder = {luck.choice(("0", "-1", "x", str(10**9))): luck.choice(({"content": "x"}, {}, token))}
        changes[luck.choice(TOKENIZER_FIELDS)] = luck.choice((*ABSURD, token, decoder))
    if kind in ("class", "both"):
        changes["tokenizer_class"] = luck.choice(TOKENIZER_CLASSES)
    if kind in ("auto_map", "both"):
        changes["auto_map"] = luck.choice(AUTO_MAPS)
        if luck.random() < 0.5:
            edit_json(case.folder / "config.json", auto_map=luck.choice(AUTO_MAPS))
    if kind == "no file":
        file.unlink()
        if luck.random() < 0.5:
            edit_json(case.folder / "config.json", tokenizer_class=luck.choice(TOKENIZER_CLASSES))
        return f"{source}: without tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return f"{source}: tokenizer_config.json with {shown(changes)}"


def tokenizer_files(case: Case) -> str:
    source = case.copy("vocabulary", "vocabulary", "roberta", "bert", "camembert")
    luck = case.luck
    name = luck.choice(
        ("vocab.txt", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "none",
         "sentencepiece.bpe.model", "tokenizer.model", "spiece.model", "chat_template.jinja", "tekken.json")
    )  # fmt: skip
    if name == "none":
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")[luck.randrange(2) :]:
            (case.folder / file).unlink(missing_ok=True)
        return f"{source}: tokenizer files removed"
    if luck.random() < 0.3:
        (case.folder / "tokenizer.json").unlink(missing_ok=True)
    absurd = luck.choice(ABSURD)
    content = luck.choice(
        (b"", luck.randbytes(300), b"\n" * 50, b"the\n" * 50, b"\xff" * 9, b"{", b"#version: 0\n", b'{"x": 999999999}',
         json.dumps(absurd).encode(), json.dumps({"the": absurd, "mask_token": absurd}).encode())
    )  # fmt: skip
    (case.folder / name).write_bytes(content)
    return f"{source}: {name} is {content[:40]!r}, {'tokenizer.json' if 'tokenizer.json' in case.files() else 'alone'}"


def modules(case: Case) -> str:
    case.copy("sentence")
    luck = case.luck
    file = case.folder / "modules.json"
    content = json.loads(file.read_text())
    entry = luck.choice(content)
    kind = luck.choice(("type", "type", "path", "entry", "anything", "settings", "settings", "removed"))
    types = (
        *("evil.Evil", "os.system", "builtins.exec", "sentence_transformers.evil.Evil", "sentence_transformers.", "x"),
        *("sentence_transformers.models.Unknown", "sentence_transformers.util.cos_sim", "sentence_transformers..evil"),
        *(
            "sentence_transformers.SentenceTransformer",
            "sentence_transformers.models.Dense",
            "modeling_evil.Transformer",
        ),
        *("sentence_transformers.models.WordEmbeddings", "sentence_transformers.models.LSTM", "", 1),
        *(
            "sentence_transformers.models.Router",
            "sentence_transformers.models.CLIPModel",
            "sentence_transformers.\ud800",
        ),
    )
    paths = (
        "..",
        "../source",
        "/",
        "/etc",
        "1_Pooling/../..",
        "x",
        ".",
        "\x00",
        "x" * 5000,
        1,
        None,
        [],
        "evil.py",
        "",
    )
    if kind == "type":
        entry["type"] = luck.choice(types)
    elif kind == "path":
        entry["path"] = luck.choice(paths)
    elif kind == "entry":
        content[luck.randrange(len(content))] = luck.choice(ABSURD)
    elif kind == "removed":
        content.remove(entry)
    elif kind == "anything":
        return change_json(file, luck)
    else:
        name = luck.choice(("sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"))
        if luck.random() < 0.3:
            return flip(case.folder / name, luck)
        if luck.random() < 0.3:
            (case.folder / name).write_text(json.dumps(luck.choice(ABSURD)))
            return f"{name} is {(case.folder / name).read_text()[:50]}"
        return change_json(case.folder / name, luck)
    file.write_text(json.dumps(content))
    return f"modules.json, {kind}: {shown(entry)}"


class Hostile(NamedTuple):
    """An object whose pickle calls a function when it is loaded."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def hostile_pickle(case: Case) -> bytes:
    marker, luck = str(case.marker), case.luck
    hostile = luck.choice(
        (Hostile(open, (marker, "w")), Hostile(os.mkdir, (marker,)), Hostile(os.system, (f"touch '{marker}'",)),
         Hostile(exec, (f"open({marker!r}, 'w')",)), Hostile(torch.save, ({}, marker)),
         Hostile(Path.touch, (Path(marker),)), Hostile(__import__, ("evil",)),
         Hostile(torch.hub.load, (str(case.folder), "evil")))
    )  # fmt: skip
    content = luck.choice((hostile, {"a": hostile}, [hostile], OrderedDict(a=torch.ones(2), b=hostile)))
    if luck.random() < 0.5:
        return pickle.dumps(content, protocol=luck.choice((0, 2, 4)))
    torch.save(content, case.folder / PICKLE, _use_new_zipfile_serialization=luck.random() < 0.5)
    return (case.folder / PICKLE).read_bytes()


def pickle_without_flag(case: Case) -> str:
    case.copy("pickled")
    if case.luck.random() < 0.2:
        return "pickled weights"
    (case.folder / PICKLE).write_bytes(hostile_pickle(case))
    return "pickle that runs code"


def pickle_with_flag(case: Case) -> str:
    case.copy("pickled")
    case.options.append("--allow-pickle")
    file, luck = case.folder / PICKLE, case.luck
    weights = torch.load(file, weights_only=True)
    name = luck.choice(sorted(weights))
    one = weights[name]
    kind = luck.choice(("code", "code", "cut", "bytes", "content", "content", "content", "bomb"))
    if kind == "code":
        file.write_bytes(hostile_pickle(case))
        return "pickle that runs code"
    if luck.random() < 0.3:
        torch.save(weights, file, _use_new_zipfile_serialization=False)
    if kind == "cut":
        size = file.stat().st_size
        left = luck.choice((0, 1, 100, size // 2, size - 1, size - 30, luck.randrange(size)))
        os.truncate(file, left)
        return f"pickle cut to {left} of {size} bytes"
    if kind == "bytes":
        return flip(file, luck)
    if kind == "bomb":  # lengths and sizes that are only claimed
        claims = (
            *(b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.", b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b"x."),
            *(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", b"\x80\x02r\xff\xff\xff\x7f.", b"(" * 10**5),
            *(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", b"\x80\x02}q\x00h\x00h\x00s."),
        )
        if luck.random() < 0.2:
            archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
            with archive, archive.open("archive/data.pkl", "w") as member:
                for _ in range(400):
                    member.write(bytes(2**20))
            return "pickle of 400 MiB of zeros, compressed"
        file.write_bytes(luck.choice(claims))
        return f"pickle {file.read_bytes()[:20]!r}"
    places: dict[str, Any] = {
        "expanded": {name: one.flatten()[:1].expand(10**12)},
        "expanded in its shape": {name: one.flatten()[:1].expand(one.shape)},
        "as meta": {name: one.to("meta")},
        "sparse": {name: one.flatten()[:, None].expand(-1, 2).to_sparse()},
        "complex": {name: one.to(torch.complex64)},
        "int": {name: one.int()},
        "a parameter": {name: torch.nn.Parameter(one)},
        "not contiguous": {name: torch.stack([one, one], -1)[..., 0]},
        "a string": {name: "x"},
        "nested": {"state_dict": weights, name: None},
        "a number for a name": {7: one},
        "a tuple for a name": {("a", 1): one, None: one},
        "an odd name": {"\ud800\n": one},
        "NaN": {name: one * float("nan")},
        "itself": {name: [one, {"a": one}]},
    }
    what = luck.choice(sorted(places))
    content = places[what] if what == "nested" else {**weights, **places[what]}
    torch.save(luck.choice((content, content, content, OrderedDict(content), [content])), file)
    return f"pickled {name}: {what}"


FILES = (
    *("config.json", WEIGHTS, INDEX, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    *("added_tokens.json", "merges.txt", "vocab.json", "sentencepiece.bpe.model", "chat_template.jinja", "README.md"),
    *("generation_config.json", "adapter_config.json", "modules.json", "sentence_bert_config.json", "1_Pooling"),
    *("config_sentence_transformers.json", "1_Pooling/config.json", "processor_config.json", "quantize_config.json"),
    *("model.safetensors.index.json.x", "tekken.json", "additional_chat_templates", "preprocessor_config.json"),
    *("pytorch_model.bin.index.json", "video_preprocessor_config.json", "2_Normalize", "other.safetensors"),
)


def not_a_file(case: Case) -> str:
    source = case.copy("roberta", "bert", "camembert", "vocabulary", "sharded", "sentence", "sentence")
    luck = case.luck
    name = luck.choice((*FILES, *case.files()))
    file = case.folder / name
    file.parent.mkdir(exist_ok=True)
    if file.is_dir():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    links = {"dangling link": "absent", "looping link": file.name, "/dev/zero": "/dev/zero", "/": "/"}
    kind = luck.choice(("pipe", "pipe", "folder", "huge", *links))
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
        if luck.random() < 0.5:
            (file / "config.json").touch()
    elif kind == "huge":  # a hole of 8 GiB, which takes no room
        file.touch()
        os.truncate(file, 2**33)
    else:
        file.symlink_to(links[kind])
    return f"{source}: {name} is a {kind}"


SETTINGS = (
    *("num_beams", "max_length", "min_length", "max_new_tokens", "min_new_tokens", "no_repeat_ngram_size", "do_sample"),
    *("length_penalty", "early_stopping", "forced_bos_token_id", "forced_eos_token_id", "decoder_start_token_id"),
    *("eos_token_id", "pad_token_id", "bos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    *("repetition_penalty", "encoder_repetition_penalty", "temperature", "top_k", "top_p", "num_return_sequences"),
    *("use_cache", "cache_implementation", "guidance_scale", "watermarking_config", "sequence_bias", "stop_strings"),
    *("num_beam_groups", "penalty_alpha", "output_scores", "return_dict_in_generate", "assistant_lookbehind", "x"),
    *("prompt_lookup_num_tokens", "constraints", "force_words_ids", "exponential_decay_length_penalty", "max_time"),
    *("renormalize_logits", "compile_config", "custom_generate", "low_memory", "transformers_version"),
)


def generation(case: Case) -> str:
    """Settings of generation, in the file for them and in config.json, where old checkpoints have them."""
    source, luck = case.copy("bart", "bart-untied", "led", "hf_longformer_encoder_decoder"), case.luck
    name, value = SETTINGS[case.number % len(SETTINGS)], luck.choice(ABSURD)
    file = case.folder / "generation_config.json"
    if luck.random() < 0.25:
        file.unlink()
        file = case.folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    return f"{source}, {file.name}: {name} = {shown(value)}"


def other_files(case: Case) -> str:
    source = case.copy("roberta", "bert-words", "longformer", "sentence", "distilbert")
    luck = case.luck
    absurd = json.dumps(luck.choice(ABSURD))
    name = luck.choice(("README.md", "README.md", "generation_config.json", "adapter_config.json", "other"))
    headers = (
        *("license: [", "license: {a: b}", f"license: {absurd}", f"language: {absurd}", "a: b: c"),
        *("&a [*a, *a]", "- x", "x", "\x00", "license: &a [*a]", "language:\n- 1", "license: !!python/name:os.system"),
        *(f"license: {absurd}\nlanguage: {absurd}\nmodel-index: {absurd}", "model-index:\n- name: x"),
        *(f"!!python/object/apply:builtins.open ['{case.marker}', 'w']", '"license": "\ud83d"', "datasets: {}"),
    )  # fmt: skip
    contents = {
        "README.md": f"---\n{luck.choice(headers)}\n---\n# Card {{{{ x }}}} {{% raw %}}\n".encode(
            errors="surrogatepass"
        ),
        "generation_config.json": luck.choice((absurd, '{"max_length": "x"}', '{"x": 1', "[]")).encode(),
        "adapter_config.json": luck.choice((absurd, '{"base_model_name_or_path": "other/model"}', "{")).encode(),
        "other": luck.randbytes(200),
    }
    if name == "other":
        name = luck.choice(
            ("model-00002-of-00002.safetensors", "pytorch_model.bin", "flax_model.msgpack", "model.safetensors.index",
             "optimizer.pt", "training_args.bin", "processor_config.json", "quantization_config.json", "modules.json",
             "config_sentence_transformers.json", "custom_generate.py", "hf_quant_config.json", "tokenizer.py")
        )  # fmt: skip
        (case.folder / name).write_bytes(contents["other"])
        return f"{source}: {name} of noise"
    (case.folder / name).write_bytes(contents[name])
    return f"{source}: {name} is {contents[name][:70]!r}"
