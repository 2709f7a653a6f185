# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.benchmarks` and `hf-longformer bench`, on encoders too small to be interesting."""

import copy
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen
from torch.autograd.graph import saved_tensors_hooks

from hf_longformer import HfLongformerModel, attention_hf_longformer, dispatch, feed_forward
from hf_longformer.benchmarks import measure, run, window_kernels
from hf_longformer.benchmarks.measure import alternate, gemm_rate, machine, peak_memory
from hf_longformer.benchmarks.memory import Setting, estimate, parameter_counts, saved_by_layer, weight_copies
from hf_longformer.benchmarks.parity import (
    ParityError,
    check_compiled_peer,
    check_dense,
    check_operator,
    check_ours,
    check_stock,
    check_writers,
)
from hf_longformer.benchmarks.peers import (
    INFERENCE,
    ON_GPUS,
    TITLES,
    TRAINING,
    WRITERS,
    floor_flops,
    make_causal_peers,
    make_peers,
    make_seq2seq_peers,
    our_config,
    random_ids,
)
from hf_longformer.benchmarks.plan import SUITES, Cell, choose_peers, make_cells
from hf_longformer.benchmarks.report import (
    QUIET_RATE,
    READMES,
    RESULTS,
    draw,
    fill,
    losses,
    quiet,
    rates,
    ratios,
    table,
)
from hf_longformer.benchmarks.window_kernels import FLASH, MODERNBERT, VARLEN
from hf_longformer.benchmarks.worker import measure_cells
from hf_longformer.conversion import InputError

CPU = torch.device("cpu")
TINY = Cell("inference", "tiny", 40, 32, 1, "float32", 1, "default", "cpu")


def job(*cells: Cell, peers: list[str] | None = None, passes: int = 1, longest: float = 60.0) -> dict:
    return {"cells": [asdict(cell) for cell in cells], "peers": peers, "passes": passes, "longest": longest}


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SHORTEST_TIMING", 0.001)


def replace_implementations(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Callable[..., torch.Tensor]]) -> None:
    """Puts what is made of it in the place of every implementation of the local rows."""
    for name, one in dispatch.IMPLEMENTATIONS.items():
        monkeypatch.setitem(dispatch.IMPLEMENTATIONS, name, one._replace(local_rows=make(one.local_rows)))


