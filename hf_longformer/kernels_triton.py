# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The local rows on a GPU, forward and backward, as Triton kernels: what `attention_triton.py` launches.

A dilated window is a window without gaps on every d-th token. So a program has one phase of a text, the tokens
`phase + dilation * t`, and a block of its `t`. Blocks of keys that none of its rows sees are not visited. Global keys
that the window does not hold come behind it, in the same softmax. Statistics are float32, logarithms those to the
base 2.

A row that nobody uses has the log-sum-exp +inf: in the backward pass all its weights are 0.
"""

from __future__ import annotations  # where there is no Triton, annotations must not be looked at

from .kernels_triton_parts import (
    beside,
    edges,
    in_window,
    jit,
    keeps,
    load,
    load_global,
    load_keys,
    numbers,
    place_of,
    store,
    text_of,
    tl,
    visited,
)


@jit
def _softmax_step(
    highest, total, sums, scores, v, scale, of_rows, of_keys, threshold, DROPOUT: tl.constexpr, PRECISION: tl.constexpr
):
    """One block of keys more in the maximum, the sum of weights, and the weighted sum of values."""
    new = tl.maximum(highest, tl.max(scores, 1) * scale)
    weights = tl.exp2(scores * scale - new[:, None])
    rest = tl.exp2(highest - new)
    total = total * rest + tl.sum(weights, 1)
    if DROPOUT:
        weights = tl.where(keeps(of_rows, of_keys, threshold), weights, 0.0)
    sums = tl.dot(weights.to(v.dtype), v, sums * rest[:, None], input_precision=PRECISION)
    return new, total, sums


@jit
def _forward_block(
    highest, total, sums, q, t, of_rows, key, value, shown, key_bits, u, phase, dilation, low, high, before, after,
    scale, threshold, key_s, value_s, HAS_SHOWN: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    WHOLE: tl.constexpr, SIZE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The softmax of rows with the keys from the u-th on in it, which all rows see if they are whole."""
    keys, others, inside, k, v = load_keys(
        key, value, shown, u, phase, dilation, low, high, key_s, value_s, HAS_SHOWN, WHOLE, SIZE, HEAD_DIM, BLOCK_D
    )
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    if not WHOLE:
        seen = in_window(t[:, None] - keys[None, :], before, after) & inside[None, :]
        scores = tl.where(seen, scores, -float("inf"))
    of_keys = 0
    if DROPOUT:
        of_keys = numbers(key_bits, others, inside, 0, WHOLE)[None, :]
    return _softmax_step(highest, total, sums, scores, v, scale, of_rows, of_keys, threshold, DROPOUT, PRECISION)


