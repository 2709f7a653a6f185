# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer serve`: what `predict` and sentence-transformers say, for many clients, whatever they do."""

import base64
import concurrent.futures
import hashlib
import http.client
import json
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_predict
from sources import make_source
from test_cli import command  # noqa: F401
from test_predict import make_rows, read, write

from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.tasks import ASKED, module_of

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from served import LIMITS, PATIENCE, Counter, ask, process, running
from starlette.testclient import TestClient

from hf_longformer.finetune.embeddings import Embedder
from hf_longformer.serving import door
from hf_longformer.serving.app import App
from hf_longformer.serving.batching import SHARE, Batcher, Stopped, choose
from hf_longformer.serving.models import HEADS, load, task_of

models = test_predict.models
JSON = {"Content-Type": "application/json"}
TEXTS = ["the quick brown fox", "fox " * 60, "a", "long documents need long encoders"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """Of an encoder without modules: the mean of its states."""
    folder = tmp_path_factory.mktemp("embedder")
    make_source(folder / "source", "bert", "ForMaskedLM")
    convert(folder / "source", folder / "encoder", max_length=130, attention_window=16, check=False)
    return load(str(folder / "encoder"), local_files_only=True)


@pytest.fixture
def client(embedder: Embedder):
    with TestClient(App(embedder, **LIMITS)) as client:
        yield client


@pytest.fixture
def counting():
    with TestClient(App(Counter(), **LIMITS)) as client:
        yield client


def close(found: Any, expected: Any) -> bool:
    """Whether two results are equal but for the last digits of numbers."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == expected


# What is answered


@pytest.mark.parametrize("task", ASKED)
def test_rows_are_answered_as_by_predict(task: str, models: Path, tmp_path: Path) -> None:
    rows: list[Any] = [*make_rows(task, 6), {"id": 7}, 3]
    name = next(name for name, value in rows[0].items() if isinstance(value, str) and name != "id")
    rows.insert(0, {**rows[0], name: f"{rows[0][name]} \ud800"})  # half a character
    predict(task, str(models / task), str(write(tmp_path / "in.jsonl", rows)), tmp_path / "out.jsonl")
    expected = [
        {name: value for name, value in line.items() if name != "line"} for line in read(tmp_path / "out.jsonl")
    ]
    assert sum("error" in one for one in expected) == 3
    assert expected[0]["error"] == "not in UTF-8"
    with TestClient(App(load(str(models / task), local_files_only=True), **LIMITS)) as client:
        assert client.get("/health").json()["task"] == task
        found = client.post("/predict", content=json.dumps(rows), headers=JSON)
        assert found.status_code == 200
        assert close(found.json(), expected)
        assert close(client.post("/predict", json=rows[1]).json(), expected[1])
        refused = client.post("/predict", json=rows[-2])
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, expected[-2]["error"])


def test_heads_and_tasks_belong_together(models: Path) -> None:
    known = {module_of(task).PREDICTOR.model_class.__name__.partition("For")[2]: task for task in ASKED}
    assert known == HEADS
    assert {task: task_of(str(models / task), True) for task in ASKED} == {task: task for task in ASKED}
    assert task_of(str(models / "encoder"), True) == "embeddings"


def test_options_of_a_task(models: Path) -> None:
    predictor = load(str(models / "qa"), options={"n_best": "3"}, local_files_only=True)
    assert predictor.options["n_best"] == 3
    for task, options, words in (
        ("qa", {"n_best": "many"}, "n_best must be a int, got 'many'"),
        ("qa", {"nbest": "3"}, "an option of qa must be one of n_best, null_threshold, got nbest"),
        ("embeddings", {"n_best": "3"}, "embeddings have no such options, got n_best"),
        ("parsing", {}, "a task must be one of embeddings, qa"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            load(str(models / "qa"), task=task, options=options, local_files_only=True)


def test_summaries_of_summaries(models: Path) -> None:
    """Whose windows are made of what the model said, and computed with those of others."""
    options = {"overflow": "hierarchical", "max_new_tokens": "20", "min_new_tokens": "20"}
    predictor = load(str(models / "summarization"), options=options, local_files_only=True)
    rows = make_rows("summarization", 6)
    expected = predictor(rows)
    assert max(one["levels"] for one in expected) > 1
    with TestClient(App(predictor, **LIMITS)) as client:
        found = client.post("/predict", json=rows).json()
        assert [{name: value for name, value in one.items() if name != "id"} for one in found] == expected


def test_embeddings_in_openai_form(client: TestClient, embedder: Embedder) -> None:
    _, windows = embedder.prepare([{"text": text, "truncate": False} for text in TEXTS])
    expected = np.stack(embedder.outputs(windows))
    answer = client.post("/v1/embeddings", json={"input": TEXTS, "model": "model", "user": "me", "dimensions": None})
    content = answer.json()
    assert (answer.status_code, content["object"], content["model"]) == (200, "list", "model")
    assert [one["index"] for one in content["data"]] == [0, 1, 2, 3]
    np.testing.assert_allclose([one["embedding"] for one in content["data"]], expected, atol=1e-5)
    tokens = sum(len(window["input_ids"]) for window in windows)
    assert content["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    for given in (TEXTS[1], [TEXTS[1]], windows[1]["input_ids"], [windows[1]["input_ids"]]):
        answer = client.post("/v1/embeddings", json={"input": given, "encoding_format": "base64", "dimensions": 24})
        (found,) = answer.json()["data"]
        vector = np.frombuffer(base64.b64decode(found["embedding"]), "<f4")
        np.testing.assert_allclose(vector, expected[1], atol=1e-5)


def test_embeddings_without_modules_are_the_mean_of_real_tokens(embedder: Embedder) -> None:
    _, windows = embedder.prepare([{"text": text, "truncate": False} for text in TEXTS])
    together = embedder.outputs(windows)
    for window, vector in zip(windows, together, strict=True):
        ids = embedder.tokenizer.pad([{"input_ids": window["input_ids"]}], return_tensors="pt")
        states = embedder.model(**ids).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(dim=0).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("prompt", [None, "the quick "])
def test_embeddings_of_sentence_transformers(prompt: str | None, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from test_sentence_transformers import load as load_sentences, make_sentence_source

    make_sentence_source(tmp_path)
    convert(tmp_path / "sentences", tmp_path / "output", max_length=140, attention_window=16, check=False)
    if prompt:
        for file, change in {
            "config_sentence_transformers.json": {"prompts": {"query": prompt}, "default_prompt_name": "query"},
            "1_Pooling/config.json": {"include_prompt": False},
        }.items():
            place = tmp_path / "output" / file
            place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    texts = [*TEXTS, "fox " * 300]
    expected = load_sentences(tmp_path / "output").encode(texts)
    with TestClient(App(load(str(tmp_path / "output"), local_files_only=True), **LIMITS)) as client:
        assert client.get("/health").json()["pooling"] == "Transformer, Pooling, Dense, Normalize"
        content = client.post("/v1/embeddings", json={"input": texts, "truncate": True}).json()
        ids = client.post("/v1/embeddings", json={"input": [2, 3]})
    np.testing.assert_allclose([one["embedding"] for one in content["data"]], expected, atol=1e-5)
    assert [one.get("tokens_cut", 0) > 0 for one in content["data"]] == [False] * 4 + [True]
    assert (ids.status_code, "words in front of every text" in ids.text) == (400 if prompt else 200, bool(prompt))


def test_embeddings_that_may_be_shortened(embedder: Embedder) -> None:
    embedder.config.matryoshka_dimensions = [8]
    try:
        with TestClient(App(embedder, **LIMITS)) as client:
            whole, short = (
                client.post("/v1/embeddings", json={"input": "fox", "dimensions": size}).json()["data"][0]["embedding"]
                for size in (24, 8)
            )
            assert client.post("/v1/embeddings", json={"input": "fox", "dimensions": 9}).status_code == 400
    finally:
        del embedder.config.matryoshka_dimensions
    np.testing.assert_allclose(short, np.asarray(whole[:8]) / np.linalg.norm(whole[:8]), atol=1e-6)


def test_a_longer_text_is_refused_or_cut_and_counted(client: TestClient) -> None:
    refused = client.post("/v1/embeddings", json={"input": ["fox", "fox " * 200]})
    assert refused.status_code == 400
    assert "at most 130 tokens, got 202" in refused.json()["error"]["message"]
    content = client.post("/v1/embeddings", json={"input": ["fox", "fox " * 200], "truncate": True}).json()
    assert [one.get("tokens_cut") for one in content["data"]] == [None, 72]
    assert content["usage"]["prompt_tokens"] == 3 + 130
    cut = client.post("/v1/embeddings", json={"input": "fox " * 128}).json()["data"][0]["embedding"]
    np.testing.assert_allclose(content["data"][1]["embedding"], cut, atol=1e-5)
    assert "hf_longformer_tokens_cut_total 72.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({}, 400, "input must be a text, a list of texts, token ids, or a list of these, got none"),
        ({"input": ""}, 400, "input must not be empty"),
        ({"input": ["fox", " "]}, 400, "input must not be empty"),
        ({"input": []}, 400, "got an empty list"),
        ({"input": [[]]}, 400, "got a list of list"),
        ({"input": ["fox", 3]}, 400, "got a list of int and str"),
        ({"input": [True]}, 400, "got a list of bool"),
        ({"input": 3}, 400, "got int"),
        ({"input": "\ud800"}, 400, "not in UTF-8"),
        ({"input": "fox", "model": "gpt"}, 404, "the model must be model, got gpt"),
        ({"input": "fox", "encoding_format": "int8"}, 400, "encoding_format must be float or base64, got int8"),
        ({"input": "fox", "dimensions": 12}, 400, "dimensions must be 24 for this model, got 12"),
        ({"input": "fox", "dimensions": True}, 400, "dimensions must be a whole number, got bool"),
        ({"input": "fox", "input_type": "query"}, 400, "entries must be of input, model"),
        ({"input": [9906, 1917]}, 400, "token ids must be from 0 to"),
        ({"input": [5, 6]}, 400, "token ids must be those of this model's tokenizer, special tokens included"),
        ({"input": [-1]}, 400, "token ids must be from 0 to"),
        ([], 400, "a request must be a JSON object, got list"),
    ],
)
def test_embeddings_refuse(given: Any, status: int, words: str, client: TestClient) -> None:
    refused = client.post("/v1/embeddings", content=json.dumps(given), headers=JSON)
    error = refused.json()["error"]
    assert (refused.status_code, sorted(error)) == (status, ["code", "message", "param", "type"])
    assert words in error["message"]
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", JSON, 400, "a request must be JSON"),
        (b"", JSON, 400, "a request must be JSON"),
        (b"\xff\xfe", JSON, 400, "a request must be in UTF-8"),
        (b'{"text": "a", "text": "b"}', JSON, 400, "text"),
        (b"[" * 100_000, JSON, 400, "a request must be JSON"),
        (b"9" * 10_000, JSON, 400, "a request must be JSON"),
        (b"[]", JSON, 400, "a row, or a list of rows, is needed, got an empty list"),
        (b'{"text": "a"}', {"Content-Type": "text/plain"}, 415, "Content-Type: application/json, got text/plain"),
        (b'{"text": "a", "id": NaN}', JSON, 400, "numbers of a row must be finite"),
        (b" " * 1_000_001, JSON, 413, "at most 1,000,000 bytes, got 1,000,001"),
    ],
)
def test_broken_requests(body: bytes, headers: dict, status: int, words: str, counting: TestClient) -> None:
    refused = counting.post("/predict", content=body, headers=headers)
    assert (refused.status_code, words in refused.json()["error"]["message"]) == (status, True)
    assert counting.post("/predict", json={"text": "a"}).json() == {"words": 1}


def test_other_paths_and_methods(counting: TestClient) -> None:
    assert counting.get("/predict").status_code == 405
    missing = counting.post("/v1/embeddings", json={"input": "a"})
    assert (missing.status_code, "this server has /, /health" in missing.json()["error"]["message"]) == (404, True)
    assert counting.get("/../../etc/passwd").status_code == 404
    assert [one["id"] for one in counting.get("/v1/models").json()["data"]] == ["model"]


def test_a_row_that_fails_fails_alone(counting: TestClient) -> None:
    rows = [{"text": "one"}, {"text": "bad"}, {"text": "two words"}, {"id": 4, "txt": "a"}]
    results = counting.post("/predict", json=rows).json()
    assert [one.get("words") for one in results] == [1, None, 2, None]
    assert (results[1]["error"], results[3]["id"]) == ("bad words", 4)
    assert results[3]["error"].startswith("unexpected KeyError")
    assert "hf_longformer_rows_failed_total 2.0" in counting.get("/metrics").text


def test_a_key_is_needed_where_one_is_set() -> None:
    with TestClient(App(Counter(), **LIMITS, api_key="sesame")) as client:
        for headers in ({}, {"Authorization": "Bearer open"}, {"Authorization": "sesame"}):
            assert client.post("/predict", json={"text": "a"}, headers=headers).status_code == 401
            assert client.get("/metrics", headers=headers).status_code == 401
        assert (
            client.post("/predict", json={"text": "a"}, headers={"Authorization": "Bearer sesame"}).status_code == 200
        )
        assert (client.get("/health").status_code, client.get("/").status_code) == (200, 200)


# Batches


def test_windows_of_about_one_length_are_a_batch() -> None:
    assert choose([10, 11, 100, 9, 4096, 19], 1000) == [0, 1, 3, 5]
    assert choose([10, 11, 100, 9], 22) == [0, 1]
    assert choose([5000, 10], 1000) == [0]
    assert choose([3] * 9, 9) == [0, 1, 2]


class Recorder:
    """Computes nothing, slowly enough to be watched; begins when it is told to."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.begin, self.is_computing = threading.Event(), False
        self.batcher = Batcher(self, 100)
        self.first = self.batcher.submit(["first"], [1])  # is computed while the others come
        until(lambda: self.is_computing)

    def __call__(self, windows: list[str]) -> list[str]:
        self.is_computing = True
        self.begin.wait(PATIENCE)
        if "fails" in windows:
            raise ValueError("it fails")
        self.order += windows
        return windows


def test_neither_long_nor_short_texts_wait_for_ever() -> None:
    """A long text among short ones, of which for every one that is answered another comes."""
    recorder = Recorder()
    long = recorder.batcher.submit(["long"] * 50, [100] * 50)
    short = [recorder.batcher.submit(["short"], [40]) for _ in range(10)]

    def compute(windows: list[str]) -> list[str]:
        if len(short) < 400:
            short.extend(recorder.batcher.submit(["short"], [40]) for name in windows if name == "short")
        return recorder(windows)

    recorder.batcher._compute = compute
    recorder.begin.set()
    concurrent.futures.wait([long, *short], PATIENCE)
    until(lambda: recorder.batcher.waiting == 0)
    assert recorder.batcher.stop(PATIENCE)
    assert recorder.order[1] == "short"  # a short one does not wait for the long one
    before = recorder.order[: recorder.order.index("short", 300)]
    share = before.count("long") * 100 / (before.count("long") * 100 + before.count("short") * 40)
    assert 0.5 / SHARE < share < 2 / SHARE  # which goes on all the while


def test_a_window_that_fails_fails_alone_and_who_is_gone_is_not_computed() -> None:
    dropped: list[int] = []
    recorder = Recorder()
    recorder.batcher._dropped = dropped.append
    failing = recorder.batcher.submit(["fails", "other"], [10, 10])
    gone = recorder.batcher.submit(["gone"] * 3, [10] * 3)
    well = recorder.batcher.submit(["well"], [10])
    assert gone.cancel()
    recorder.begin.set()
    assert well.result(PATIENCE) == ["well"]
    with pytest.raises(ValueError, match="it fails"):
        failing.result(PATIENCE)
    assert recorder.batcher.submit([], []).result(PATIENCE) == []
    assert recorder.batcher.stop(PATIENCE)
    assert "gone" not in recorder.order
    assert sum(dropped) == 3


def test_who_waits_when_it_stops_is_told() -> None:
    recorder = Recorder()
    waiting = recorder.batcher.submit(["waits"], [10])
    threading.Timer(0.1, recorder.begin.set).start()
    assert recorder.batcher.stop(PATIENCE)
    assert recorder.first.result(PATIENCE) == ["first"]
    for work in (waiting, recorder.batcher.submit(["late"], [1])):
        with pytest.raises(Stopped):
            work.result(PATIENCE)


# Clients that do what they like


def test_a_flood_of_200_connections_loses_nothing() -> None:
    with running(Counter(1e-5)) as (app, port):
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            asked = [pool.submit(ask, port, "/predict", {"text": "a " * number}) for number in range(1, 601)]
            found = [one.result(PATIENCE) for one in asked]
        assert found == [(200, {"words": number}) for number in range(1, 601)]
        until(lambda: (app.service.waiting, app.door.held) == (0, 0))
        assert max(map(len, app.predictor.batches)) > 5  # of many clients together


def test_more_than_may_wait_is_refused_at_once() -> None:
    predictor = Counter()
    predictor.may_go_on.clear()
    with running(predictor, max_queue=10) as (_, port), concurrent.futures.ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(ask, port, "/predict", {"text": "a"}) for _ in range(30)]
        until(lambda: sum(one.done() for one in asked) == 20)
        assert ask(port, "/health")[1]["texts_waiting"] == 10
        predictor.may_go_on.set()
        assert sorted(one.result(PATIENCE)[0] for one in asked) == [200] * 10 + [503] * 20
        status, content = ask(port, "/predict", [{"text": "a"}] * 11)
        assert (status, "at most 10 texts, got 11" in content["error"]["message"]) == (400, True)


