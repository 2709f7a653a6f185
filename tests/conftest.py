# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Common to all tests: a seed, logs that are heard, one thread per worker, and no luck with uninitialised memory."""

import os
import sys
from logging import getLogger
from types import SimpleNamespace

import pytest
import torch
from torch import nn

# Without a GPU kernels run on a CPU, slowly. Whoever loads Triton first, as Transformers may, finds this.
os.environ["TRITON_INTERPRET"] = str(int(not torch.cuda.is_available()))

from transformers.models.led import modeling_led
from transformers.models.longformer import modeling_longformer
from transformers.utils import logging

import hf_longformer_cli as cli
from hf_longformer import attention_cpu, dropout_cpu, feed_forward

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


# What takes longest begins first, so that no core waits for another at the end.
LONG = ("test_finetune_readme", "test_readme", "test_compile", "test_two_processes", "test_benchmarks", "test_training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long tests in front; the others stay in their order."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG))


@pytest.fixture(autouse=True)
def seeded():
    """Every test begins with the same random numbers and with all once-only warnings still to come."""
    torch.manual_seed(0)
    logging.warning_once.cache_clear()


@pytest.fixture(autouse=True)
def loud():
    """The command line silences libraries for its own process, which here is that of all tests."""
    verbosity = logging.get_verbosity()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()
    for name in ("huggingface_hub", "hf_longformer", "sentence_transformers"):
        getLogger(name).setLevel("NOTSET")


@pytest.fixture(autouse=True, scope="session")
def poisoned_memory():
    """`torch.empty` gives NaN instead of whatever was there: reading it by mistake shows."""
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def nothing_is_small(monkeypatch: pytest.MonkeyPatch):
    """Short texts take the ways of long ones."""
    monkeypatch.setattr(attention_cpu, "FEW_WEIGHTS", 0)
    for module in (dropout_cpu, feed_forward):
        monkeypatch.setattr(module, "SMALL", 0)


@pytest.fixture
def softmax_in_its_own_dtype(monkeypatch: pytest.MonkeyPatch):
    """Stock takes its softmax in float32, whatever the dtype of the model: in float64 that would be all we see."""
    functional = SimpleNamespace(**vars(nn.functional))
    functional.softmax = lambda scores, dim, dtype=None: nn.functional.softmax(scores, dim=dim)
    for module in (modeling_longformer, modeling_led):
        monkeypatch.setattr(module, "nn", SimpleNamespace(**(vars(nn) | {"functional": functional})))


@pytest.fixture
def bench(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Runs `hf-longformer bench` in this process: its exit code, what it prints, and its sentences about errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hf-longformer", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        sentences = [line for line in captured.err.replace("\r", "\n").splitlines() if "hf-longformer:" in line]
        return stopped.value.code or 0, captured.out, "".join(sentences)

    return run
