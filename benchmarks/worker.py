# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The process in which the peers of some cells meet: proves parity, then measures, one line of JSON for every cell.

`python -m hf_longformer.benchmarks.worker < job.json`
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from hf_longformer import attention_roles, longformer_attention
from hf_longformer.transformers_internals import CHECKPOINTING

from .measure import Step, alternate, available_memory, bare, gemm_rate, peak_memory
from .memory import Setting, estimate, parameter_counts
from .parity import (
    ParityError,
    check_compiled,
    check_compiled_peer,
    check_dense,
    check_operator,
    check_ours,
    check_stock,
    check_writers,
)
from .peers import (
    COMPILED,
    SEQ2SEQ,
    SIZES,
    WRITERS,
    WRITTEN,
    Peer,
    floor_flops,
    gemm_shapes,
    make_causal_peers,
    make_peers,
    make_seq2seq_peers,
    our_config,
    random_ids,
)
from .plan import DTYPES, SUITES, Cell, choose_peers
from .window_kernels import FLASH, VARLEN, operator, why_not

NO_FLOOR = ("padding", *(suite for suite in SUITES if suite.startswith("encoder-decoder")))
GEMM_TOKENS = 4096  # the yardstick's, whatever the length
WARM_UP_TOKENS = 16
Contestant = Callable[[], AbstractContextManager[Step]]


