# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a GPU: window, dilation, global tokens, padding anywhere and dropout in one kernel forward and
three backward. Nothing is kept for the backward pass but query, key, value, output and log-sum-exp.

`kernels_triton.py` has the kernels. Both passes are operators of `torch.library`: `torch.compile` puts one node into
its graph, whatever the length.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch

from .operators import empty_rows, make_operator, sum_dtype
from .token_roles import PackedTexts, TokenRoles, text_bounds
from .window_pattern import WindowPattern

KNOWN: tuple[str, ...] = ()  # what patterns of somebody's own may replace

HAS_TRITON = find_spec("triton") is not None
DEVICES = ("cuda",)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_HEAD_DIM, SMALLEST_BLOCK = 256, 16
LOG2_E = math.log2(math.e)
PROGRAMS = 256  # about two for every multiprocessor of a large GPU
ROWS_OF_GLOBAL = 64
ROWS_AT_ONCE = 256  # where second derivatives are asked for

# Rows, keys, warps and stages of a block, and the bytes of shared memory that it takes, by kernel and bytes of a head's
# row; the best first. What is best was measured on Hopper, when all blocks were masked; bytes are the most that Triton
# 3.9 compiles for any of the architectures 8.0, 8.6, 9.0, 10.0 and 12.0 (tests/measure_shared_memory.py).
SIZES: dict[str, dict[int, tuple[tuple[int, int, int, int, int], ...]]] = {
    "forward_rows": {
        128: ((64, 64, 4, 3, 58_368),),
        256: ((64, 32, 4, 2, 65_664),),
        512: ((64, 32, 4, 2, 131_200), (32, 32, 4, 2, 73_856)),
        1024: ((32, 32, 4, 2, 139_392), (32, 32, 4, 1, 98_304)),
    },
    "backward_rows": {
        128: ((64, 32, 4, 3, 46_080),),
        256: ((64, 32, 4, 2, 98_432),),
        512: ((32, 32, 4, 2, 98_432),),
        1024: ((32, 32, 4, 1, 163_840), (16, 16, 4, 1, 81_920)),
    },
    "backward_keys": {
        128: ((32, 64, 4, 3, 50_176),),
        256: ((32, 64, 4, 2, 98_688),),
        512: ((32, 32, 4, 2, 82_304),),
        1024: ((32, 32, 4, 1, 163_840), (16, 16, 4, 1, 81_920)),
    },
    "backward_global": {
        128: ((ROWS_OF_GLOBAL, 0, 4, 2, 29_440),),
        256: ((ROWS_OF_GLOBAL, 0, 4, 2, 58_112),),
        512: ((ROWS_OF_GLOBAL, 0, 4, 2, 115_456), (32, 0, 4, 1, 65_536)),
        1024: ((ROWS_OF_GLOBAL, 0, 4, 2, 131_840), (32, 0, 4, 1, 98_304)),
    },
}
# What strides of a tensor are called in the kernels, if not as itself.
SHORT = {"grad_output": "grad", "query_grad": "result"}


def why_not(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """What is in the way of the kernels for such projections; None if nothing is."""
    if device.type not in DEVICES:
        return "needs a GPU"
    if not HAS_TRITON:
        return "needs the package triton"
    if dtype not in DTYPES:
        return "takes float32, bfloat16 and float16"
    return "takes heads of at most 256 dimensions" if head_dim > LARGEST_HEAD_DIM else None


def local_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
    bits: torch.Tensor | None = None,
) -> torch.Tensor:
    """Output `(batch, heads, S, head_dim)` of the rows that are not global; padded and global rows are 0.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`.
        pattern: Window, dilation and direction.
        roles: Real and global tokens.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
        bits: `(2, batch, heads, S)`, int32, random numbers of every row and of every key, which together decide what is
            dropped; drawn if left out.
    """
    arguments = _arguments(query, key, value, pattern, roles, dropout, scaling, bits)
    attend = _LOCAL_ROWS.operator if torch.compiler.is_compiling() else _LOCAL_ROWS.eager
    return attend(*arguments)[0]


def local_rows_without_kernels(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    bits: torch.Tensor | None = None,
) -> torch.Tensor:
    """What `local_rows` gives, in operators of PyTorch, on any device."""
    return _attend_plainly(*_arguments(query, key, value, pattern, roles, dropout, None, bits))


