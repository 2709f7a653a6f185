# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Damages to a source's weights and config.json: every one is drawn from a seed, done to a copy, and said in words."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sources import bert_tokenizer, edit_json, make_source

from hf_longformer.conversion import convert

WEIGHTS, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
CODE_FILES = ("evil.py", "modeling_evil.py", "configuration_evil.py", "tokenization_evil.py")
PLAIN = {
    "roberta": ("roberta", "ForMaskedLM", {}),
    "roberta-labels": ("roberta", "ForSequenceClassification", {"num_labels": 3, "dtype": torch.bfloat16}),
    "xlm-roberta": ("xlm-roberta", "Model", {}),
    "camembert": ("camembert", "ForQuestionAnswering", {}),
    "data2vec-text": ("data2vec-text", "ForTokenClassification", {}),
    "bert": ("bert", "ForSequenceClassification", {"num_labels": 3}),
    "bert-words": ("bert", "ForMaskedLM", {}),
    "distilbert": ("distilbert", "ForTokenClassification", {"num_labels": 4}),
    "electra": ("electra", "ForMultipleChoice", {}),
    "longformer": ("longformer", "ForMaskedLM", {}),
    "bart": ("bart", "ForConditionalGeneration", {}),
    "bart-untied": ("bart", "ForConditionalGeneration", {"tie_word_embeddings": False}),
    "led": ("led", "ForConditionalGeneration", {}),
}
EVERY = (*PLAIN, "hf_longformer", "hf_longformer_encoder_decoder", "sharded", "sentence")


def make_sources(folder: Path) -> dict[str, Path]:
    """Undamaged sources by name, for 30 tokens each."""
    made = {name: folder / name for name in (*EVERY, "vocabulary", "pickled")}
    for name, (family, head, options) in PLAIN.items():
        make_source(made[name], family, head, positions=30, **options)
    for name, origin in {"hf_longformer": "roberta", "hf_longformer_encoder_decoder": "bart"}.items():
        convert(made[origin], made[name], max_length=34, attention_window=6, check=False)
    model = make_source(made["sharded"], "roberta", "ForMaskedLM", positions=30)
    (made["sharded"] / WEIGHTS).unlink()
    model.save_pretrained(made["sharded"], max_shard_size="20KB")
    make_source(made["sentence"], "bert", "Model", positions=30)
    _make_modules(made["sentence"])
    make_source(made["vocabulary"], "bert", "ForMaskedLM", positions=30)
    (made["vocabulary"] / "tokenizer.json").unlink()
    bert_tokenizer(folder / "words").backend_tokenizer.model.save(str(made["vocabulary"]))
    shutil.copytree(made["roberta"], made["pickled"])
    torch.save(load_file(made["pickled"] / WEIGHTS), made["pickled"] / PICKLE)
    (made["pickled"] / WEIGHTS).unlink()
    return made


def _make_modules(root: Path) -> None:
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    (root / "1_Pooling").mkdir()
    for name, content in {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 30, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "similarity_fn_name": "cosine"},
        "1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True},
    }.items():
        (root / name).write_text(json.dumps(content))


@dataclass
class Case:
    """One input: where it goes, and the luck it is made with.

    Args:
        number: The seed. Damages that go through a table take their entry by it.
        folder: The damaged source, made by `copy`.
        marker: A file that appears if code of the checkpoint runs.
        sources: Undamaged sources by name.
        options: Further arguments of the command line.
    """

    number: int
    folder: Path
    marker: Path
    sources: dict[str, Path]
    options: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.luck = random.Random(self.number)

    def copy(self, *names: str) -> str:
        """Copies one of the named sources, with code beside it that must never run."""
        name = self.luck.choice(names)
        shutil.copytree(self.sources[name], self.folder)
        for code in CODE_FILES:
            (self.folder / code).write_text(f"open({str(self.marker)!r}, 'w').close()\n")
        return name

    def files(self, pattern: str = "*") -> list[str]:
        """Names of the source's files."""
        found = (path for path in self.folder.rglob(pattern) if path.is_file() and path.name not in CODE_FILES)
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def header(self, name: str = WEIGHTS) -> tuple[dict[str, Any], bytes]:
        """Header and data of a safetensors file."""
        content = (self.folder / name).read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        return json.loads(content[8:end]), content[end:]

    def write_header(self, header: dict[str, Any] | str, data: bytes) -> None:
        text = (header if isinstance(header, str) else json.dumps(header)).encode()
        (self.folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data)