@jit
def forward_rows(
    query, key, value, output, lse, bounds, shown, is_global, global_index, global_valid, dilations, row_bits,
    key_bits, query_b, query_h, query_s, key_b, key_h, key_s, value_b, value_h, value_s, output_b, output_h, output_s,
    log_b, log_h, mask_b, blocks, S, H, G, before, after, scale, threshold, kept_scale, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr, GLOBALS: tl.constexpr, DILATED: tl.constexpr, CAUSAL: tl.constexpr, HAS_BOUNDS: tl.constexpr,
    PACKED: tl.constexpr, HAS_SHOWN: tl.constexpr, HAS_GLOBAL: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Output and log-sum-exp of a block of rows."""
    pid, batch_head = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    place, head = (batch_head // H).to(tl.int64), batch_head % H
    base, S = text_of(S, bounds, place, PACKED)
    dilation, phase, start, low, high = place_of(
        pid, S, head, place, dilations, bounds, ROWS, DILATED, HAS_BOUNDS, PACKED
    )
    if (phase < dilation) & (start < S):
        query += place * query_b + head * query_h + base * query_s
        key += place * key_b + head * key_h + base * key_s
        value += place * value_b + head * value_h + base * value_s
        t, first = start + tl.arange(0, ROWS), phase + start * dilation
        tokens = phase + t * dilation
        exists, of_text = tokens < S, place * log_b + head * log_h + base
        q = load(query, first, dilation, exists, query_s, ROWS, HEAD_DIM, BLOCK_D)
        highest, total = tl.full([ROWS], -1.0e30, tl.float32), tl.zeros([ROWS], tl.float32)
        sums = tl.zeros([ROWS, BLOCK_D], tl.float32)
        of_rows = 0
        if DROPOUT:
            key_bits += of_text
            of_rows = tl.load(row_bits + of_text + tokens, mask=exists, other=0)[:, None]
        if HAS_SHOWN:
            shown += place * mask_b
        begin, end = visited(start, low, high, before, after, ROWS, KEYS)
        inner, outer = edges(begin, end, start, low, high, before, after, ROWS, KEYS, HAS_SHOWN)
        for u in range(inner, outer, KEYS):
            highest, total, sums = _forward_block(
                highest, total, sums, q, t, of_rows, key, value, shown, key_bits, u, phase, dilation, low, high, before,
                after, scale, threshold, key_s, value_s, HAS_SHOWN, DROPOUT, PRECISION, True, KEYS, HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        for i in range(begin, end - (outer - inner), KEYS):
            u = i + tl.where(i >= inner, outer - inner, 0)
            highest, total, sums = _forward_block(
                highest, total, sums, q, t, of_rows, key, value, shown, key_bits, u, phase, dilation, low, high, before,
                after, scale, threshold, key_s, value_s, HAS_SHOWN, DROPOUT, PRECISION, False, KEYS, HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        if HAS_GLOBAL:
            for slot in range(0, G, GLOBALS):
                others, valid, k, v = load_global(
                    key, value, global_index, global_valid, place, G, slot, key_s, value_s, GLOBALS, HEAD_DIM, BLOCK_D
                )
                distance = tokens[:, None] - others[None, :]
                seen = beside(distance, valid[None, :], dilation, before, after, DILATED, CAUSAL)
                scores = tl.where(seen, tl.dot(q, tl.trans(k), input_precision=PRECISION), -float("inf"))
                of_keys = 0
                if DROPOUT:
                    of_keys = tl.load(key_bits + others, mask=valid, other=0)[None, :]
                highest, total, sums = _softmax_step(
                    highest, total, sums, scores, v, scale, of_rows, of_keys, threshold, DROPOUT, PRECISION
                )
        shows = (t >= low) & (t < high) & exists
        if HAS_SHOWN:
            shows = shows & (tl.load(shown + tokens, mask=exists, other=0) != 0)
        if HAS_GLOBAL:
            shows = shows & (tl.load(is_global + place * mask_b + base + tokens, mask=exists, other=1) == 0)
        total = tl.where(shows, total, 1.0)
        rows = tl.where(shows[:, None], sums * (kept_scale / total)[:, None], 0.0)
        output += place * output_b + head * output_h + base * output_s
        store(output, rows, first, dilation, exists, output_s, ROWS, HEAD_DIM, BLOCK_D)
        log = tl.where(shows, highest + tl.log2(total), float("inf"))
        tl.store(lse + of_text + tokens, log, mask=exists)


@jit
def _of_scores(
    weights, grad, v, product, of_rows, of_keys, threshold, kept_scale, DROPOUT: tl.constexpr, PRECISION: tl.constexpr
):
    """Gradient of the scores of rows with a block of keys."""
    of_weights = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
    if DROPOUT:
        of_weights = tl.where(keeps(of_rows, of_keys, threshold), of_weights, 0.0) * kept_scale
    return weights * (of_weights - product[:, None])


@jit
def _backward_block(
    sums, q, grad, product, log, t, of_rows, key, value, shown, key_bits, u, phase, dilation, low, high, before, after,
    scale, threshold, kept_scale, key_s, value_s, HAS_SHOWN: tl.constexpr, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr, WHOLE: tl.constexpr, SIZE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The keys from the u-th on in the gradient of queries, yet to be scaled."""
    keys, others, inside, k, v = load_keys(
        key, value, shown, u, phase, dilation, low, high, key_s, value_s, HAS_SHOWN, WHOLE, SIZE, HEAD_DIM, BLOCK_D
    )
    weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale - log)
    if not WHOLE:
        seen = in_window(t[:, None] - keys[None, :], before, after) & inside[None, :]
        weights = tl.where(seen, weights, 0.0)
    of_keys = 0
    if DROPOUT:
        of_keys = numbers(key_bits, others, inside, 0, WHOLE)[None, :]
    of_scores = _of_scores(weights, grad, v, product, of_rows, of_keys, threshold, kept_scale, DROPOUT, PRECISION)
    return tl.dot(of_scores.to(k.dtype), k, sums, input_precision=PRECISION)