def test_busy_says_when_to_come_again() -> None:
    with TestClient(App(Counter(), **LIMITS)) as client:
        client.app.service.waiting = LIMITS["max_queue"]
        refused = client.post("/predict", json={"text": "a"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_what_takes_too_long_is_given_up_and_not_computed() -> None:
    with running(Counter(1e-3), timeout=0.5, tokens_per_batch=100) as (app, port):
        status, content = ask(port, "/predict", {"text": "a " * 10_000})
        assert (status, content["error"]["code"]) == (504, "timeout")
        assert ask(port, "/predict", {"text": "a"}) == (200, {"words": 1})
        until(lambda: app.service.batcher.waiting == 0)
        assert len(app.predictor.batches) < 20  # of a hundred
        assert "hf_longformer_windows_dropped_total 0.0" not in ask(port, "/metrics")[1]


def test_a_short_text_does_not_wait_for_a_long_one() -> None:
    with running(Counter(1e-4), tokens_per_batch=100) as (_, port), concurrent.futures.ThreadPoolExecutor(1) as pool:
        long = pool.submit(ask, port, "/predict", {"text": "a " * 30_000})
        time.sleep(0.3)
        begin = time.monotonic()
        assert ask(port, "/predict", {"text": "a"}) == (200, {"words": 1})
        assert time.monotonic() - begin < 1.0
        assert not long.done()
        assert long.result(PATIENCE) == (200, {"words": 30_000})


def test_what_a_client_asked_for_who_went_away_is_not_computed() -> None:
    predictor = Counter()
    predictor.may_go_on.clear()
    with running(predictor) as (app, port):
        body = json.dumps({"text": "a " * 5_000}).encode()
        for number in range(20):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(head(len(body)) + body[: len(body) if number % 2 else 500])
                if number % 2:
                    until(lambda: app.service.batcher.waiting)
        until(lambda: 'requests_total{route="/predict",status="499"} 20' in ask(port, "/metrics")[1])
        until(lambda: (app.service.waiting, app.door.held) == (0, 0))
        predictor.may_go_on.set()
        assert ask(port, "/predict", {"text": "a b"}) == (200, {"words": 2})
        assert sum(map(len, predictor.batches)) <= 12


def test_slow_clients_are_put_out_and_block_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HEADER_SECONDS", 2.0)
    monkeypatch.setattr(door, "BODY_SECONDS", 2.0)
    with running(Counter()) as (_, port):
        beginnings = [
            b"",
            b"POST /pre",
            b"POST /predict HTTP/1.1\r\nHost: a\r\n",
            head(1000),
            head(1000) + b'{"text',
        ] * 20
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in beginnings]
        for client, words in zip(clients, beginnings, strict=True):
            client.sendall(words)
        begin = time.monotonic()
        assert ask(port, "/predict", {"text": "a"}) == (200, {"words": 1})
        assert time.monotonic() - begin < 2.0
        ends = []
        for client in clients:
            client.settimeout(PATIENCE)
            ends.append(client.recv(10_000).partition(b"\r\n")[0])
            client.close()
        assert [end.partition(b" ")[2][:3] for end in ends] == [b"", b"", b"", b"408", b"408"] * 20
        keeps = socket.create_connection(("127.0.0.1", port))  # and behind an answer, too
        keeps.settimeout(PATIENCE)
        keeps.sendall(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}]}"):
            answer += keeps.recv(10_000)
        keeps.sendall(b"GET /v1/mod")
        assert keeps.recv(10_000) == b""
        keeps.close()