def nested(depth: int, innermost: Any = 1) -> list:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


ABSURD = (
    *(0, -1, 1, 2, 3, 10**6, 10**9, 10**12, 10**30, 1.5, -0.5, 1e-30, 1e30),
    *(float("inf"), float("-inf"), float("nan"), "", "x", "12", "../..", "\ud800", "x" * 10**5),
    *(None, True, False, [], [1, 2], ["x"], [[]], {}, {"a": {"b": [1]}}, {"0": "a"}, nested(300), {"a": nested(900)}),
)  # fmt: skip


def shown(value: Any) -> str:
    """A value in few words."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:30]}… ({len(text)} characters)"


def change_json(file: Path, luck: random.Random, changes: int = 1) -> str:
    """Puts absurd values into random places of a JSON file."""
    content, words = json.loads(file.read_text()), []
    for _ in range(changes):
        place, path = content, []
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            path.append(luck.choice(keys))
            inner = place[path[-1]]
            if not isinstance(inner, (dict, list)) or not inner or luck.random() < 0.25:
                break
            place = inner
        value = luck.choice(ABSURD)
        words.append(f"{'/'.join(map(str, path))} = {shown(value)}")
        if luck.random() < 0.15 and isinstance(place, dict):
            del place[path[-1]]
            words[-1] = f"{'/'.join(map(str, path))} removed"
        else:
            place[path[-1]] = value
        if not isinstance(content, (dict, list)) or not content:
            break
    file.write_text(json.dumps(content))
    return f"{file.name}: {', '.join(words)}"


def flip(file: Path, luck: random.Random, begin: int = 0, end: int | None = None) -> str:
    """Flips one bit, or overwrites a few bytes, between `begin` and `end`."""
    content = bytearray(file.read_bytes())
    places = [luck.randrange(begin, len(content) if end is None else end) for _ in range(luck.choice((1, 1, 2, 5)))]
    for place in places:
        content[place] = luck.choice((content[place] ^ 1 << luck.randrange(8), 0, 255, luck.randrange(256)))
    file.write_bytes(content)
    return f"{file.name}: bytes {places} changed"


def truncated(case: Case) -> str:
    case.copy(*EVERY, "vocabulary")
    name = case.luck.choice(case.files())
    size = (case.folder / name).stat().st_size
    left = case.luck.choice((0, 1, 7, 8, 9, size - 1, size // 2, case.luck.randrange(size)))
    os.truncate(case.folder / name, left)
    return f"{name} cut to {left} of {size} bytes"


def header_bytes(case: Case) -> str:
    case.copy(*PLAIN)
    end = 8 + struct.unpack("<Q", (case.folder / WEIGHTS).read_bytes()[:8])[0]
    return flip(case.folder / WEIGHTS, case.luck, 0, end)


def header_length(case: Case) -> str:
    case.copy(*PLAIN)
    content = (case.folder / WEIGHTS).read_bytes()
    length = case.luck.choice((0, 1, 2, 7, len(content), 10**8, 10**8 - 8, 2**31, 2**40, 2**63, 2**64 - 1))
    (case.folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + content[8:])
    return f"header length {length}"


def numbers(case: Case) -> str:
    case.copy(*PLAIN)
    file, luck = case.folder / WEIGHTS, case.luck
    if luck.random() < 0.5:
        return flip(file, luck, 8 + struct.unpack("<Q", file.read_bytes()[:8])[0])
    weights = load_file(file)
    name = luck.choice(sorted(weights))
    values = (*("nan", "inf", "-inf", 3e38, -1e38, 1e30, 1e19, 1e10, 1e6, 1e4, 300.0, 0.0, -0.0), 1e-40, 1e-45)
    value = float(luck.choice(values))
    flat = weights[name].flatten()
    place = luck.choice((0, len(flat) - 1, luck.randrange(len(flat)), slice(None)))
    flat[place] = value
    weights[name] = flat.reshape(weights[name].shape)
    save_file(weights, file, metadata={"format": "pt"})
    return f"{name}[{place}] = {value}"


def header_entries(case: Case) -> str:
    case.copy(*PLAIN)
    (header, data), luck = case.header(), case.luck
    names = [name for name in header if name != "__metadata__"]
    name = luck.choice(names)
    entry = header[name]
    begin, end = entry["data_offsets"]
    dtypes = ("I8", "U8", "BOOL", "I64", "I32", "F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "C64", "F4", "x", "", 1)
    shape = entry["shape"]
    shapes = (
        *([], [0], [-1], [1, *shape], [*shape, 1], [2**40, 2**40], [2**63], [2**64, 1], [1.5], ["24"], None, "24"),
        *([0, 10**18], [10**18, 0], [[1]], list(reversed(shape)), [*shape[:-1], shape[-1] - 1], [shape[-1] + 1]),
    )
    offsets = ([0, end - begin], [begin, end - 1], [end, begin], [-1, 4], [0, 2**62], [2**63, 2**64 - 1], [0], None, [])
    edit, value = luck.choice(
        [("dtype", luck.choice(dtypes)), ("shape", luck.choice(shapes)), ("data_offsets", luck.choice(offsets)),
         ("both", None), ("again", None), ("empty", None), ("metadata", luck.choice(ABSURD)), ("gone", None)]
    )  # fmt: skip
    if edit in entry:
        entry[edit] = value
    elif edit == "both":  # half as many numbers of twice the size, or the other way round: a header that is whole
        entry["dtype"], factor = luck.choice((("F64", 0.5), ("F16", 2), ("I16", 2), ("U8", 4), ("F8_E4M3", 4)))
        entry["shape"] = [*shape[:-1], int(shape[-1] * factor)]
        value = entry
    elif edit == "again":
        text = json.dumps(header)
        return case.write_header(f"{text[:-1]}, {json.dumps(name)}: {json.dumps(entry)}}}", data) or f"{name} twice"
    elif edit == "empty":
        value = header["empty"] = {"dtype": "F32", "shape": luck.choice(([0], [0, 10**18])), "data_offsets": [0, 0]}
    elif edit == "metadata":
        header["__metadata__"] = value
    else:
        del header[name]
    case.write_header(header, data)
    return f"header of {name}: {edit} = {shown(value)}"


def tensors(case: Case) -> str:
    case.copy(*PLAIN)
    file, luck = case.folder / WEIGHTS, case.luck
    weights = load_file(file)
    name = luck.choice(sorted(weights))
    one = weights[name]
    edits: dict[str, Callable[[], Any]] = {
        "removed": lambda: weights.pop(name),
        "renamed": lambda: weights.update({f"{name}.x": weights.pop(name)}),
        "under another prefix": lambda: weights.update({f"model.{name}": weights.pop(name)}),
        "without its prefix": lambda: weights.update({name.split(".", 1)[-1]: weights.pop(name)}),
        "with and without its prefix": lambda: weights.update({name.split(".", 1)[-1]: one.clone()}),
        "odd names beside": lambda: weights.update(dict.fromkeys(("", ".", "x" * 10**4, "\n\r", "🙂"), one[:0])),
        "as integers": lambda: weights.update({name: one.to(torch.int32)}),
        "as bool": lambda: weights.update({name: one.bool()}),
        "as float64": lambda: weights.update({name: one.double()}),
        "as float8": lambda: weights.update({name: one.to(torch.float8_e4m3fn)}),
        "as complex": lambda: weights.update({name: one.to(torch.complex64)}),
        "transposed": lambda: weights.update({name: one.permute(*reversed(range(one.dim()))).contiguous()}),
        "as a scalar": lambda: weights.update({name: one.flatten()[0].clone()}),
        "without rows": lambda: weights.update({name: one[:0].clone()}),
        "with one row": lambda: weights.update({name: one[:1].clone()}),
        "with a row more": lambda: weights.update({name: torch.cat([one, one[:1]])}),
        "with old names too": lambda: weights.update(
            {key.replace("LayerNorm.weight", "LayerNorm.gamma"): one.clone() for key, one in list(weights.items())}
        ),
        "and nothing else": lambda: [weights.pop(key) for key in list(weights) if key != name],
        "and all others removed": weights.clear,
        "buffers beside": lambda: weights.update({"embeddings.position_ids": one, "x.embeddings.token_type_ids": one}),
        "all as integers": lambda: weights.update({key: one.to(torch.int8) for key, one in weights.items()}),
        "quantized beside": lambda: weights.update({f"{name}.SCB": one.clone(), f"{name}.absmax": one.clone()}),
    }
    edit = luck.choice(sorted(edits))
    edits[edit]()
    save_file({key: one.clone() for key, one in weights.items()}, file, metadata={"format": "pt"})
    return f"{name} {edit}"


# Every field that a config.json of the sources has (a test sees to that), and others that are read if they are there.
FIELDS = (
    *("activation", "add_cross_attention", "architectures", "attention_dilation", "attention_dropout"),
    *("attention_mode", "attention_probs_dropout_prob", "attention_window", "bos_token_id", "classifier_activation"),
    *("classifier_dropout", "coreference", "dim", "dropout", "dtype", "embedding_size", "eos_token_id"),
    *("global_attention", "global_projections", "hidden_act", "hidden_dim", "hidden_dropout_prob", "hidden_size"),
    *("id2label", "initializer_range", "intermediate_size", "is_decoder", "label2id", "layer_norm_eps"),
    *("max_position_embeddings", "model_type", "n_heads", "n_layers", "num_attention_heads", "num_hidden_layers"),
    *("onnx_export", "pad_token_id", "position_embedding_type", "qa_dropout", "sep_token_id", "seq_classif_dropout"),
    *("sinusoidal_pos_embds", "summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"),
    *("tie_weights_", "tie_word_embeddings", "transformers_version", "type_vocab_size", "use_cache", "vocab_size"),
    *("activation_dropout", "activation_function", "d_model", "decoder", "decoder_attention_heads", "decoder_ffn_dim"),
    *("decoder_layerdrop", "decoder_layers", "decoder_start_token_id", "encoder", "encoder_attention_heads"),
    *("encoder_ffn_dim", "encoder_layerdrop", "encoder_layers", "forced_eos_token_id", "init_std", "layerdrop"),
    *("max_decoder_position_embeddings", "max_encoder_position_embeddings", "scale_embedding"),
    # not written by today's Transformers, or not for these sources
    *("normalize_before", "normalize_embedding", "add_final_layer_norm", "static_position_embeddings"),
    *("extra_pos_embeddings", "force_bos_token_to_be_generated", "num_beams", "prefix"),
    *("_attn_implementation", "attn_implementation", "auto_map", "autoregressive", "chunk_size_feed_forward"),
    *("forced_bos_token_id", "is_encoder_decoder", "max_length", "name_or_path", "num_labels", "output_attentions"),
    *(
        "global_scaling_length",
        "output_hidden_states",
        "position_counting",
        "problem_type",
        "tag_layers",
        "pruned_heads",
        "quantization_config",
        "repeat_positions",
        "retrieval",
        "return_dict",
        "rope_scaling",
    ),
    *("rope_theta", "norm_style", "first_position", "sub_configs", "evil"),
    *("task_specific_params", "text_config", "tokenizer_class", "torch_dtype", "torchscript"),
)
FIELD_VALUES = [(name, value) for name in FIELDS for value in ABSURD]
random.Random(0).shuffle(FIELD_VALUES)


def config_field(case: Case) -> str:
    name, value = FIELD_VALUES[case.number % len(FIELD_VALUES)]
    configs = {source: json.loads((case.sources[source] / "config.json").read_text()) for source in EVERY}
    source = case.copy(*([one for one, config in configs.items() if name in config] or EVERY))
    (case.folder / "config.json").write_text(json.dumps({**configs[source], name: value}))
    return f"{source}: {name} = {shown(value)}"


def halves(case: Case) -> str:
    """Fields of encoder and decoder, of a checkpoint of this package."""
    case.copy("hf_longformer_encoder_decoder")
    file, luck = case.folder / "config.json", case.luck
    content = json.loads(file.read_text())
    half = luck.choice(("encoder", "decoder"))
    name, value = luck.choice(sorted(content[half])), luck.choice(ABSURD)
    content[half][name] = value
    file.write_text(json.dumps(content))
    return f"{half}: {name} = {shown(value)}"


def config_removed(case: Case) -> str:
    source = case.copy(*EVERY)
    config = json.loads((case.folder / "config.json").read_text())
    gone = case.luck.sample(sorted(config), case.luck.choice((1, 1, 1, 2, 5)))
    edit_json(case.folder / "config.json", **dict.fromkeys(gone))
    return f"{source}: without {', '.join(gone)}"


def config_file(case: Case) -> str:
    case.copy(*EVERY)
    file, luck = case.folder / "config.json", case.luck
    whole = file.read_bytes()
    contents = {
        "empty": b"", "a list": b"[1]", "a number": b"1", "null": b"null", "a string": b'"x"', "an empty object": b"{}",
        "deep lists": b"[" * 10**5 + b"]" * 10**5, "deep objects": b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
        "a deep field": whole.rstrip()[:-1] + b', "a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        "UTF-16": whole.decode().encode("utf-16"), "Latin-1": b'{"model_type": "\xe9"}',
        "a mark": b"\xef\xbb\xbf" + whole,
        "zeros": bytes(1000), "two objects": whole + whole, "a long number": b'{"vocab_size": ' + b"9" * 5000 + b"}",
        "a field twice": whole.rstrip()[:-1] + b', "vocab_size": 5, "hidden_size": [], "hidden_size": 24}',
        "noise": luck.randbytes(500),
    }  # fmt: skip
    kind = luck.choice([*contents, *["changed bytes"] * 8])
    if kind == "changed bytes":
        return flip(file, luck)
    file.write_bytes(contents[kind])
    return f"config.json is {kind}"


def labels(case: Case) -> str:
    case.copy("roberta-labels", "bert", "distilbert", "roberta", "camembert")
    luck = case.luck
    maps = (
        *({}, {"0": "a"}, {"x": "a", "y": "b"}, {"-1": "a", "0": "b", "1": "c"}, {"0": 0, "1": 1, "2": 2}),
        *({"0": "a", "1": "a", "2": "a"}, {"0": None, "1": [], "2": {}}, {str(10**30): "a", "1": "b", "2": "c"}),
        *({str(i): "x" for i in range(10**5)}, {"0": "\ud800", "1": "\n", "2": ""}, ["a", "b", "c"], "abc", 3),
    )
    changes = {
        name: luck.choice((*maps, *ABSURD))
        for name in luck.sample(("num_labels", "id2label", "label2id"), luck.choice((1, 1, 2, 3)))
    }
    content = json.loads((case.folder / "config.json").read_text())
    (case.folder / "config.json").write_text(json.dumps(content | changes))
    return ", ".join(f"{name} = {shown(value)}" for name, value in changes.items())


def shards(case: Case) -> str:
    case.copy("sharded")
    file, luck = case.folder / INDEX, case.luck
    index = json.loads(file.read_text())
    names = index["weight_map"]
    name, shard = luck.choice(sorted(names.items()))
    outside = case.folder.parent / "source" / ".." / "source" / shard
    kind = luck.choice(("name", "name", "name", "map", "missing", "extra", "link", "swapped", "anything", "twice"))
    value = luck.choice(
        (f"../{shard}", f"./{shard}", f"x/../{shard}", str(outside), "/dev/zero", "/etc/passwd", "..", ".", "", "/",
         "config.json", "tokenizer.json", "absent.safetensors", 1, None, ["x"], {}, True, "x" * 5000, "\x00", "\ud800")
    )  # fmt: skip
    if kind == "name":
        names[name] = value
    elif kind == "map":
        index["weight_map"] = value = luck.choice(ABSURD)
    elif kind == "missing":
        (case.folder / shard).unlink()
        value = shard
    elif kind == "extra":
        value = luck.choice(("extra.weight", "", "x" * 5000))
        names[value] = shard
    elif kind == "link":
        (case.folder / shard).unlink()
        target = luck.choice(("/dev/zero", "/dev/null", "/", shard, "config.json", "absent"))
        (case.folder / shard).symlink_to(target)
        value = f"{shard} → {target}"
    elif kind == "swapped":
        names.update({one: luck.choice(sorted(set(names.values()))) for one in names})
    elif kind == "twice":
        shutil.copy(case.folder / shard, case.folder / "again.safetensors")
        names[f"{name}.x"] = value = "again.safetensors"
    file.write_text(json.dumps(index))
    return change_json(file, luck) if kind == "anything" else f"index of shards, {kind}: {shown(value)}"
