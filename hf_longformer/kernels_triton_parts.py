# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the kernels of `kernels_triton.py` have in common: where a program stands in a text, what it visits, loads and
sees, and what dropout keeps.
"""

from __future__ import annotations  # where there is no Triton, annotations must not be looked at

try:
    import triton
    import triton.language as tl
except ImportError:  # PyTorch for CPUs, macOS, Windows
    triton = tl = None

jit = (lambda function: function) if triton is None else triton.jit


@jit
def text_of(S, bounds, batch, PACKED: tl.constexpr):
    """Where in a row of tokens a text begins, and how many tokens it has, padding included."""
    if PACKED:
        first = tl.load(bounds + 2 * batch)
        return first.to(tl.int64), tl.load(bounds + 2 * batch + 1) - first
    else:
        return batch * 0, S


@jit
def place_of(
    pid, S, head, batch, dilations, bounds, BLOCK: tl.constexpr, DILATED: tl.constexpr, HAS_BOUNDS: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    """Dilation, phase, the block's first `t`, and from which `t` to which the phase has real tokens."""
    dilation, phase, start = 1, 0, pid * BLOCK
    if DILATED:
        dilation = tl.load(dilations + head)
        of_phase = tl.maximum(tl.cdiv(tl.cdiv(S, dilation), BLOCK), 1)
        phase = pid // of_phase
        start = (pid - phase * of_phase) * BLOCK
    first, last = 0, S
    if HAS_BOUNDS and not PACKED:
        first, last = tl.load(bounds + 2 * batch), tl.load(bounds + 2 * batch + 1)
    low = tl.maximum(first - phase + dilation - 1, 0) // dilation
    high = tl.maximum(last - phase + dilation - 1, 0) // dilation
    return dilation, phase, start, low, high


@jit
def visited(start, low, high, before, after, SIZE: tl.constexpr, STEP: tl.constexpr):
    """From where to where a block of SIZE visits blocks of STEP: each of it sees from `before` in front of it to
    `after` behind it. A block without real tokens visits nothing.
    """
    begin = tl.maximum(low, start - before) // STEP * STEP
    end = tl.minimum(high, start + SIZE + after)
    return begin, tl.where((start >= high) | (start + SIZE <= low), begin, end)


@jit
def edges(begin, end, start, low, high, before, after, SIZE: tl.constexpr, STEP: tl.constexpr, HAS_SHOWN: tl.constexpr):
    """Of the blocks of STEP that a block of SIZE visits, those that lie inside all of its windows and of the text, so
    that nothing of them is masked: where they begin and end. In front of them and behind them are the edges of windows.
    """
    first = tl.cdiv(tl.maximum(low, start + SIZE - 1 - before), STEP) * STEP
    last = tl.minimum(high, start + after + 1) // STEP * STEP
    if HAS_SHOWN:  # any of them may be masked
        last = begin
    first = tl.minimum(tl.maximum(first, begin), end)
    return first, tl.minimum(tl.maximum(last, first), end)