def test_too_long_bodies_hear_why_and_are_not_kept() -> None:
    with running(Counter(), max_body=1000) as (app, port):
        assert ask(port, "/predict", {"text": "a " * 3000})[0] == 413
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(PATIENCE)
            client.sendall(head(10**15) + b"{")
            assert b" 413 " in client.recv(1000)
        until(lambda: app.door.held == 0)


@pytest.mark.parametrize("size", [1, 2, 1_000, 100_000, 1_000_000])
def test_texts_of_any_length_are_answered_or_refused_in_time(size: int, models: Path, embedder: Embedder) -> None:
    text = "fox " * size
    limits = {"max_body": 8_000_000, "timeout": 3.0, "tokens_per_batch": 2000}
    predictor = load(str(models / "classification"), local_files_only=True)
    with running(predictor, **limits) as (_, port):
        begin = time.monotonic()
        status, content = ask(port, "/predict", {"text": text})
        assert status == 200 or (status, content["error"]["code"]) == (504, "timeout")
        assert size > 1_000 or status == 200
        assert time.monotonic() - begin < 15
        assert ask(port, "/predict", {"text": "fox"})[0] == 200
    with running(embedder, **limits) as (_, port):
        status, content = ask(port, "/v1/embeddings", {"input": text})
        assert status in ({200} if size < 128 else {400} if size < 1_000_000 else {400, 504})
        if status == 400:
            assert f"at most 130 tokens, got {size + 2:,}" in content["error"]["message"]


