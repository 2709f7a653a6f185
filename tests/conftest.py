# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Common to all tests: a seed, one thread per worker, and no luck with uninitialised memory."""

import os

import pytest
import torch
from transformers.utils import logging

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Every test begins with the same random numbers and with all once-only warnings still to come."""
    torch.manual_seed(0)
    logging.warning_once.cache_clear()


@pytest.fixture(autouse=True, scope="session")
def poisoned_memory():
    """`torch.empty` gives NaN instead of whatever was there: reading it by mistake shows."""
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