@jit
def _mask(inside, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """`(rows, BLOCK_D or 1)`: what there is of rows, of which some are there."""
    mask = inside[:, None]
    if BLOCK_D != HEAD_DIM:
        mask = mask & (tl.arange(0, BLOCK_D) < HEAD_DIM)[None, :]
    return mask


@jit
def load(
    pointer, first, step, inside, stride, SIZE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    WHOLE: tl.constexpr = False,
):  # fmt: skip
    """`(SIZE, BLOCK_D)` of the tokens first, first + step, …; 0 where there is none, unless all are there."""
    column = tl.arange(0, BLOCK_D)
    offsets = (tl.arange(0, SIZE) * (step * stride))[:, None] + column[None, :]
    pointer += tl.cast(first, tl.int64) * stride
    if WHOLE and BLOCK_D == HEAD_DIM:
        return tl.load(pointer + offsets)
    elif WHOLE:
        return tl.load(pointer + offsets, mask=(column < HEAD_DIM)[None, :], other=0.0)
    else:
        return tl.load(pointer + offsets, mask=_mask(inside, HEAD_DIM, BLOCK_D), other=0.0)


@jit
def numbers(pointer, tokens, inside, other, WHOLE: tl.constexpr):
    """What there is one of for every token; another number where there is none, unless all are there."""
    if WHOLE:
        return tl.load(pointer + tokens)
    else:
        return tl.load(pointer + tokens, mask=inside, other=other)


@jit
def store(
    pointer, values, first, step, inside, stride, SIZE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Puts `(SIZE, BLOCK_D)` where the tokens first, first + step, … stand, as far as they are there."""
    column, mask = tl.arange(0, BLOCK_D), _mask(inside, HEAD_DIM, BLOCK_D)
    offsets = (tl.arange(0, SIZE) * (step * stride))[:, None] + column[None, :]
    pointer += tl.cast(first, tl.int64) * stride
    tl.store(pointer + offsets, values.to(pointer.dtype.element_ty), mask=mask)


@jit
def load_keys(
    key, value, shown, u, phase, dilation, low, high, key_s, value_s, HAS_SHOWN: tl.constexpr, WHOLE: tl.constexpr,
    SIZE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A block of keys from the u-th of a phase on: which they are in it and in the text, which of them are shown, and
    keys and values.
    """
    keys = u + tl.arange(0, SIZE)
    tokens = phase + keys * dilation
    inside = (keys >= low) & (keys < high)
    if HAS_SHOWN:
        inside = inside & (tl.load(shown + tokens, mask=inside, other=0) != 0)
    k = load(key, phase + u * dilation, dilation, inside, key_s, SIZE, HEAD_DIM, BLOCK_D, WHOLE)
    v = load(value, phase + u * dilation, dilation, inside, value_s, SIZE, HEAD_DIM, BLOCK_D, WHOLE)
    return keys, tokens, inside, k, v


@jit
def load_global(
    key, value, global_index, global_valid, batch, G, first, key_s, value_s, SIZE: tl.constexpr,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Global tokens from the first-th on: which they are, which of them count, and their keys and values."""
    slot, column = first + tl.arange(0, SIZE), tl.arange(0, BLOCK_D)
    tokens = tl.load(global_index + batch * G + slot, mask=slot < G, other=0)
    valid = tl.load(global_valid + batch * G + slot, mask=slot < G, other=0) != 0
    mask = _mask(valid, HEAD_DIM, BLOCK_D)
    k = tl.load(key + tokens[:, None] * key_s + column[None, :], mask=mask, other=0)
    v = tl.load(value + tokens[:, None] * value_s + column[None, :], mask=mask, other=0)
    return tokens.to(tl.int32), valid, k, v


@jit
def in_window(distance, before, after):
    """Whether a key so far in front of its row is seen: one comparison instead of two."""
    return (distance + after).to(tl.uint32, bitcast=True) <= tl.cast(before + after, tl.uint32)


@jit
def beside(distance, valid, dilation, before, after, DILATED: tl.constexpr, CAUSAL: tl.constexpr):
    """Which global keys, so many tokens in front of a row, the row sees though its window does not hold them."""
    held = (distance <= before * dilation) & (distance >= -after * dilation)
    if DILATED:
        held = held & (distance % dilation == 0)
    seen = valid & (held == 0)
    if CAUSAL:
        seen = seen & (distance >= 0)
    return seen


@jit
def keeps(of_rows, of_keys, threshold):
    """Which weights dropout keeps, from 32 random bits of every row and of every key: the same whenever it is asked,
    by four instructions for a weight.
    """
    bits = (of_rows ^ of_keys).to(tl.uint32, bitcast=True) * 0x9E3779B1
    return bits >= tl.cast(threshold, tl.uint32)