def test_sigterm_ends_when_all_is_answered(models: Path) -> None:
    rows = make_rows("classification", 20)
    with process(models / "classification", "--tokens-per-batch", 200) as (server, port):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask, port, "/predict", rows) for _ in range(8)]
            until(lambda: ask(port, "/health")[1]["texts_waiting"] > 50)
            server.send_signal(signal.SIGTERM)
            found = [one.result(PATIENCE) for one in asked]
        assert [status for status, _ in found] == [200] * 8
        assert all(close(results, found[0][1]) for _, results in found)
        assert server.wait(PATIENCE) == 0
        assert server.stderr.read() == ""
        with pytest.raises(ConnectionRefusedError):
            ask(port, "/health")


def test_who_waits_too_long_when_it_stops_is_told_and_counted() -> None:
    predictor = Counter()
    predictor.may_go_on.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with running(predictor, stop_timeout=1) as (app, port):
            asked = pool.submit(ask, port, "/predict", {"text": "a"})
            until(lambda: app.service.waiting)
            threading.Timer(1.5, predictor.may_go_on.set).start()
        status, content = asked.result(PATIENCE)
    assert (status, content["error"]["message"]) == (503, "the server stops: try again later")
    assert (app.door.lost, app.has_ended, app.door.held) == (1, True, 0)