def _arguments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float,
    scaling: float | None,
    bits: torch.Tensor | None,
) -> tuple[Any, ...]:
    """Those of the operator."""
    pattern.require_window(KNOWN)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    projections = [x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value)]
    if dropout > 0.0 and bits is None:
        bits = torch.randint(-(2**31), 2**31, (2, *query.shape[:3]), dtype=torch.int32, device=query.device)
    masks = _masks(roles) if torch.compiler.is_compiling() else roles.derived("kernels", lambda: _masks(roles))
    longest = roles.longest if isinstance(roles, PackedTexts) else 0
    numbers = (longest, pattern.attention_window, list(pattern.dilations), pattern.is_causal, scaling, dropout)
    return *projections, *masks, bits, *numbers


def _masks(roles: TokenRoles) -> tuple[torch.Tensor | None, ...]:
    """What kernels want to know of tokens, the same for all layers: `(batch, 2)`, int32, the first real token of every
    text and what follows the last one; `(batch, S)`, which tokens are real, if some between those are not; and mask,
    index and validity of the global ones.
    """
    tokens: Any = roles.global_tokens
    index, valid = (None, None) if tokens is None else (tokens.index, tokens.valid)
    if isinstance(roles, PackedTexts):  # of whose global tokens kernels want to know the place in their text
        of_batch: Any = roles.batch.global_tokens
        if of_batch is not None:
            index, valid = of_batch.index - roles.first, of_batch.valid
        masks: tuple[torch.Tensor | None, ...] = (roles.bounds, None, roles.is_global, index, valid)
    else:
        real = roles.key_padding_mask
        bounds = None if real is None else text_bounds(real).int()
        masks = (bounds, None if roles.is_contiguous else real, roles.is_global, index, valid)
    return tuple(None if mask is None else mask.contiguous() for mask in masks)


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    from .kernels_triton import forward_rows

    plan = _Plan(query, *arguments)
    output, lse = empty_rows(query, value)
    with torch.cuda.device_of(query):
        plan.launch(forward_rows, "ROWS", query=query, key=key, value=value, output=output, lse=lse)
    return output, lse


