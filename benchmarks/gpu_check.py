# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What `gpu_check.sh` measures in one process for one commit: parity, then the rows of one part; and the table of all.

It runs by itself against the `hf_longformer` of any folder, older ones too: what they lack is a row with its reason.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
WINDOW, HEADS = 512, 12
SIZES = {  # tokens of a text, texts of a large batch, of the operator's, layers, states, heads, vocabulary, window
    "full": (4096, 16, 8, 12, 768, HEADS, 50265, WINDOW),
    "dry": (128, 2, 2, 2, 64, 2, 99, 32),
}
ROWS = {  # in the order of the table: what is measured, and in what
    "training_1": ("training, 1 × {length}", "ms"),
    "training_1_graph": ('training, 1 × {length}, compiled with mode="reduce-overhead"', "ms"),
    "inference_1": ("inference, 1 × {length}", "ms"),
    "inference_1_graph": ('inference, 1 × {length}, compiled with mode="reduce-overhead"', "ms"),
    "operator_masks": ("longformer_attention, {texts} × {length}, a global token, forward + backward", "ms"),
    "operator_number": ("the same with num_global_tokens=1", "ms"),
    "operator_roles": ("the same with roles", "ms"),
    "operator_over_kernels": ("the one with roles, over its kernels without a global token", "ratio"),
    "operator_flex": ('the same by "flex_attention", with roles if there are any', "ms"),
    "kernels": ("its kernels in a CUDA graph, {texts} × {length}, no global token, forward + backward", "ms"),
    "kernels_dropout": ("the same with dropout 0.1", "ms"),
    "flash_attention_4": ("FlashAttention-4, the same window, no dropout", "ms"),
    "training_16": ("training, {batch} × {length}, compiled", "tokens/s"),
    "inference_16": ("inference, {batch} × {length}", "tokens/s"),
}
PARTS = {  # rows of one process
    "quick": (
        *("kernels", "kernels_dropout", "flash_attention_4", "operator_masks", "operator_number", "operator_roles"),
        *("operator_over_kernels", "operator_flex", "inference_1", "inference_16", "training_1"),
    ),
    "inference_graph": ("inference_1_graph",),
    "training_graph": ("training_1_graph",),
    "training_compiled": ("training_16",),
}


class MissingRowError(Exception):
    """Why there is no such row here."""