def test_a_kill_loses_no_answer(models: Path) -> None:
    """Who has an answer has all of it, and who has none knows that."""
    row = make_rows("classification", 1)[0]
    with process(models / "classification") as (server, port):
        expected = ask(port, "/predict", row)
        answers: list[Any] = []
        lost: list[Exception] = []

        def work() -> None:
            for _ in range(1_000):
                try:
                    answers.append(ask(port, "/predict", row))
                except (OSError, http.client.HTTPException) as error:  # a torn answer would be a ValueError
                    lost.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(answers) > 50)
        server.kill()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(lost) == 8
    assert all(close(list(answer), list(expected)) for answer in answers)


# The page


def test_page(counting: TestClient) -> None:
    page = counting.get("/")
    policy = page.headers["Content-Security-Policy"]
    for kind in ("style", "script"):
        (code,) = re.findall(f"<{kind}>(.*?)</{kind}>", page.text, flags=re.DOTALL)
        known = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{known}'" in policy
    assert "http" not in page.text.replace('http-equiv="', "")  # no outside network
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert part in policy


@pytest.mark.parametrize("task", ["qa", "classification", "token-classification", "coref", "summarization"])
def test_page_shows_what_the_model_says(task: str, models: Path) -> None:
    row = make_rows(task, 3)[2]
    row |= {name: f"{row[name]} </script><b>" for name in ("text", "context") if name in row}
    with TestClient(App(load(str(models / task), local_files_only=True), **LIMITS)) as client:
        shown = client.post("/page", json=row)
        assert shown.status_code == 200
        hashes = re.findall(r"'(sha256-[^']+)'", shown.text.partition("</head>")[0])
        assert len(hashes) == 2
        assert all(one in client.get("/").headers["Content-Security-Policy"] for one in hashes)
        assert "<b>" not in shown.text
        assert client.post("/page", json={}).status_code == 400
        assert client.post("/page", json=[1]).status_code == 400