def measure_cells(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Measures the cells of one group, short lengths first.

    Args:
        job: `cells`, facts of `Cell`s that differ in length only; `peers`, who takes part, or None for all; `passes`;
            `longest`, the seconds beyond which a step is timed once, and not tried at greater lengths.

    Yields:
        For every cell `gemm_flops`, the machine's rate in FLOP per second; `floor_flops`, what exact attention and the
        encoder around it need; `peers`, name to what `measure.alternate` says.

    Raises:
        ParityError: Before anything is measured, if something else is computed than the definition says.
    """
    cells = [Cell(**facts) for facts in job["cells"]]
    first, device = cells[0], torch.device(cells[0].device)
    if first.suite == "memory":
        yield {"peers": {name: _measure_memory(first, name) for name in job["peers"]}}
        return
    wanted = choose_peers(first, job["peers"])
    facts = first.device, first.dtype, first.attention_dilation
    missing = {name: {"failed": reason} for name in wanted if (reason := why_not(name, *facts)) is not None}
    names = [name for name in wanted if name not in missing]
    if first.suite.startswith("operator"):
        check_operator(first.size, first.attention_window, first.attention_dilation, DTYPES[first.dtype], device)
        contestants: Callable[[Cell], dict[str, Contestant]] = partial(_operators, names)
    else:
        peers = _proven_peers(first, names, max(cell.length for cell in cells))
        contestants = partial(_encoders, peers)
    rate = gemm_rate(gemm_shapes(first.size, 1, GEMM_TOKENS), DTYPES[first.dtype], device)
    slow: dict[str, tuple[float, int]] = {}  # seconds of a step, and at which length
    for cell in cells:
        expected = {name: seconds * cell.length / length for name, (seconds, length) in slow.items()}
        left_out = {name for name, seconds in expected.items() if seconds > job["longest"]}
        taking_part = {name: make for name, make in contestants(cell).items() if name not in left_out}
        results = alternate(taking_part, device, job["passes"], job["longest"])
        slow |= {name: (result["seconds"], cell.length) for name, result in results.items() if "seconds" in result}
        for name in left_out:
            results[name] = {"failed": f"left out: more than {expected[name]:.0f} s"}
        size = cell.size, cell.length, cell.batch, cell.attention_window, cell.attention_dilation
        floor = {} if cell.suite in NO_FLOOR else {"floor_flops": floor_flops(cell.suite, *size)}
        results |= missing
        yield {"gemm_flops": rate, **floor, "peers": {name: results[name] for name in wanted}}


def _proven_peers(cell: Cell, names: list[str], longest: int) -> dict[str, Peer]:
    """The encoders of a group of cells, after ours was compared with stock and with the definition."""
    if cell.suite == "causal training":
        return _proven_causal_peers(cell, names, longest)
    if cell.suite.startswith("encoder-decoder"):
        return _proven_seq2seq_peers(cell, names, longest)
    torch.manual_seed(0)
    needed = {*names, "hf-longformer", *(COMPILED[name] for name in names if name in COMPILED)}
    needed |= {"stock"} if cell.attention_dilation == 1 else set()
    peers = make_peers(needed, cell.size, longest, cell.attention_window, cell.attention_dilation)
    is_training, dtype = cell.suite == "training", DTYPES[cell.dtype]
    for peer in peers.values():
        torch.nn.Module.to(peer.model, cell.device).eval()
    ours = peers["hf-longformer"]
    if "stock" in peers:
        check_stock(ours, peers["stock"], cell.size)
    if not is_training:
        for peer in peers.values():
            torch.nn.Module.to(peer.model, dtype)
    cast = partial(_cast, cell) if is_training else nullcontext
    check_ours(ours, cell.size, cast, gradients=is_training)
    for name in ("compiled", "graphs"):
        if name in peers:
            check_compiled(peers[name], ours, cell.size, cast)
    for name in peers.keys() & COMPILED.keys():
        check_compiled_peer(peers[name], peers[COMPILED[name]], cell.size, dtype, cast)
    return {name: peers[name] for name in names}


def _proven_causal_peers(cell: Cell, names: list[str], longest: int) -> dict[str, Peer]:
    """Ours and a dense model with its weights, after ours was compared with the definition, and where the window covers
    the text with the dense one.
    """
    peers = make_causal_peers(cell.size, longest, cell.attention_window, cell.attention_dilation)
    for peer in peers.values():
        torch.nn.Module.to(peer.model, cell.device).eval()
    check_dense(peers["causal"], peers["gpt2"], cell.size)
    check_ours(peers["causal"], cell.size, partial(_cast, cell), gradients=True)
    return {name: peers[name] for name in names}


def _proven_seq2seq_peers(cell: Cell, names: list[str], longest: int) -> dict[str, Peer]:
    """Ours and stock's with its weights; where text is written, ours and BART's decoder with the same weights. Each was
    compared with the other before.
    """
    is_writing = cell.suite.endswith("generation")
    needed = WRITERS if is_writing else SEQ2SEQ
    peers = make_seq2seq_peers(needed, cell.size, longest, cell.attention_window)
    for peer in peers.values():
        torch.nn.Module.to(peer.model, cell.device).eval()
    if is_writing:
        check_writers(peers["encoder-decoder"], peers["bart"], cell.size)
    else:
        check_stock(peers["encoder-decoder"], peers["led"], cell.size)
    if not cell.suite.endswith("training"):
        for peer in peers.values():
            torch.nn.Module.to(peer.model, DTYPES[cell.dtype])
    return {name: peers[name] for name in names}


def written(peer: Peer, size: str, length: int, device: str) -> torch.Tensor:
    """What a model writes about random states of `length` tokens."""
    width = SIZES[size]["hidden_size"]
    states = torch.randn(1, length, width, generator=torch.Generator().manual_seed(0)).to(peer.model.dtype)
    encoded = BaseModelOutput(last_hidden_state=states.to(device))
    model: Any = peer.model
    return model.generate(encoder_outputs=encoded, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False)


def _operators(names: list[str], cell: Cell) -> dict[str, Contestant]:
    """The attention alone: ours, dense attention of PyTorch, and the definition, on the same states."""
    heads = SIZES[cell.size]["num_attention_heads"]
    shape = (4, cell.batch, cell.length, heads, SIZES[cell.size]["hidden_size"] // heads)
    states = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DTYPES[cell.dtype]).to(cell.device)
    *leaves, probe = (state.transpose(1, 2) for state in states.unbind(0))  # as projections leave them
    is_global = torch.zeros(cell.batch, cell.length, dtype=torch.long, device=cell.device)
    is_global[:, 0] = 1
    window = {"attention_window": cell.attention_window, "attention_dilation": cell.attention_dilation}
    alone: Callable[..., torch.Tensor] = partial(longformer_attention, **window)  # type: ignore[arg-type]
    ours = partial(alone, global_attention_mask=is_global)
    functions: dict[str, Callable[..., torch.Tensor]] = {
        "hf-longformer": ours,
        "roles": partial(alone, roles=attention_roles(global_attention_mask=is_global)),
        "dense": torch.nn.functional.scaled_dot_product_attention,
        "eager": partial(ours, attn_implementation="eager"),
        **{name: operator(name, cell.attention_window) for name in (FLASH, VARLEN)},
    }
    with_backward = cell.suite.endswith("backward")
    leaves = [leaf.detach().requires_grad_(with_backward) for leaf in leaves]

    def run(function: Callable[..., torch.Tensor]) -> None:
        output = function(*leaves)
        if with_backward:
            torch.autograd.grad(output, leaves, probe)

    steps: dict[str, Step] = {name: partial(run, functions[name]) for name in names}
    return {name: partial(bare, step) for name, step in steps.items()}


def _encoders(peers: dict[str, Peer], cell: Cell) -> dict[str, Contestant]:
    """Inference, or training steps, of encoders on one batch of texts."""
    if cell.suite == "padding":
        return _padding(peers, cell)
    input_ids = random_ids(cell.size, cell.batch, cell.length).to(cell.device)
    if cell.suite.endswith("inference"):
        return {name: partial(_inference, peer, [peer.inputs(input_ids)]) for name, peer in peers.items()}
    if cell.suite.endswith("generation"):
        write = partial(written, size=cell.size, length=cell.length, device=cell.device)
        return {name: partial(bare, partial(write, peer)) for name, peer in peers.items()}
    return {
        name: partial(_training, peer, peer.inputs(input_ids), cell, checkpointing=name == "checkpointing")
        for name, peer in peers.items()
    }


def _padding(peers: dict[str, Peer], cell: Cell) -> dict[str, Contestant]:
    """One long text among short ones, whose mean length is a quarter of the longest: in one batch, and one by one."""
    texts = max(8, cell.batch)
    short = max(3, (texts * cell.length // 4 - cell.length) // (texts - 1))
    input_ids = random_ids(cell.size, texts, cell.length).to(cell.device)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1:, short:] = 0
    input_ids[1:, short:] = 1  # RoBERTa's padding
    ours = next(iter(peers.values()))
    one_by_one = [ours.inputs(text[None, : cell.length if not row else short]) for row, text in enumerate(input_ids)]
    readings = {"padded": [ours.inputs(input_ids, attention_mask)], "unpadded": one_by_one}
    return {name: partial(_inference, ours, readings[name]) for name in peers}


@contextmanager
def _inference(peer: Peer, readings: list[dict[str, torch.Tensor]]) -> Iterator[Step]:
    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        for inputs in readings:
            peer.hidden_states(inputs)

    peer.model.eval()
    with torch.inference_mode():
        yield step


@contextmanager
def _training(peer: Peer, inputs: dict[str, torch.Tensor], cell: Cell, checkpointing: bool = False) -> Iterator[Step]:
    """A step of training: forward, a loss on every hidden state, backward, AdamW. What AdamW keeps is there before."""
    model = peer.model.train()
    if checkpointing:
        getattr(model, f"{CHECKPOINTING}_enable")()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad()
    tokens = torch.cat([ids for name, ids in inputs.items() if name.endswith("input_ids")], dim=1)
    probe = torch.randn(*tokens.shape, model.config.hidden_size, device=cell.device)

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with _cast(cell):
            hidden_states = peer.hidden_states(inputs)
        (hidden_states * probe).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    try:
        yield step
    finally:
        model.zero_grad()
        if checkpointing:
            getattr(model, f"{CHECKPOINTING}_disable")()


def _cast(cell: Cell) -> AbstractContextManager:
    """Mixed precision as it is usual: weights in float32, products in the cell's dtype."""
    return torch.autocast(cell.device, DTYPES[cell.dtype], enabled=cell.dtype != "float32")


def _measure_memory(cell: Cell, name: str) -> dict[str, Any]:
    """What our encoder is expected to need, and what it then takes; nothing else ran in this process before."""
    config = our_config(cell.size, cell.length, cell.attention_window, cell.attention_dilation)
    setting = Setting(cell.length, cell.batch, cell.dtype, name.endswith("checkpointing"))
    total, trained = parameter_counts(config)
    task = name.split("-")[0]
    expected = estimate(config, setting, total, trained)[task]
    peers = make_peers(["hf-longformer"], cell.size, cell.length, cell.attention_window, cell.attention_dilation)
    ours = peers["hf-longformer"]
    if task == "inference":
        torch.nn.Module.to(ours.model, DTYPES[cell.dtype])
    for length in (WARM_UP_TOKENS, cell.length):  # first, libraries load their code and set themselves up
        inputs = ours.inputs(random_ids(cell.size, cell.batch, min(length, cell.length)))
        if task == "inference":
            context = _inference(ours, [inputs])
        else:
            context = _training(ours, inputs, cell, setting.checkpointing)
        with context as step:
            held, _ = peak_memory(step, torch.device(cell.device))
    resident = expected["weights"] + expected["optimizer"]  # there before the step, and known exactly
    peak = expected["peak"] + (0 if cell.allocator == "returns" else expected["kept"])
    return {
        "expected_megabytes": peak / 2**20,
        "measured_megabytes": (resident + held) / 2**20,
        "resident_megabytes": resident / 2**20,
    }


def _limit_memory() -> None:
    """Lets allocations fail where the machine's memory ends, instead of having this or another process killed."""
    if (available := available_memory()) is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(0.95 * available), resource.RLIM_INFINITY))


def main() -> None:
    """Reads the job from standard input and writes what it measures to standard output."""
    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    if job["cells"][0]["device"] == "cpu":
        _limit_memory()
    try:
        for result in measure_cells(job):
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
    except ParityError as error:
        sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
