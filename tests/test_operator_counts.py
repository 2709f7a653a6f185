# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How many of PyTorch's operators `HfLongformerModel` dispatches for a short text, over RoBERTa's: each takes time
however little it computes, and is a launch on a GPU.
"""

from functools import partial

import pytest

from hf_longformer.benchmarks.overhead import (
    GLOBAL,
    ROBERTA,
    STEPS,
    WINDOWS,
    OperatorCount,
    count_operators,
    make_peers,
    text_of,
)

LENGTH = 64
MOST = {  # reached with PyTorch 2.13, rounded up
    ("inference", WINDOWS): 1.05,
    ("inference", GLOBAL): 1.75,
    ("training", WINDOWS): 1.10,
    ("training", GLOBAL): 1.55,
}


@pytest.fixture(scope="module")
def counts() -> dict[tuple[str, str], int]:
    peers = make_peers(LENGTH)
    return {
        (suite, name): count_operators(partial(context, peer.model, peer.inputs(text_of(LENGTH))))
        for suite, context in STEPS.items()
        for name, peer in peers.items()
    }


@pytest.mark.parametrize(("suite", "name"), MOST)
def test_operators_over_those_of_roberta(suite: str, name: str, counts: dict[tuple[str, str], int]):
    assert counts[suite, ROBERTA] > 12 * 30  # that they are counted
    assert counts[suite, name] / counts[suite, ROBERTA] <= MOST[suite, name]


@pytest.mark.parametrize("name", [WINDOWS, GLOBAL])
def test_no_layer_reads_a_number(name: str):
    """The one that is read is in Transformers' warning about padding without a mask."""

    class Transfers(OperatorCount):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func._schema.name in ("aten::_local_scalar_dense", "aten::nonzero")
            return func(*args, **(kwargs or {}))

    peer = make_peers(LENGTH)[name]
    for context in STEPS.values():
        with context(peer.model, peer.inputs(text_of(LENGTH))) as step:
            step()
            with Transfers() as transfers:
                step()
        assert transfers.count <= 1, context