class Check:
    """One process: its device, its sizes, and what it has measured already."""

    def __init__(self, is_dry: bool) -> None:
        self.is_dry = is_dry
        self.device = torch.device("cpu" if is_dry else "cuda")
        (self.length, self.batch, self.texts, self.layers, self.width, self.heads, self.vocabulary, self.window) = (
            SIZES["dry" if is_dry else "full"]
        )
        self.dtype = torch.float32 if is_dry else torch.bfloat16
        self.rows: dict[str, Row] = {}

    def milliseconds(self, step: Callable[[], Any], graph: bool = False) -> Row:
        """Median and spread of several rounds of one step; with `graph`, of one captured for the GPU alone."""
        for _ in range(1 if self.is_dry else 3):
            step()
        if graph and not self.is_dry:
            step = _captured(step)
        times = []
        for _ in range(1 if self.is_dry else 5):
            self.wait()
            began, repeats = time.perf_counter(), 1 if self.is_dry else 10
            for _ in range(repeats):
                step()
            self.wait()
            times.append((time.perf_counter() - began) * 1000 / repeats)
        return {"value": statistics.median(times), "spread": max(times) - min(times)}

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if not self.is_dry:
            torch.cuda.synchronize()

    def projections(self) -> list[torch.Tensor]:
        """Query, key, value as projections leave them, and a gradient, `(texts, heads, length, 64)`."""
        generator = torch.Generator().manual_seed(0)
        shape = (4, self.texts, self.length, self.heads, self.width // self.heads)
        states = torch.randn(shape, generator=generator).to(self.device, self.dtype).transpose(2, 3)
        return [states[0].requires_grad_(), *(x.detach().requires_grad_() for x in states[1:3]), states[3].detach()]

    def both_ways(self, attend: Callable[..., torch.Tensor], graph: bool = False) -> Row:
        """Forward and backward pass of an attention."""
        query, key, value, gradient = self.projections()
        leaves = [x.detach().requires_grad_() for x in (query, key, value)]
        return self.milliseconds(lambda: torch.autograd.grad(attend(*leaves), leaves, gradient), graph)

    def operator(self, row: str) -> Row:
        """`longformer_attention` with one global token, told of it in three ways."""
        import hf_longformer
        from hf_longformer import longformer_attention

        marked = torch.zeros(self.texts, self.length, dtype=torch.bool, device=self.device)
        marked[:, 0] = True
        told: dict[str, Any] = {"global_attention_mask": marked}
        has_roles = hasattr(hf_longformer, "attention_roles")
        if row in ("operator_number", "operator_roles") and not has_roles:
            raise MissingRowError("this commit has no such argument")
        if row == "operator_number":
            told["num_global_tokens"] = 1
        elif row != "operator_masks" and has_roles:
            told = {"roles": hf_longformer.attention_roles(global_attention_mask=marked)}
        if row == "operator_flex":
            if self.is_dry:
                raise MissingRowError("needs a GPU")
            told["attn_implementation"] = "flex_attention"
        return self.both_ways(partial(longformer_attention, attention_window=self.window, **told))

    def over_kernels(self, row: str) -> Row:
        """What is around the kernels of the operator."""
        del row
        for name in ("operator_roles", "operator_masks"):
            if "value" in self.rows.get(name, {}) and "value" in self.rows.get("kernels", {}):
                return {"value": self.rows[name]["value"] / self.rows["kernels"]["value"], "note": name}
        raise MissingRowError("the rows it is made of are missing")

    def kernels(self, row: str) -> Row:
        """The kernels alone, started by the GPU itself; in older commits with a few operators around them."""
        from hf_longformer import longformer_attention

        if self.is_dry:
            raise MissingRowError("needs a GPU")
        told: Row = {"dropout": 0.1 if row == "kernels_dropout" else 0.0, "attn_implementation": "triton"}
        return self.both_ways(partial(longformer_attention, attention_window=self.window, **told), graph=True)

    def flash(self, row: str) -> Row:
        """FlashAttention-4, of the package flash-attn-4."""
        del row
        try:
            if self.is_dry or not metadata.version("flash-attn-4"):
                raise MissingRowError("needs a GPU and the package flash-attn-4")
        except metadata.PackageNotFoundError as error:
            raise MissingRowError("needs a GPU and the package flash-attn-4") from error
        from flash_attn.cute import flash_attn_func

        half = self.window // 2

        def attend(*projections: torch.Tensor) -> torch.Tensor:
            found = flash_attn_func(*(x.transpose(1, 2) for x in projections), window_size=(half, half))
            return (found[0] if isinstance(found, tuple) else found).transpose(1, 2)

        return self.both_ways(attend, graph=True)

    def model(self) -> Any:
        """Base size, the first token global, default dropouts."""
        from hf_longformer import HfLongformerConfig, HfLongformerModel

        torch.manual_seed(0)
        config = HfLongformerConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            max_position_embeddings=self.length + 2,
            type_vocab_size=1,
            attention_window=self.window,
            global_attention="cls",
        )
        return torch.nn.Module.to(HfLongformerModel(config, add_pooling_layer=False), self.device)

    def compiled(self, model: Any, row: str) -> Any:
        """The model as the row wants it."""
        if row not in ("training_1_graph", "inference_1_graph", "training_16"):
            return model
        if self.is_dry:
            return torch.compile(model, backend="aot_eager", fullgraph=True)
        mode = "reduce-overhead" if row.endswith("graph") else "default"
        return torch.compile(model, mode=mode, fullgraph=True, dynamic=False)

    def step_of_model(self, row: str) -> Row:
        """A forward pass without gradients, or a training step: loss on all states, backward, fused AdamW."""
        batch = self.batch if row.endswith("_16") else 1
        ids = torch.randint(5, self.vocabulary, (batch, self.length), generator=torch.Generator().manual_seed(0))
        inputs, model = {"input_ids": ids.to(self.device)}, self.model()
        is_graph = row.endswith("graph")
        if row.startswith("inference"):
            step = self._inference(self.compiled(model.eval().to(self.dtype), row), inputs, is_graph)
        else:
            step = self._training(model.train(), self.compiled(model, row), inputs, is_graph)
        found = self.milliseconds(step)
        if ROWS[row][1] == "tokens/s":
            found = {"value": batch * self.length * 1000 / found["value"], "milliseconds": found["value"]}
        return found

    def _inference(self, run: Any, inputs: dict[str, torch.Tensor], is_graph: bool) -> Callable[[], Any]:
        def step() -> None:
            if is_graph:
                torch.compiler.cudagraph_mark_step_begin()
            with torch.inference_mode():
                run(**inputs)

        return step

    def _training(self, model: Any, run: Any, inputs: dict[str, torch.Tensor], is_graph: bool) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        probe = torch.randn(*inputs["input_ids"].shape, self.width, device=self.device)

        def step() -> None:
            if is_graph:
                torch.compiler.cudagraph_mark_step_begin()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=not self.is_dry):
                states = run(**inputs).last_hidden_state
            (states * probe).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def parity(self) -> None:
        """Raises `RuntimeError` unless the operator gives what the definition gives, with gradients."""
        from hf_longformer import longformer_attention

        shape = (4, 2, 2, min(self.length, 600), 64)
        tensors = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(self.device)
        marked = torch.zeros(2, shape[3], dtype=torch.bool, device=self.device)
        marked[:, 0] = True
        settings: Row = {"attention_window": 64, "global_attention_mask": marked}

        def run(dtype: torch.dtype, name: str) -> torch.Tensor:
            leaves = [x.to(dtype).requires_grad_() for x in tensors[:3]]
            output = longformer_attention(*leaves, attn_implementation=name, **settings)
            grads = torch.autograd.grad(output, leaves, tensors[3].to(dtype))
            return torch.stack([output, *grads]).detach().double()

        exact, rounded, found = run(torch.float64, "eager"), run(self.dtype, "eager"), run(self.dtype, "sdpa")
        error, allowed = (found - exact).abs().max().item(), 3 * (rounded - exact).abs().max().item() + 1e-5
        if not error <= allowed:
            raise RuntimeError(f"the operator is off by {error:.2g}, and {allowed:.2g} could be rounding")

    def measure(self, row: str) -> Row:
        """One row, or why there is none."""
        functions: dict[str, Callable[[str], Row]] = {
            "kernels": self.kernels,
            "kernels_dropout": self.kernels,
            "flash_attention_4": self.flash,
            "operator_over_kernels": self.over_kernels,
        }
        of_kind = {"operator": self.operator, "training": self.step_of_model, "inference": self.step_of_model}
        of_row = functions[row] if row in functions else of_kind[row.split("_")[0]]
        try:
            return of_row(row)
        except MissingRowError as reason:
            return {"missing": str(reason)}
        except Exception as error:  # of compilers and drivers, too: the next row is measured all the same
            said = str(error).strip().splitlines() or [""]
            return {"missing": f"failed: {type(error).__name__}: {said[0][:200]}"}