def _attend_backward(
    grad_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    *arguments: Any,
) -> tuple[torch.Tensor, ...]:
    from .kernels_triton import backward_global, backward_keys, backward_rows

    plan = _Plan(query, *arguments)
    grad_output = grad_output if grad_output.stride(-1) == 1 else grad_output.contiguous()
    grads, products = [torch.empty_like(x) for x in (query, key, value)], torch.empty_like(lse)
    given = {"grad_output": grad_output, "query": query, "key": key, "value": value, "lse": lse, "products": products}
    with torch.cuda.device_of(query):
        plan.launch(backward_rows, "ROWS", **given, output=output, query_grad=grads[0])
        plan.launch(backward_keys, "KEYS", **given, key_grad=grads[1], value_grad=grads[2])
        if plan.num_global:
            blocks = -(-plan.num_global // SMALLEST_BLOCK)
            parts = max(1, min(-(-plan.longest // ROWS_OF_GLOBAL), PROGRAMS // (plan.programs * blocks)))
            sums = query.new_empty(
                *(2, parts, plan.texts, plan.heads, plan.num_global, query.shape[-1]), dtype=torch.float32
            )
            plan.launch(backward_global, (plan.programs, parts, blocks), **given, sums=sums)
            for grad, found in zip(grads[1:], sums.sum(dim=1).to(query.dtype), strict=True):
                plan.add_of_global(grad, found)
    return tuple(grads)


def _attend_plainly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor | None,
    shown: torch.Tensor | None,
    is_global: torch.Tensor | None,
    global_index: torch.Tensor | None,
    global_valid: torch.Tensor | None,
    bits: torch.Tensor | None,
    longest: int,
    attention_window: int,
    dilations: Sequence[int],
    is_causal: bool,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """Attends in operators that PyTorch can differentiate any number of times, with explicit weights for some rows at a
    time: for second derivatives.
    """
    length, device = query.shape[2], query.device
    position, is_packed = torch.arange(length, device=device), bounds is not None and longest > 0
    real = torch.ones(len(query), length, dtype=torch.bool, device=device) if shown is None else shown
    texts = torch.zeros_like(position)
    if is_packed:
        texts = torch.searchsorted(bounds[:, 1].contiguous(), position.to(bounds.dtype), right=True)
    elif bounds is not None:
        real = real & (position >= bounds[:, :1]) & (position < bounds[:, 1:])
    marked = torch.zeros_like(real) if is_global is None else is_global & real
    pattern = WindowPattern(attention_window, tuple(dilations), is_causal).within(length)
    everywhere = marked.any(dim=0)  # columns of global tokens
    outputs = []
    for rows in position.split(ROWS_AT_ONCE):
        near = (position >= rows[0] - pattern.reach) & (position <= rows[-1] + pattern.reach)
        columns = (near | everywhere).nonzero().flatten()
        allowed = torch.stack([pattern.allows(rows[:, None], columns, head) for head in range(len(dilations))])[None]
        allowed = (allowed | marked[:, None, None, columns]) & real[:, None, None, columns]
        allowed = allowed & (texts[rows][:, None] == texts[columns])
        if is_causal:
            allowed = allowed & (columns <= rows[:, None])
        wanted = (real & ~marked)[:, None, rows, None]
        scores = (query[:, :, rows] @ key[:, :, columns].mT).to(sum_dtype(query)) * scaling
        weights = torch.softmax(scores.masked_fill(~(allowed | ~wanted), -math.inf), dim=-1).masked_fill(~wanted, 0.0)
        if bits is not None:
            mixed = (bits[0][..., rows, None] ^ bits[1][..., None, columns]).long() * 0x9E3779B1 & 0xFFFFFFFF
            weights = weights * (mixed >= math.ceil(dropout * 2**32)) / (1.0 - dropout)
        outputs.append(weights.to(value.dtype) @ value[:, :, columns])
    return torch.cat(outputs, dim=2)


class _Plan:
    """What kernels are told besides the projections, whose arguments are those of the operator."""

    def __init__(
        self,
        query: torch.Tensor,
        bounds: torch.Tensor | None,
        shown: torch.Tensor | None,
        is_global: torch.Tensor | None,
        global_index: torch.Tensor | None,
        global_valid: torch.Tensor | None,
        bits: torch.Tensor | None,
        longest: int,
        attention_window: int,
        dilations: Sequence[int],
        is_causal: bool,
        scaling: float,
        dropout: float,
    ) -> None:
        self.bounds, self.global_index = bounds, global_index
        self.num_global = 0 if global_index is None else global_index.shape[1]
        self.is_packed = bounds is not None and longest > 0
        batch, self.heads, length, head_dim = query.shape
        self.texts, self.longest = batch, length
        if bounds is not None and longest > 0:
            self.texts, self.longest = len(bounds), longest
        self.each_dilation = sorted(set(dilations))
        is_dilated = self.each_dilation != [1]
        of_heads = tuple(dilations) * (self.heads // len(dilations))
        self.bytes_of_row = max(128, _block_d(query) * query.element_size())
        self.shared_memory = _shared_memory(query.device)
        w = min(attention_window // 2, self.longest)
        self.programs = self.texts * self.heads  # and so many blocks of each
        row_bits, key_bits = (None, None) if bits is None else bits.unbind(0)
        # From one text to the next, and from one head to the next, in what has one number per row; and in masks.
        log_b, log_h, mask_b = (0, length, 0) if self.is_packed else (self.heads * length, length, length)
        self.arguments: dict[str, Any] = {"bounds": bounds, "shown": shown, "is_global": is_global}
        self.arguments |= {"global_index": global_index, "global_valid": global_valid, "G": self.num_global}
        self.arguments |= {"row_bits": row_bits, "key_bits": key_bits, "threshold": math.ceil(dropout * 2**32)}
        self.arguments |= {"dilations": _on_device(of_heads, query.device) if is_dilated else None}
        self.arguments |= {"log_b": log_b, "log_h": log_h, "mask_b": mask_b, "S": self.longest, "H": self.heads}
        self.arguments |= {"before": w, "after": 0 if is_causal else w, "kept_scale": 1.0 / (1.0 - dropout)}
        self.arguments |= {"scale": scaling * LOG2_E, "scaling": scaling}
        self.arguments |= {"HEAD_DIM": head_dim, "BLOCK_D": _block_d(query), "GLOBALS": SMALLEST_BLOCK}
        self.arguments |= {"DILATED": is_dilated, "CAUSAL": is_causal, "PACKED": self.is_packed}
        self.arguments |= {"HAS_BOUNDS": bounds is not None, "HAS_SHOWN": shown is not None}
        self.arguments |= {"HAS_GLOBAL": global_index is not None, "DROPOUT": dropout > 0.0}
        self.arguments |= {"PRECISION": "tf32x3" if query.dtype == torch.float32 else "ieee"}

    def launch(self, kernel: Any, grid: str | tuple[int, ...], **tensors: torch.Tensor) -> None:
        """Starts a kernel, with every argument by its name.

        Args:
            kernel: One of `kernels_triton`.
            grid: Of the programs; or what a program is for a block of, `"ROWS"` or `"KEYS"`.
            **tensors: What it reads and writes, `(batch, heads, S, …)`.
        """
        of_kernel = sizes_of(kernel.fn.__name__, self.bytes_of_row, self.shared_memory)
        sizes = dict(zip(("ROWS", "KEYS", "num_warps", "num_stages"), of_kernel, strict=True))
        given = {**self.arguments, **sizes, **tensors}
        if isinstance(grid, str):
            blocks = given["blocks"] = self.blocks(sizes[grid])
            grid = (blocks * self.programs,)
        for name, tensor in tensors.items():
            given |= zip((f"{SHORT.get(name, name)}_{axis}" for axis in "bhs"), self.strides(tensor), strict=False)
        options = {name: sizes[name] for name in ("num_warps", "num_stages")}
        kernel[grid](**{name: given[name] for name in kernel.arg_names}, **options)

    def blocks(self, size: int) -> int:
        """So many has the longest text, in all phases of the head that has most."""
        phases = {dilation: math.ceil(self.longest / dilation) for dilation in self.each_dilation}  # tokens of one
        return max(dilation * math.ceil(tokens / size) for dilation, tokens in phases.items())

    def strides(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """Of texts, heads and tokens; texts that stand in one row are found by their bounds."""
        return (0 if self.is_packed else tensor.stride(0), *tensor.stride()[1:3])

    def add_of_global(self, grad: torch.Tensor, found: torch.Tensor) -> None:
        """Adds `(texts, heads, G, head_dim)` to the gradient of all keys or values."""
        index: Any = self.global_index
        if self.is_packed:
            index = (index + self.bounds[:, :1]).clamp(0, grad.shape[2] - 1).flatten()[None]  # some stand for nothing
            found = found.transpose(0, 1).flatten(1, 2)[None]
        grad.scatter_add_(2, index[:, None, :, None].expand_as(found), found)


def sizes_of(kernel: str, bytes_of_row: int, shared_memory: float) -> tuple[int, int, int, int]:
    """Rows, keys, warps and stages of a block of a kernel: the best whose shared memory there is, or the smallest.

    Args:
        kernel: Its name.
        bytes_of_row: Of the row of a head, as `SIZES` has them.
        shared_memory: Bytes that a block may have.
    """
    choices = SIZES[kernel][bytes_of_row]
    return next((choice for choice in choices if choice[-1] <= shared_memory), choices[-1])[:4]


@lru_cache(maxsize=64)
def _shared_memory(device: torch.device) -> float:
    """Bytes that a block may have: 227 KiB on Hopper, 163 on an A100, 99 on consumer cards. Without a limit where the
    device does not say.
    """
    properties = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return getattr(properties, "shared_memory_per_block_optin", math.inf)


def _block_d(query: torch.Tensor) -> int:
    return max(SMALLEST_BLOCK, 1 << (query.shape[-1] - 1).bit_length())


@lru_cache(maxsize=64)
def _on_device(dilations: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(dilations, dtype=torch.int32, device=device)


_LOCAL_ROWS = make_operator(
    "local_rows_on_gpu",
    attend=_attend,
    attend_backward=_attend_backward,
    attend_plainly=_attend_plainly,
    tensors=dict.fromkeys(("bounds", "shown", "is_global", "global_index", "global_valid", "bits"), "Tensor?"),
    numbers={
        "longest": "int",
        "attention_window": "int",
        "dilations": "int[]",
        "is_causal": "bool",
        "scaling": "float",
        "dropout": "float",
    },
    has_lse=True,
    device="cuda",
)