@jit
def backward_rows(
    grad_output, query, key, value, output, lse, query_grad, products, bounds, shown, global_index, global_valid,
    dilations, row_bits, key_bits, grad_b, grad_h, grad_s, query_b, query_h, query_s, key_b, key_h, key_s, value_b,
    value_h, value_s, output_b, output_h, output_s, result_b, result_h, result_s, log_b, log_h, mask_b, blocks, S, H, G,
    before, after, scale, scaling, threshold, kept_scale, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    GLOBALS: tl.constexpr, DILATED: tl.constexpr, CAUSAL: tl.constexpr, HAS_BOUNDS: tl.constexpr, PACKED: tl.constexpr,
    HAS_SHOWN: tl.constexpr, HAS_GLOBAL: tl.constexpr, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Gradient of a block of queries, and the product of output and its gradient, which the other kernels need."""
    pid, batch_head = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    place, head = (batch_head // H).to(tl.int64), batch_head % H
    base, S = text_of(S, bounds, place, PACKED)
    dilation, phase, start, low, high = place_of(
        pid, S, head, place, dilations, bounds, ROWS, DILATED, HAS_BOUNDS, PACKED
    )
    if (phase < dilation) & (start < S):
        key += place * key_b + head * key_h + base * key_s
        value += place * value_b + head * value_h + base * value_s
        t, first = start + tl.arange(0, ROWS), phase + start * dilation
        tokens = phase + t * dilation
        exists, of_text = tokens < S, place * log_b + head * log_h + base
        query += place * query_b + head * query_h + base * query_s
        grad_output += place * grad_b + head * grad_h + base * grad_s
        output += place * output_b + head * output_h + base * output_s
        q = load(query, first, dilation, exists, query_s, ROWS, HEAD_DIM, BLOCK_D)
        grad = load(grad_output, first, dilation, exists, grad_s, ROWS, HEAD_DIM, BLOCK_D)
        rows = load(output, first, dilation, exists, output_s, ROWS, HEAD_DIM, BLOCK_D)
        product = tl.sum(grad.to(tl.float32) * rows.to(tl.float32), 1)
        tl.store(products + of_text + tokens, product, mask=exists)
        log = tl.load(lse + of_text + tokens, mask=exists, other=float("inf"))[:, None]
        sums = tl.zeros([ROWS, BLOCK_D], tl.float32)
        of_rows = 0
        if DROPOUT:
            key_bits += of_text
            of_rows = tl.load(row_bits + of_text + tokens, mask=exists, other=0)[:, None]
        if HAS_SHOWN:
            shown += place * mask_b
        begin, end = visited(start, low, high, before, after, ROWS, KEYS)
        inner, outer = edges(begin, end, start, low, high, before, after, ROWS, KEYS, HAS_SHOWN)
        for u in range(inner, outer, KEYS):
            sums = _backward_block(
                sums, q, grad, product, log, t, of_rows, key, value, shown, key_bits, u, phase, dilation, low, high,
                before, after, scale, threshold, kept_scale, key_s, value_s, HAS_SHOWN, DROPOUT, PRECISION, True, KEYS,
                HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        for i in range(begin, end - (outer - inner), KEYS):
            u = i + tl.where(i >= inner, outer - inner, 0)
            sums = _backward_block(
                sums, q, grad, product, log, t, of_rows, key, value, shown, key_bits, u, phase, dilation, low, high,
                before, after, scale, threshold, kept_scale, key_s, value_s, HAS_SHOWN, DROPOUT, PRECISION, False, KEYS,
                HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        if HAS_GLOBAL:
            for slot in range(0, G, GLOBALS):
                others, valid, k, v = load_global(
                    key, value, global_index, global_valid, place, G, slot, key_s, value_s, GLOBALS, HEAD_DIM, BLOCK_D
                )
                distance = tokens[:, None] - others[None, :]
                seen = beside(distance, valid[None, :], dilation, before, after, DILATED, CAUSAL)
                weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale - log)
                weights = tl.where(seen, weights, 0.0)
                of_keys = 0
                if DROPOUT:
                    of_keys = tl.load(key_bits + others, mask=valid, other=0)[None, :]
                of_scores = _of_scores(
                    weights, grad, v, product, of_rows, of_keys, threshold, kept_scale, DROPOUT, PRECISION
                )
                sums = tl.dot(of_scores.to(k.dtype), k, sums, input_precision=PRECISION)
        query_grad += place * result_b + head * result_h + base * result_s
        store(query_grad, sums * scaling, first, dilation, exists, result_s, ROWS, HEAD_DIM, BLOCK_D)


@jit
def _add_of_keys(
    key_sums, value_sums, weights, q, grad, v, product, of_rows, of_keys, threshold, kept_scale, DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of rows more in the gradients of keys and values, both yet to be scaled; weights are `(keys, rows)`."""
    of_weights = tl.dot(v, tl.trans(grad), input_precision=PRECISION)
    kept_weights = weights
    if DROPOUT:
        kept = keeps(of_rows, of_keys, threshold)
        of_weights = tl.where(kept, of_weights, 0.0) * kept_scale
        kept_weights = tl.where(kept, weights, 0.0)
    value_sums = tl.dot(kept_weights.to(grad.dtype), grad, value_sums, input_precision=PRECISION)
    of_scores = weights * (of_weights - product[None, :])
    return tl.dot(of_scores.to(q.dtype), q, key_sums, input_precision=PRECISION), value_sums


@jit
def _backward_block_of_keys(
    key_sums, value_sums, k, v, t, of_keys, query, grad_output, lse, products, row_bits, u, phase, dilation, S, before,
    after, scale, threshold, kept_scale, query_s, grad_s, DROPOUT: tl.constexpr, PRECISION: tl.constexpr,
    WHOLE: tl.constexpr, SIZE: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The rows from the u-th on in the gradients of keys and values, yet to be scaled."""
    rows = u + tl.arange(0, SIZE)
    others = phase + rows * dilation
    there = others < S
    q = load(query, phase + u * dilation, dilation, there, query_s, SIZE, HEAD_DIM, BLOCK_D, WHOLE)
    grad = load(grad_output, phase + u * dilation, dilation, there, grad_s, SIZE, HEAD_DIM, BLOCK_D, WHOLE)
    log = numbers(lse, others, there, float("inf"), WHOLE)
    product = numbers(products, others, there, 0.0, WHOLE)
    weights = tl.exp2(tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale - log[None, :])
    if not WHOLE:
        weights = tl.where(in_window(rows[None, :] - t[:, None], before, after), weights, 0.0)
    of_rows = 0
    if DROPOUT:
        of_rows = numbers(row_bits, others, there, 0, WHOLE)[None, :]
    return _add_of_keys(
        key_sums, value_sums, weights, q, grad, v, product, of_rows, of_keys, threshold, kept_scale, DROPOUT, PRECISION
    )


@jit
def backward_keys(
    grad_output, query, key, value, lse, products, key_grad, value_grad, bounds, shown, dilations, row_bits,
    key_bits, grad_b, grad_h, grad_s, query_b, query_h, query_s, key_b, key_h, key_s, value_b, value_h, value_s,
    key_grad_b, key_grad_h, key_grad_s, value_grad_b, value_grad_h, value_grad_s, log_b, log_h, mask_b, blocks, S, H,
    before, after, scale, scaling, threshold, kept_scale, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    DILATED: tl.constexpr, HAS_BOUNDS: tl.constexpr, PACKED: tl.constexpr, HAS_SHOWN: tl.constexpr,
    DROPOUT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of keys and values, from the rows whose windows hold them."""
    pid, batch_head = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    place, head = (batch_head // H).to(tl.int64), batch_head % H
    base, S = text_of(S, bounds, place, PACKED)
    dilation, phase, start, low, high = place_of(
        pid, S, head, place, dilations, bounds, KEYS, DILATED, HAS_BOUNDS, PACKED
    )
    if (phase < dilation) & (start < S):
        query += place * query_b + head * query_h + base * query_s
        grad_output += place * grad_b + head * grad_h + base * grad_s
        of_text = place * log_b + head * log_h + base
        t, first = start + tl.arange(0, KEYS), phase + start * dilation
        tokens = phase + t * dilation
        exists = tokens < S
        inside = exists & (t >= low) & (t < high)
        if HAS_SHOWN:
            inside = inside & (tl.load(shown + place * mask_b + tokens, mask=inside, other=0) != 0)
        key += place * key_b + head * key_h + base * key_s
        value += place * value_b + head * value_h + base * value_s
        k = load(key, first, dilation, inside, key_s, KEYS, HEAD_DIM, BLOCK_D)
        v = load(value, first, dilation, inside, value_s, KEYS, HEAD_DIM, BLOCK_D)
        key_sums, value_sums = tl.zeros([KEYS, BLOCK_D], tl.float32), tl.zeros([KEYS, BLOCK_D], tl.float32)
        lse, products = lse + of_text, products + of_text
        of_keys = 0
        if DROPOUT:
            row_bits += of_text
            of_keys = tl.load(key_bits + of_text + tokens, mask=exists, other=0)[:, None]
        begin, end = visited(start, low, high, after, before, KEYS, ROWS)
        inner, outer = edges(begin, end, start, low, high, after, before, KEYS, ROWS, False)
        for u in range(inner, outer, ROWS):
            key_sums, value_sums = _backward_block_of_keys(
                key_sums, value_sums, k, v, t, of_keys, query, grad_output, lse, products, row_bits, u, phase, dilation,
                S, before, after, scale, threshold, kept_scale, query_s, grad_s, DROPOUT, PRECISION, True, ROWS,
                HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        for i in range(begin, end - (outer - inner), ROWS):
            u = i + tl.where(i >= inner, outer - inner, 0)
            key_sums, value_sums = _backward_block_of_keys(
                key_sums, value_sums, k, v, t, of_keys, query, grad_output, lse, products, row_bits, u, phase, dilation,
                S, before, after, scale, threshold, kept_scale, query_s, grad_s, DROPOUT, PRECISION, False, ROWS,
                HEAD_DIM, BLOCK_D,
            )  # fmt: skip
        key_sums = tl.where(inside[:, None], key_sums * scaling, 0.0)
        value_sums = tl.where(inside[:, None], value_sums * kept_scale, 0.0)
        key_grad += place * key_grad_b + head * key_grad_h + base * key_grad_s
        value_grad += place * value_grad_b + head * value_grad_h + base * value_grad_s
        store(key_grad, key_sums, first, dilation, exists, key_grad_s, KEYS, HEAD_DIM, BLOCK_D)
        store(value_grad, value_sums, first, dilation, exists, value_grad_s, KEYS, HEAD_DIM, BLOCK_D)


@jit
def backward_global(
    grad_output, query, key, value, lse, products, sums, bounds, global_index, global_valid, dilations, row_bits,
    key_bits, grad_b, grad_h, grad_s, query_b, query_h, query_s, key_b, key_h, key_s, value_b, value_h, value_s, log_b,
    log_h, mask_b, S, H, G, before, after, scale, scaling, threshold, kept_scale, HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr, GLOBALS: tl.constexpr, DILATED: tl.constexpr, CAUSAL: tl.constexpr, PACKED: tl.constexpr,
    DROPOUT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Gradients of global keys and values from some of the rows whose windows do not hold them: of keys and of values,
    `(2, parts, batch, heads, G, head_dim)`, to be added up over the parts.
    """
    batch_head, part, parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    place, head = (batch_head // H).to(tl.int64), batch_head % H
    base, S = text_of(S, bounds, place, PACKED)
    query += place * query_b + head * query_h + base * query_s
    grad_output += place * grad_b + head * grad_h + base * grad_s
    of_text = place * log_b + head * log_h + base
    dilation = 1
    if DILATED:
        dilation = tl.load(dilations + head)
    slot = tl.program_id(2) * GLOBALS
    key += place * key_b + head * key_h + base * key_s
    value += place * value_b + head * value_h + base * value_s
    tokens, valid, k, v = load_global(
        key, value, global_index, global_valid, place, G, slot, key_s, value_s, GLOBALS, HEAD_DIM, BLOCK_D
    )
    key_sums, value_sums = tl.zeros([GLOBALS, BLOCK_D], tl.float32), tl.zeros([GLOBALS, BLOCK_D], tl.float32)
    of_keys = 0
    if DROPOUT:
        of_keys = tl.load(key_bits + of_text + tokens, mask=valid, other=0)[:, None]
    for u in range(part * ROWS, S, parts * ROWS):
        rows = u + tl.arange(0, ROWS)
        there = rows < S
        q = load(query, u, 1, there, query_s, ROWS, HEAD_DIM, BLOCK_D)
        grad = load(grad_output, u, 1, there, grad_s, ROWS, HEAD_DIM, BLOCK_D)
        log = tl.load(lse + of_text + rows, mask=there, other=float("inf"))
        product = tl.load(products + of_text + rows, mask=there, other=0.0)
        distance = rows[None, :] - tokens[:, None]
        seen = beside(distance, valid[:, None], dilation, before, after, DILATED, CAUSAL)
        weights = tl.exp2(tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale - log[None, :])
        weights = tl.where(seen, weights, 0.0)
        of_rows = 0
        if DROPOUT:
            of_rows = tl.load(row_bits + of_text + rows, mask=there, other=0)[None, :]
        key_sums, value_sums = _add_of_keys(
            key_sums,
            value_sums,
            weights,
            q,
            grad,
            v,
            product,
            of_rows,
            of_keys,
            threshold,
            kept_scale,
            DROPOUT,
            PRECISION,
        )
    column, slots = tl.arange(0, BLOCK_D), slot + tl.arange(0, GLOBALS)
    mask = (slots < G)[:, None] & (column < HEAD_DIM)[None, :]
    programs = parts * tl.num_programs(0)
    row = (part * tl.num_programs(0) + batch_head).to(tl.int64) * G
    offsets = (row + slots)[:, None] * HEAD_DIM + column[None, :]
    tl.store(sums + offsets, key_sums * scaling, mask=mask)
    tl.store(sums + tl.cast(programs, tl.int64) * G * HEAD_DIM + offsets, value_sums * kept_scale, mask=mask)