def _captured(step: Callable[[], Any]) -> Callable[[], Any]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def run_part(part: str, file: Path, root: Path, is_dry: bool) -> int:
    """Measures the rows of a part, writing after each what there is so far; 1 if parity or a row fails."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(root))
    import hf_longformer

    if Path(hf_longformer.__file__).parents[1] != root.resolve():
        raise RuntimeError(f"the package must be that of {root}, got {hf_longformer.__file__}")
    check = Check(is_dry)
    try:
        check.parity()
    except Exception as error:
        file.write_text(json.dumps({row: {"missing": f"no parity: {error}"[:300]} for row in PARTS[part]}))
        return 1
    for row in PARTS[part]:
        check.rows[row] = check.measure(row)
        if not is_dry:
            torch.cuda.empty_cache()
        file.write_text(json.dumps(check.rows))
    return int(any("failed" in row.get("missing", "") for row in check.rows.values()))


def make_table(folder: Path, commits: list[str], is_dry: bool) -> str:
    """Rows of all parts that left a file `COMMIT.PART.json`; what is not there is said."""
    found: dict[str, dict[str, Row]] = {commit: {} for commit in commits}
    for commit in commits:
        for part, names in PARTS.items():
            file = folder / f"{commit}.{part}.json"
            of_part = json.loads(file.read_text()) if file.exists() else {}
            found[commit] |= {name: of_part.get(name, {"missing": f"{part} ended before it"}) for name in names}
    (folder / "gpu_check.json").write_text(json.dumps({"machine": machine(is_dry), "rows": found}, indent=1) + "\n")
    length, batch, texts, *_ = SIZES["dry" if is_dry else "full"]
    lines = [f"| | unit | {' | '.join(commits)} |", f"|---|---|{'--:|' * len(commits)}"]
    for name, (title, unit) in ROWS.items():
        title = title.format(length=f"{length:,}", batch=batch, texts=texts)
        lines.append(f"| {title} | {unit} | {' | '.join(_cell(found[commit][name]) for commit in commits)} |")
    facts = machine(is_dry)
    return "\n".join([*lines, "", ", ".join(f"{name} {value}" for name, value in facts.items()), ""])


def _cell(row: Row) -> str:
    if "missing" in row:
        return f"– ({row['missing']})"
    value = row["value"]
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{text} ± {row['spread']:.2g}" if "spread" in row else text


def machine(is_dry: bool) -> dict[str, str]:
    """What figures must carry."""
    import transformers

    device = "a CPU, tiny sizes: figures mean nothing" if is_dry else torch.cuda.get_device_name()
    triton = sys.modules.get("triton")
    return {
        "on": device,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "triton": getattr(triton, "__version__", "not loaded here"),
        "dtype": "float32" if is_dry else "bfloat16",
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--file", type=Path, help="where rows of the part go")
    parser.add_argument("--root", type=Path, help="where hf_longformer stands")
    parser.add_argument("--table", type=Path, help="a folder: print the table of what stands there")
    parser.add_argument("--commits", nargs="+", default=[])
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, with tiny sizes")
    given = parser.parse_args()
    if given.table is not None:
        sys.stdout.write(make_table(given.table, given.commits, given.dry_run))
        return 0
    if not given.dry_run and not torch.cuda.is_available():
        sys.stderr.write("gpu_check needs a GPU that PyTorch sees, got none: --dry-run tries it on a CPU\n")
        return 2
    return run_part(given.part, given.file, given.root, given.dry_run)


if __name__ == "__main__":
    sys.exit(main())