def test_page_of_embeddings(client: TestClient) -> None:
    shown = client.post("/page", json={"text": "the quick fox", "text_pair": "the quick fox"}).text
    assert '["cosine similarity","1.0"]' in shown
    shown = client.post("/page", json={"text": "fox " * 200, "text_pair": ""}).text
    assert "72 tokens were not read" in shown


# The command


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--option", "n_best"), "--option must be NAME=VALUE, got n_best"),
        (("--task", "parsing"), "a task must be one of"),
        (("--max-length", "131"), "at most"),
        (("--api-key", ""), "the key must not be empty"),
        (("--host", "no.such.host.invalid"), "cannot listen at no.such.host.invalid"),
    ],
)
def test_command_refuses(words: tuple, sentence: str, command: Any, models: Path) -> None:  # noqa: F811
    done = command("serve", models / "encoder", "--port", 0, *words)
    assert (done.code, sentence in done.sentence) == (2, True), done.sentence


def test_command_refuses_a_port_that_is_taken(command: Any, tmp_path: Path) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = command("serve", tmp_path, "--port", port)
        assert (done.code, f"cannot listen at 127.0.0.1, port {port}" in done.sentence) == (2, True)
    done = command("serve", tmp_path, "--port", 0)
    assert (done.code, "cannot be loaded" in done.sentence) == (2, True), done.sentence


def head(length: int) -> bytes:
    lines = "POST /predict HTTP/1.1", "Host: a", "Content-Type: application/json", f"Content-Length: {length}"
    return "\r\n".join([*lines, "", ""]).encode()


def until(condition: Any) -> None:
    """Waits for something to be so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