@pytest.fixture
def wrong_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our fast path forgets one key of every window, as an error by one would."""

    def make(right: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def wrong(*projections: torch.Tensor, pattern: Any, **settings: object) -> torch.Tensor:
            narrower = replace(pattern, attention_window=pattern.attention_window - 2)
            return right(*projections, pattern=narrower, **settings)

        return wrong

    replace_implementations(monkeypatch, make)


class TestMeasure:
    def test_alternate_takes_turns_and_measures(self) -> None:
        order = []

        def contestant(name: str, seconds: float, numbers: int):
            @contextmanager
            def make() -> Iterator:
                def step() -> None:
                    order.append(name)
                    kept = torch.full((numbers,), 1.0)
                    time.sleep(seconds)
                    del kept

                yield step

            return make

        results = alternate({"a": contestant("a", 0.01, 10), "b": contestant("b", 0.05, 2**23)}, CPU, passes=2)
        assert order == ["b", "a", "a", "b", "b", "a"]
        assert 0.01 <= results["a"]["seconds"] < 0.05 <= results["b"]["seconds"]
        assert results["a"]["peak_megabytes"] < 4
        assert results["b"]["peak_megabytes"] == pytest.approx(32, abs=2)
        assert list(results) == ["a", "b"]
        assert results["a"]["passes"] == 2
        assert results["a"]["spread"] >= 0

    def test_what_takes_long_is_timed_once(self) -> None:
        @contextmanager
        def slow() -> Iterator:
            yield lambda: time.sleep(0.02)

        assert alternate({"slow": slow}, CPU, passes=3, longest=0.01)["slow"]["passes"] == 1

    def test_what_does_not_fit_says_so(self) -> None:
        @contextmanager
        def large() -> Iterator:
            yield lambda: torch.empty(2**60, dtype=torch.uint8)

        assert alternate({"large": large}, CPU) == {"large": {"failed": "out of memory"}}

    def test_other_errors_are_not_hidden(self) -> None:
        @contextmanager
        def broken() -> Iterator:
            yield lambda: torch.ones(2) @ torch.ones(3)

        with pytest.raises(RuntimeError, match="size"):
            alternate({"broken": broken}, CPU)

    def test_peak_memory_shows_what_was_freed_again(self) -> None:
        kept = torch.full((2**22,), 1.0)  # 16 MiB that were there before
        peak, seconds = peak_memory(lambda: [kept + one for one in range(3)], CPU)
        assert peak / 2**20 == pytest.approx(48, abs=3)
        assert seconds > 0

    def test_gemm_rate_is_a_rate(self) -> None:
        assert 1e8 < gemm_rate([(64, 64, 64), (256, 256, 256)], torch.float32, CPU) < 1e14

    def test_machine_says_what_a_figure_must_carry(self) -> None:
        facts = machine()
        assert facts["processor"]
        assert {"torch", "transformers", "python", "hf-longformer"} == facts["versions"].keys()


class TestPlan:
    def test_make_cells_combines(self) -> None:
        choices = {"size": "tiny", "windows": [32, 64], "dilations": [1, 2], "dtypes": ["float32", "bfloat16"]}
        cells = make_cells("all", lengths=[64, 8], batches=[1], allocators=["default"], device="cpu", **choices)
        assert len(cells) == 6 * 2 * 2 * 2 * 2 == len(set(cells))
        assert "memory" not in {cell.suite for cell in cells}
        assert [cell.length for cell in cells[:4]] == [8, 64, 8, 64]
        assert cells[0].group == cells[1].group != cells[2].group

    def test_batches_make_cells_of_their_own(self) -> None:
        choices = {"size": "tiny", "windows": [32], "dilations": [1], "dtypes": ["float32"], "allocators": ["default"]}
        cells = make_cells("inference", lengths=[64, 8], batches=[16, 1, 2], device="cpu", **choices)
        assert [(cell.batch, cell.length) for cell in cells] == [(1, 8), (1, 64), (2, 8), (2, 64), (16, 8), (16, 64)]
        assert len({cell.group for cell in cells}) == 3

    def test_dilation_leaves_out_what_ignores_it(self) -> None:
        assert choose_peers(TINY, None) == [name for name in INFERENCE if name not in ON_GPUS]
        assert choose_peers(replace(TINY, device="cuda"), None) == list(INFERENCE)
        assert "stock" not in choose_peers(replace(TINY, attention_dilation=2), None)
        assert choose_peers(TINY, ["stock", "hf-longformer"]) == ["hf-longformer", "stock"]

    def test_every_peer_has_a_title(self) -> None:
        assert {name for names in SUITES.values() for name in names} <= TITLES.keys()


class TestWindowKernels:
    @pytest.mark.parametrize(
        ("peer", "dtype", "dilation", "capability", "installed", "reason"),
        [
            (FLASH, "bfloat16", 1, (9, 0), True, None),
            (FLASH, "float32", 1, (9, 0), True, "takes bfloat16 and float16, got float32"),
            (FLASH, "bfloat16", 2, (9, 0), True, "has no dilation"),
            (FLASH, "bfloat16", 1, (8, 9), True, "compute capability 9.0"),
            ("modernbert-flash", "bfloat16", 1, (9, 0), False, "needs the package flash-attn-4"),
            ("modernbert-flash", "bfloat16", 2, (9, 0), True, None),
            (VARLEN, "bfloat16", 1, (8, 0), True, None),
            ("modernbert-varlen", "float16", 1, (8, 0), False, "whose varlen_attn has windows"),
            ("stock", "float32", 1, (8, 0), False, None),
        ],
    )
    def test_why_not(
        self, peer: str, dtype: str, dilation: int, capability, installed: bool, reason, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        for name in ("_has_flash", "_has_varlen"):
            monkeypatch.setattr(window_kernels, name, lambda: installed)
        found = window_kernels.why_not(peer, "cuda", dtype, dilation)
        assert found is None if reason is None else reason in found

    def test_windows_are_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the kernels are called with, by stand-ins for them that compute in plain PyTorch."""
        tensors = torch.randn(3, 2, 3, 20, 4)
        expected = attention_hf_longformer.longformer_attention(*tensors, attention_window=6)

        def attend(query, key, value, window_size, scale=None):
            position = torch.arange(20)
            mask = (position[:, None] - position).abs() <= window_size[0]
            rows = (x.transpose(1, 2) for x in (query, key, value))
            found = torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=mask, scale=scale)
            return found.transpose(1, 2)

        def varlen(query, key, value, first, other, most, longest, window_size, scale):
            assert first.tolist() == other.tolist() == [0, 20, 40]
            assert most == longest == 20
            return attend(*(x.unflatten(0, (2, 20)) for x in (query, key, value)), window_size, scale).flatten(0, 1)

        module = ModuleType("flash_attn.cute")
        module.flash_attn_func = lambda *given, window_size: (attend(*given, window_size), None)
        monkeypatch.setitem(sys.modules, "flash_attn", ModuleType("flash_attn"))
        monkeypatch.setitem(sys.modules, "flash_attn.cute", module)
        monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", varlen)
        for kernel in (FLASH, VARLEN):
            torch.testing.assert_close(window_kernels.operator(kernel, 6)(*tensors), expected)

    def test_modernbert_by_varlen_is_modernbert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In layers with windows and in those without; by a stand-in for the kernel."""

        def varlen(query, key, value, first, other, length, longest, window_size, scale):
            position, half = torch.arange(length), window_size[0]
            mask = (position[:, None] - position).abs() <= (half if half >= 0 else length)
            rows = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in (query, key, value))
            found = torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=mask, scale=scale)
            return found.transpose(1, 2).flatten(0, 1)

        monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", varlen)
        peers = make_peers(["modernbert", "modernbert-varlen"], "tiny", 200, 32)
        one, other = (peers[name].model.eval() for name in ("modernbert", "modernbert-varlen"))
        other.load_state_dict(one.state_dict())
        input_ids = random_ids("tiny", 2, 200)
        with torch.no_grad():
            found, expected = (model(input_ids=input_ids).last_hidden_state for model in (other, one))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


class TestPeers:
    def test_all_read_and_have_one_size(self) -> None:
        self.check_peers([name for name in TRAINING if name not in ON_GPUS])

    @pytest.mark.slow
    def test_the_compiled_one_reads_too(self) -> None:
        self.check_peers([name for name in TRAINING if name.removesuffix("-compiled") not in MODERNBERT])

    def test_compiled_peers_are_compared_with_what_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        monkeypatch.setattr(torch, "compile", lambda model, dynamic: calls.append(model) or copy.deepcopy(model))
        peers = make_peers(["roberta-compiled", "roberta", "chunks-compiled", "chunks"], "tiny", 800, 32)
        assert calls == [peers["roberta"].model] * 2
        assert peers["chunks-compiled"].chunk == 512
        for peer in peers.values():
            peer.model.eval()
        compiled, roberta = peers["roberta-compiled"], peers["roberta"]
        check_compiled_peer(compiled, roberta, "tiny", torch.float32)
        with torch.no_grad():
            compiled.model.encoder.layer[0].output.dense.bias[0] += 1e-4
        check_compiled_peer(compiled, roberta, "tiny", torch.bfloat16)
        with pytest.raises(ParityError, match=r"uncompiled, got states that are .* apart.*no speed is shown"):
            check_compiled_peer(compiled, roberta, "tiny", torch.float32)

    def check_peers(self, names: Sequence[str]) -> None:
        peers = make_peers(names, "tiny", 800, 32)
        assert list(peers) == list(names)
        for length in (40, 800):
            input_ids = random_ids("tiny", 2, length)
            for name, peer in peers.items():
                with torch.no_grad():
                    states = peer.hidden_states(peer.inputs(input_ids))
                tokens = 2 * 1024 if name == "chunks" and length > 512 else 2 * length  # the last chunk is filled up
                assert states.shape[:2].numel() == tokens, name
                assert states.shape[2] == 32
        assert peers["bigbird"].model.attention_type == "block_sparse"

    def test_bigbird_is_sparse_again_after_a_short_text(self) -> None:
        bigbird = make_peers(["bigbird"], "tiny", 800, 32)["bigbird"]
        for length, kind in ((40, "original_full"), (800, "block_sparse")):
            with torch.no_grad():
                bigbird.hidden_states(bigbird.inputs(random_ids("tiny", 1, length)))
            assert bigbird.model.attention_type == kind

    def test_the_causal_ones_have_one_size_and_the_same_weights(self) -> None:
        peers = make_causal_peers("tiny", 100, 32)
        sizes = [
            sum(p.numel() for n, p in peer.model.named_parameters() if "global" not in n) for peer in peers.values()
        ]
        assert sizes[0] - sizes[1] == 32  # one row of token types, which is 0
        for peer in peers.values():
            peer.model.eval()
        check_dense(*peers.values(), "tiny")
        assert peers["causal"].model.config.attention_window == 32

    @pytest.mark.parametrize(("length", "window", "dilation"), [(50, 8, 1), (50, 8, 3), (5, 32, 1), (64, 128, 2)])
    def test_floor_flops_counts_the_window(self, length: int, window: int, dilation: int) -> None:
        row = torch.arange(length)
        distance = (row[:, None] - row).abs()
        pairs = int(((distance <= window // 2 * dilation) & (distance % dilation == 0)).sum())
        flops = floor_flops("operator forward", "tiny", length, 2, window, dilation)
        assert flops == 2 * pairs * 4 * 32
        linear = 2 * length * (8 * 32**2 + 4 * 32 * 64) + 2 * 4 * length * 32 * 2
        assert floor_flops("inference", "tiny", length, 2, window, dilation) == 2 * (linear + flops)
        causal = 2 * 4 * 32 * (pairs + length) // 2
        linear -= 2 * 4 * length * 32 * 2
        assert floor_flops("causal training", "tiny", length, 2, window, dilation) == 2 * (3 * linear + 3.5 * causal)


class TestParity:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_green(self, dtype: torch.dtype) -> None:
        peers = make_peers(["hf-longformer", "stock"], "tiny", 800, 32)
        for peer in peers.values():
            peer.model.eval()
        check_stock(peers["hf-longformer"], peers["stock"], "tiny")
        peers["hf-longformer"].model.to(dtype)
        check_ours(peers["hf-longformer"], "tiny", gradients=True)
        check_operator("tiny", 32, 2, dtype, CPU)

    def test_is_red_when_the_decoders_differ(self) -> None:
        peers = make_seq2seq_peers(WRITERS, "tiny", 100, 8)
        for peer in peers.values():
            peer.model.eval()
        check_writers(*peers.values(), "tiny")
        with torch.no_grad():
            peers["bart"].model.model.decoder.layers[0].fc1.bias[0] += 1.0
        with pytest.raises(ParityError, match=r"what BART's decoder computes .*no speed is shown"):
            check_writers(*peers.values(), "tiny")

    @pytest.mark.usefixtures("wrong_attention")
    def test_is_red_when_a_window_is_too_narrow(self) -> None:
        with pytest.raises(ParityError, match=r"the outputs of the operator .*no speed is shown"):
            check_operator("tiny", 32, 1, torch.float32, CPU)
        ours = make_peers(["hf-longformer"], "tiny", 800, 32)["hf-longformer"]
        with pytest.raises(ParityError, match="the outputs of the encoder"):
            check_ours(ours, "tiny")

    def test_is_red_when_only_gradients_are_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def make(right: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            return lambda query, key, value, **settings: right(query, key.detach(), value, **settings)

        replace_implementations(monkeypatch, make)
        ours = make_peers(["hf-longformer"], "tiny", 800, 32)["hf-longformer"]
        check_ours(ours, "tiny")
        with pytest.raises(ParityError, match="the gradients of the encoder"):
            check_ours(ours, "tiny", gradients=True)

    def test_is_red_when_the_dense_model_differs(self) -> None:
        peers = make_causal_peers("tiny", 100, 32)
        for peer in peers.values():
            peer.model.eval()
        with torch.no_grad():
            peers["gpt2"].model.h[1].mlp.c_fc.weight[0, 0] += 0.5
        with pytest.raises(ParityError, match=r"what a dense model computes .*no speed is shown"):
            check_dense(*peers.values(), "tiny")

    def test_is_red_when_stock_differs(self) -> None:
        peers = make_peers(["hf-longformer", "stock"], "tiny", 800, 32)
        with torch.no_grad():
            peers["stock"].model.encoder.layer[1].output.dense.weight[0] += 0.01
        for peer in peers.values():
            peer.model.eval()
        with pytest.raises(ParityError, match="what stock Longformer computes"):
            check_stock(peers["hf-longformer"], peers["stock"], "tiny")

    @pytest.mark.usefixtures("wrong_attention")
    @pytest.mark.parametrize(
        "suite",
        ["operator forward", "inference", "training", "causal training", "encoder-decoder training", "padding"],
    )
    def test_measure_cells_measures_nothing_then(self, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hf_longformer.benchmarks.worker.alternate", lambda *_: pytest.fail("measured"))
        with pytest.raises((ParityError, RuntimeError), match=r"no speed is shown|the outputs differ"):
            next(measure_cells(job(replace(TINY, suite=suite))))


class TestWorker:
    @pytest.mark.parametrize("suite", [suite for suite in SUITES if suite != "memory"])
    def test_measure_cells(self, suite: str) -> None:
        cells = [replace(TINY, suite=suite, length=length, attention_window=8) for length in (20, 40)]
        results = list(measure_cells(job(*cells)))
        assert len(results) == 2
        for result in results:
            assert list(result["peers"]) == choose_peers(cells[0], None)
            assert result["gemm_flops"] > 0
            for name, figures in result["peers"].items():
                assert figures["seconds"] > 0, name
                assert figures["peak_megabytes"] >= 0, name

    def test_kernels_that_cannot_be_had_say_why(self) -> None:
        """In every table that they were asked for, beside those that can."""
        for suite, names in (
            ("operator forward and backward", ["hf-longformer", "roles", FLASH, VARLEN]),
            ("inference", ["hf-longformer", *MODERNBERT]),
        ):
            cell = replace(TINY, suite=suite, length=20, attention_window=8)
            (result,) = measure_cells(job(cell, peers=names))
            assert list(result["peers"]) == names
            for name in names[:-2]:
                assert result["peers"].pop(name)["seconds"] > 0
            assert [figures["failed"] for figures in result["peers"].values()] == ["left out: needs a GPU"] * 2
            result["peers"]["hf-longformer"] = {"seconds": 1.0, "peak_megabytes": 1.0}
            assert "left out: needs a GPU" in table([{**asdict(cell), **result}])

    def test_what_was_slow_is_left_out_at_greater_lengths(self) -> None:
        cells = [replace(TINY, suite="operator forward", length=length, attention_window=8) for length in (20, 40)]
        short, long = measure_cells(job(*cells, longest=0.0))
        assert all("seconds" in figures for figures in short["peers"].values())
        assert all("left out" in figures["failed"] for figures in long["peers"].values())


class TestRun:
    @pytest.fixture
    def work(self, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
        """Instead of processes: notes the jobs and gives figures at once."""
        jobs: list[dict] = []

        def work(given: dict, allocator: str) -> Iterator[dict]:
            jobs.append({**given, "allocator": allocator})
            for _ in given["cells"]:
                yield {"peers": {name: {"seconds": len(jobs)} for name in given["peers"]}}

        monkeypatch.setattr(run, "_work", work)
        return jobs

    def test_keeps_what_is_there(self, work: list[dict], tmp_path: Path) -> None:
        output, cells = tmp_path / "results.json", [TINY, replace(TINY, length=80)]
        run.run_cells(cells[:1], output)
        results = run.run_cells(cells, output, command="hf-longformer bench")
        assert [[cell["length"] for cell in job["cells"]] for job in work] == [[40], [80]]
        assert json.loads(output.read_text()) == results
        assert [cell["length"] for cell in results["cells"]] == [40, 80]
        assert results["cells"][1]["command"] == "hf-longformer bench"
        assert results["processor"]
        results = run.run_cells(cells, output, anew=True)
        assert [entry["peers"]["stock"]["seconds"] for entry in results["cells"]] == [3, 3]
        assert [path.name for path in tmp_path.iterdir()] == ["results.json"]

    def test_a_missing_peer_has_all_measured_again(self, work: list[dict], tmp_path: Path) -> None:
        run.run_cells([TINY], tmp_path / "results.json", peers=["stock"])
        run.run_cells([TINY], tmp_path / "results.json", peers=["stock", "hf-longformer"])
        assert [job["peers"] for job in work] == [["stock"], ["hf-longformer", "stock"]]

    def test_memory_has_a_process_for_every_task(self, work: list[dict], tmp_path: Path) -> None:
        cells = make_cells(
            "memory",
            size="tiny",
            lengths=[8],
            windows=[8],
            dilations=[1],
            dtypes=["float32"],
            batches=[1],
            allocators=["default"],
            device="cpu",
        )
        results = run.run_cells(cells, tmp_path / "results.json")
        assert len(work) == 6
        assert {job["allocator"] for job in work} == {"returns", "default"}
        assert [len(entry["peers"]) for entry in results["cells"]] == [3, 3]

    def test_another_machine_is_refused(self, work: list[dict], tmp_path: Path) -> None:
        output = tmp_path / "results.json"
        results = run.run_cells([TINY], output)
        output.write_text(json.dumps({**results, "processor": "another"}))
        with pytest.raises(InputError, match="measured with other processor, another instead of"):
            run.run_cells([TINY], output)
        assert run.run_cells([TINY], output, anew=True)["processor"] == results["processor"]

    def test_a_process_that_dies_loses_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def work(given: dict, allocator: str) -> Iterator[dict]:
            yield {"peers": {}}
            raise RuntimeError("measuring ended with exit code -9")

        monkeypatch.setattr(run, "_work", work)
        with pytest.raises(RuntimeError, match="-9"):
            run.run_cells([TINY, replace(TINY, length=80)], tmp_path / "results.json")
        assert len(json.loads((tmp_path / "results.json").read_text())["cells"]) == 1


class TestMemory:
    @pytest.mark.usefixtures("nothing_is_small")
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("dropout", [0.1, 0.0])
    def test_saved_by_layer_lists_what_autograd_saves(
        self, dtype: str, dropout: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        setting, saved = Setting(300, 2, dtype), []
        for layers in (1, 3):
            config = our_config("tiny", 300, 32)
            config.num_hidden_layers = layers
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
            with monkeypatch.context() as patch:
                saved.append(self.saved(config, setting, patch))
        listed = sum(saved_by_layer(config, setting).values()) + weight_copies(config, setting)
        assert (saved[1] - saved[0]) / 2 == pytest.approx(listed, rel=0.02)

    @staticmethod
    def saved(config: object, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> int:
        """Bytes of everything that autograd saves in a forward pass and that is no weight."""
        model = HfLongformerModel(config).train()
        weights, storages = {weight.untyped_storage().data_ptr() for weight in model.parameters()}, {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage
            return tensor

        def hooks(pack: Callable, unpack: Callable) -> saved_tensors_hooks:
            """Those of a layer, counted too."""
            return saved_tensors_hooks(lambda x: keep(y) if isinstance(y := pack(x), torch.Tensor) else y, unpack)

        monkeypatch.setattr(feed_forward, "saved_tensors_hooks", hooks)
        monkeypatch.setattr(feed_forward, "_can_recompute", lambda _: True)
        ids = random_ids("tiny", setting.batch, setting.length)
        is_global = torch.nn.functional.one_hot(torch.tensor([0, 0]), setting.length)
        with (
            saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=setting.dtype == "bfloat16"),
        ):
            kept = model(ids, global_attention_mask=is_global)
        total = sum(storage.nbytes() for storage in storages.values())
        del kept
        return total

    def test_parameter_counts(self) -> None:
        config = our_config("tiny", 300, 32)
        model = HfLongformerModel(config)
        total, trained = parameter_counts(config)
        assert total == sum(weight.numel() for weight in model.parameters())
        assert total - trained == 32 * 33

    def test_estimate_follows_length_and_checkpointing(self) -> None:
        config = our_config("base", 4096, 512)
        counts = parameter_counts(config)
        peaks = {
            (length, checkpointing): estimate(config, Setting(length, 1, "float32", checkpointing), *counts)["training"]
            for length in (512, 2048, 4096)
            for checkpointing in (False, True)
        }
        grown = [peaks[length, False]["activations"] for length in (2048, 4096)]
        assert 1.9 < grown[1] / grown[0] < 2.0
        assert peaks[4096, True]["peak"] < 0.65 * peaks[4096, False]["peak"]
        for parts in peaks.values():
            assert parts["peak"] == sum(value for name, value in parts.items() if name not in ("peak", "kept"))
            assert parts["kept"] > 0

    @pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured on Linux")
    def test_estimate_is_what_is_then_measured(self, tmp_path: Path) -> None:
        """The slow test below does it at sizes that matter; here a process shows that the path works."""
        cell = replace(TINY, suite="memory", length=2000, batch=8, allocator="returns")
        results = run.run_cells([cell], tmp_path / "results.json", peers=["training"], threads=torch.get_num_threads())
        figures = results["cells"][0]["peers"]["training"]
        assert figures["measured_megabytes"] == pytest.approx(figures["expected_megabytes"], rel=0.15)

    def test_committed_estimates_are_within_15_per_cent(self) -> None:
        cells = [cell for cell in json.loads(RESULTS.read_text())["cells"] if cell["suite"] == "memory"]
        for cell in cells:
            for name, figures in cell["peers"].items():
                measured = pytest.approx(figures["measured_megabytes"], rel=0.15)
                assert figures["expected_megabytes"] == measured, (cell["size"], cell["length"], cell["dtype"], name)


class TestReport:
    MEASURED = json.loads(RESULTS.read_text())

    def test_readmes_show_the_newest_results(self) -> None:
        for file in READMES:
            text = file.read_text(encoding="utf-8")
            assert fill(text, self.MEASURED) == text, file
        readme = READMES[1].read_text(encoding="utf-8")
        assert self.MEASURED["date"] in readme
        assert self.MEASURED["processor"] in readme

    def test_every_figure_carries_date_and_command(self) -> None:
        for cell in self.MEASURED["cells"]:
            assert cell["date"]
            assert cell["command"]

    def test_no_row_that_is_shown_was_disturbed(self) -> None:
        """None is faster than its own matrix products, whose rate is that of a machine with nothing else to do."""
        shown = quiet(self.MEASURED)["cells"]
        best = max(cell.get("gemm_flops", 0) for cell in shown)
        assert len(shown) > 20
        for cell in shown:
            assert cell.get("gemm_flops", best) >= QUIET_RATE * best
            for result in cell["peers"].values():
                assert result.get("seconds", math.inf) > cell.get("floor_flops", 0) / cell.get("gemm_flops", 1)

    def test_quiet_leaves_out_what_was_disturbed(self) -> None:
        ours = {"hf-longformer": {"seconds": 1.0, "spread": 0.1}}
        cell = {**asdict(TINY), "gemm_flops": 100.0, "peers": ours}
        torn = {**cell, "peers": {"hf-longformer": {"seconds": 1.0, "spread": 0.3}}}
        others = [{**cell, "gemm_flops": 89.0}, torn, {**cell, "dtype": "bfloat16", "gemm_flops": 50.0}]
        assert quiet({"cells": [cell, *others]})["cells"] == [cell, others[2]]

    def test_table_losses_and_ratios(self) -> None:
        entry = {**asdict(TINY), "size": "base", "length": 4096, "attention_window": 512}
        entry |= {"gemm_flops": 1e9, "floor_flops": 2e9, "date": "", "command": ""}
        figures = {"hf-longformer": 4.0, "stock": 12.0, "roberta": 2.0}
        entry["peers"] = {name: {"seconds": s, "passes": 3, "peak_megabytes": 10.0} for name, s in figures.items()}
        entry["peers"]["bigbird"] = {"failed": "out of memory"}
        results = {**self.MEASURED, "cells": [entry]}
        row = table([entry]).splitlines()[-1]
        assert row == "| 4,096 | 4.00 s, 10 MiB | 12.00 s, 10 MiB | 2.00 s, 10 MiB | out of memory | 2.00 s |"
        assert losses(results).endswith("RoBERTa, dense 2.00×")
        assert "float32, default allocator: stock over ours | 3.00 |" in ratios(results)
        assert "float32, default allocator: ours over the GEMM floor | 2.00 |" in ratios(results)
        assert table([]) == ratios({"cells": []}) == "not measured yet"
        entry |= {"batch": 2, "floor_flops": 8e12}
        row = rates(results).splitlines()[-1]
        assert row == "| inference | 4,096 | 2 | 2,048 (2 TFLOP/s) | 683 | 4,096 |"

    def test_draw(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib", reason="drawing needs matplotlib")
        figures = {"hf-longformer": {"seconds": 1.0, "peak_megabytes": 5.0}, "stock": {"failed": "out of memory"}}
        cells = [{**asdict(TINY), "length": n, "attention_window": w, "peers": figures} for n, w in ((8, 4), (16, 4))]
        plots = draw({"cells": cells}, tmp_path / "results.json")
        assert [plot.name for plot in plots] == ["results-length.png"]
        assert plots[0].stat().st_size > 1000
        cells.append({**cells[0], "attention_window": 8})
        assert [plot.stem for plot in draw({"cells": cells}, tmp_path / "r.json")] == ["r-length", "r-window"]
        assert draw({"cells": cells[:1]}, tmp_path / "none.json") == []


class TestCommandLine:
    def test_measures_writes_and_shows(self, bench, tmp_path: Path) -> None:
        output = tmp_path / "results.json"
        threads = ("--threads", torch.get_num_threads())
        code, out, error = bench(
            *("operator", "--size", "tiny", "--lengths", "20,40", "--windows", 8, "--passes", 1, *threads),
            *("--peers", "hf-longformer,dense", "--output", output),
        )
        assert (code, error) == (0, "")
        assert "operator forward and backward, tiny size, batch 1, float32, default allocator, cpu" in out
        assert (tmp_path / "results-length.png").exists()
        cells = json.loads(output.read_text())["cells"]
        assert [cell["length"] for cell in cells] == [20, 40, 20, 40]
        assert cells[0]["command"].startswith("hf-longformer bench operator --size tiny")

    def test_red_parity_shows_no_speed(self, bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The fault is put into the measuring process by what Python imports first."""
        (tmp_path / "sitecustomize.py").write_text(
            "import hf_longformer.attention_hf_longformer as attention\n"
            "right = attention.local_rows\n"
            "attention.local_rows = lambda *states, **settings: right(*states, **settings) * 1.001\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        output = tmp_path / "results.json"
        code, out, error = bench("operator", "--size", "tiny", "--lengths", 40, "--windows", 8, "--output", output)
        assert code == 1
        assert error.endswith("no speed is shown")
        assert not output.exists()
        assert out == ""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["everything"], "WHAT must be one of operator, inference, .* got everything"),
            (["--size", "huge"], "--size must be one of tiny, characters, small, base, got huge"),
            (["--lengths", "12,x"], "--lengths must be whole numbers separated by commas, got '12,x'"),
            (["--lengths", "1"], "--lengths must be whole numbers from 3 on, got 1"),
            (["--windows", "7"], "--windows must be even numbers from 2 on, got 7"),
            (["--dilations", "0"], "--dilations must be whole numbers from 1 on, got 0"),
            (["--batch", "0,4"], "--batch must be whole numbers from 1 on, got 0, 4"),
            (["--batch", "2;4"], "--batch must be whole numbers separated by commas, got '2;4'"),
            (["--estimate-memory", "tiny", "--batch", "1,2"], "--batch must be one whole number from 1 on for"),
            (["--dtype", "float8"], "--dtype must be one of .* got float8"),
            (["training", "--dtype", "float16"], "training is measured in float32 and bfloat16"),
            (["--allocator", "jemalloc"], "--allocator must be one of default, keeps, returns, got jemalloc"),
            (["inference", "--peers", "gpt"], "--peers must be one of hf-longformer, compiled, .* got gpt"),
            (["--device", "tpu"], "--device must be cpu or cuda, got tpu"),
            (["--output", "nowhere/results.json"], "--output must be a file in a folder that exists"),
            (["--estimate-memory", "nowhere"], "must be one of tiny, characters, small, base or the folder"),
            (["--estimate-memory", "tiny", "--dtype", "float16"], "--dtype must be float32 or bfloat16"),
        ],
    )
    def test_bad_input_is_one_sentence(self, bench, arguments: list[str], words: str, tmp_path: Path) -> None:
        code, out, error = bench(*arguments, *([] if "--output" in arguments else ["--output", tmp_path / "r.json"]))
        assert (code, out) == (2, "")
        assert re.search(words, error), error

    def test_foreign_output_is_refused(self, bench, tmp_path: Path) -> None:
        (tmp_path / "r.json").write_text('{"a": 1}')
        code, _, error = bench("operator", "--size", "tiny", "--output", tmp_path / "r.json")
        assert code == 2
        assert "must hold results of this command" in error

    def test_estimate_memory(self, bench, tmp_path: Path) -> None:
        code, out, _ = bench("--estimate-memory", "base", "--length", 4096, "--dtype", "bfloat16", "--checkpointing")
        assert code == 0
        assert "base, 1 × 4,096 tokens, bfloat16, on a CPU:" in out
        assert "training, gradient checkpointing: " in out
        model = HfLongformerModel(our_config("tiny", 300, 32))
        model.save_pretrained(tmp_path / "model")
        assert bench("--estimate-memory", tmp_path / "model", "--length", 300)[0] == 0
        code, _, error = bench("--estimate-memory", tmp_path / "model", "--length", 301)
        assert code == 2
        assert "--length must be at most 300" in error
