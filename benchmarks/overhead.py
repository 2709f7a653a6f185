# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench overhead`: what short texts cost beside RoBERTa where products are small and what surrounds them
is not: time with one thread, and how many of PyTorch's operators are dispatched.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode  # the documented way to see every operator
from transformers import PreTrainedModel, RobertaConfig, RobertaModel

from hf_longformer import HfLongformerConfig, HfLongformerModel
from hf_longformer.conversion import InputError

from .kept_results import check_no_repeats, read_results, write_results
from .measure import Step, alternate, machine
from .parity import check_as_dense
from .peers import Peer

LENGTHS, PASSES = (64, 512), 9
SIZE = {"hidden_size": 64, "num_hidden_layers": 12, "num_attention_heads": 4, "intermediate_size": 256}
WINDOW, VOCABULARY, FIRST_ID = 512, 1000, 5
ROBERTA, WINDOWS, GLOBAL = "RoBERTa", "hf-longformer", "hf-longformer, <s> global"
REMEMBERED = ("size", "attention_window", "processor", "threads", "versions")  # of one file of results
CELL: dict[str, type] = {"suite": str, "length": int, "peers": dict}
FIGURES: dict[str, type] = {"seconds": float, "spread": float, "operators": int}


@dataclass(frozen=True)
class Cell:
    """Steps of `"inference"` or `"training"`, of one text of `length` tokens."""

    suite: str
    length: int


class OperatorCount(TorchDispatchMode):
    """Inside, counts the operators that PyTorch dispatches, those of backward passes and of optimizers too: `count`.

    Every one of them costs some time however small its tensors are, and is a launch on a GPU unless it is a view.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def run_overhead(
    output: Path, *, lengths: Sequence[int] = LENGTHS, passes: int = PASSES, anew: bool = False
) -> dict[str, Any]:
    """Proves parity, measures, and writes every cell into a file of results as soon as it is there.

    Args:
        output: The JSON file. What it holds already is kept.
        lengths: Tokens of the texts.
        passes: Timed rounds; medians count.
        anew: Whether to measure again what is there.

    Returns:
        What the file then holds: of every peer of a cell `seconds` of a step, the median; `spread`, the slowest minus
        the fastest; and `operators`, how many were dispatched.

    Raises:
        InputError: If something cannot be measured, or the file not be read or written, or it has other settings.
        ParityError: If ours with RoBERTa's weights, and windows that cover the text, computes something else than
            RoBERTa.
    """
    check_no_repeats(lengths=lengths)
    if min(lengths) < 2:
        raise InputError(f"--lengths must be at least 2 tokens, of which one may be global, got {min(lengths)}")
    facts = json.loads(json.dumps({**machine(), "size": SIZE, "attention_window": WINDOW}))
    results = read_results(output, facts, REMEMBERED, _is_cell, anew)
    cells = [Cell(*one) for one in product(STEPS, sorted(lengths))]
    missing = [cell for cell in cells if find(results, cell) is None]
    if missing:
        peers = make_peers(max(lengths))
        for length in sorted({cell.length for cell in missing}):
            check_as_dense(peers[WINDOWS], peers[ROBERTA], text_of(length))
    for cell in _with_bar(missing):
        results["cells"].append({**asdict(cell), "peers": measure(peers, cell, passes), "date": facts["date"]})
        write_results(output, results)
    return results


def make_peers(longest: int) -> dict[str, Peer]:
    """RoBERTa with its usual attention, and ours with its weights, without and with one global token.

    Args:
        longest: Tokens that they can read.
    """
    torch.manual_seed(0)
    common: dict[str, Any] = {**SIZE, "vocab_size": VOCABULARY, "max_position_embeddings": longest + 2}
    common |= {"type_vocab_size": 1, "pad_token_id": 1}
    roberta = RobertaModel(RobertaConfig(**common), add_pooling_layer=False).eval()
    config = HfLongformerConfig(**common, attention_window=WINDOW, layer_norm_eps=roberta.config.layer_norm_eps)
    ours = HfLongformerModel(config, add_pooling_layer=False).eval()
    state = roberta.state_dict()
    of_global = {name: state[name.replace("_global", "")] for name in ours.state_dict() if "_global" in name}
    ours.load_state_dict({name: state[name] for name in ours.state_dict() if name in state} | of_global)
    return {ROBERTA: Peer(roberta), WINDOWS: Peer(ours), GLOBAL: Peer(ours, has_global=True)}


def text_of(length: int) -> torch.Tensor:
    """`(1, length)` tokens, the same ones every time."""
    return torch.randint(FIRST_ID, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(length))


def measure(peers: dict[str, Peer], cell: Cell, passes: int) -> dict[str, dict[str, Any]]:
    """Times of all in turns, and their operators."""
    context = STEPS[cell.suite]
    contestants: dict[str, Callable[[], AbstractContextManager[Step]]] = {
        name: partial(context, peer.model, peer.inputs(text_of(cell.length))) for name, peer in peers.items()
    }
    found = alternate(contestants, torch.device("cpu"), passes)
    figures = {name: {key: entry[key] for key in ("seconds", "spread", "passes")} for name, entry in found.items()}
    return {name: {**figures[name], "operators": count_operators(make)} for name, make in contestants.items()}


def count_operators(contestant: Callable[[], AbstractContextManager[Step]]) -> int:
    """The operators of a step that is not the first one."""
    with contestant() as step:
        step()
        with OperatorCount() as counted:
            step()
    return counted.count


@contextmanager
def _inference(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Iterator[Step]:
    model.eval()
    with torch.no_grad():
        yield lambda: model(**inputs)


@contextmanager
def _training(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Iterator[Step]:
    """Forward with the default dropouts, a loss on every hidden state, backward, AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    probe = torch.randn(*inputs["input_ids"].shape, model.config.hidden_size)

    def step() -> None:
        (model(**inputs).last_hidden_state * probe).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    try:
        yield step
    finally:
        model.zero_grad()


STEPS = {"inference": _inference, "training": _training}


def table(results: dict[str, Any]) -> str:
    """A row per cell: time and operators, and both over those of RoBERTa."""
    names = (ROBERTA, WINDOWS, GLOBAL)
    lines = [f"| | tokens | {' | '.join(names)} |", "|---|--:|" + "--:|" * len(names)]
    for cell in sorted(results["cells"], key=lambda cell: (list(STEPS).index(cell["suite"]), cell["length"])):
        row = [_said(cell["peers"][name], cell["peers"][ROBERTA]) for name in names]
        lines.append(f"| {cell['suite']} | {cell['length']:,} | {' | '.join(row)} |")
    return "\n".join(lines)


def _said(figures: dict[str, Any], roberta: dict[str, Any]) -> str:
    time, count = f"{1000 * figures['seconds']:.2f} ms", f"{figures['operators']:,} operators"
    if figures is roberta:
        return f"{time}, {count}"
    times, counts = (figures[name] / roberta[name] for name in ("seconds", "operators"))
    return f"{time} ({times:.2f}), {count} ({counts:.2f})"


def _with_bar(cells: Sequence[Cell]) -> Iterator[Cell]:
    from tqdm import tqdm

    with tqdm(cells, file=sys.stderr, unit="cell", leave=False) as bar:
        for cell in bar:
            bar.set_description_str(f"{cell.suite}, {cell.length} tokens")
            yield cell


def _is_cell(entry: Any) -> bool:
    if not isinstance(entry, dict) or any(type(entry.get(name)) is not kind for name, kind in CELL.items()):
        return False
    peers = [entry["peers"].get(name) for name in (ROBERTA, WINDOWS, GLOBAL)]
    return entry["suite"] in STEPS and all(
        isinstance(peer, dict) and all(type(peer.get(name)) is kind for name, kind in FIGURES.items()) for peer in peers
    )


def find(results: dict[str, Any], cell: Cell) -> dict[str, Any] | None:
    """The entry of a cell, if it is there."""
    facts = asdict(cell)
    return next((entry for entry in results["cells"] if facts.items() <= entry.items()), None)
