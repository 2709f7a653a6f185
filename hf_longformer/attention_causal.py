# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal local rows by explicit weights of small blocks: behind keys that are kept from before, and with relative
positions. Plain PyTorch, any device, O(rows · attention_window).
"""

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from .operators import is_transformed, sum_dtype
from .window_pattern import Band

BLOCK = 128  # rows


def causal_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    one_sided_window: int,
    dilation: int = 1,
    not_in_windows: torch.Tensor | None = None,
    global_keys: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
    relative: tuple[torch.Tensor, torch.Tensor] | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """The rows of the last R of K tokens, each over itself and what its window shows before it.

    Args:
        query: `(batch, heads, R, head_dim)`, of heads with one dilation.
        key: `(batch, heads, K, head_dim)`, the tokens before the rows and the rows' own.
        value: The same shape.
        one_sided_window: Keys seen before a token.
        dilation: Distance between neighbouring keys.
        not_in_windows: `(batch, K)`, bool, tokens that windows do not show: padding, and global ones. Their rows are 0.
        global_keys: Keys and values `(batch, heads, G, head_dim)` of global tokens before all rows, and `(batch, G)`,
            bool, which of them count.
        relative: For positions in the manner of Transformer-XL: queries `(batch, heads, R, head_dim)` for distances,
            and what stands for the distances `0, d, …, w·d`, `(heads, w + 1, head_dim)`. Their products are added to
            the scores.
        dropout: Probability of dropping a weight.

    Returns:
        `(batch, heads, R, head_dim)`.
    """
    length, offset, band = key.shape[2], key.shape[2] - query.shape[2], Band(one_sided_window, 0)
    parts: list[torch.Tensor] = []
    order: list[int] = []
    for phase in range(min(dilation, length)):
        tokens = range(phase, length, dilation)
        for start in range(max(0, -(-(offset - phase) // dilation)), len(tokens), BLOCK):
            stop = min(start + BLOCK, len(tokens))
            low = max(0, band.visited(start, stop)[0])
            rows = slice(tokens[start] - offset, tokens[stop - 1] - offset + 1, dilation)
            columns = slice(tokens[low], tokens[stop - 1] + 1, dilation)
            arguments = (
                *(query[:, :, rows], key[:, :, columns], value[:, :, columns]),
                None if not_in_windows is None else not_in_windows[:, columns],
                global_keys,
                None if relative is None else (relative[0][:, :, rows], relative[1]),
                *(start - low, band, dropout),
            )
            if torch.is_grad_enabled() and query.requires_grad and not is_transformed():  # weights are not kept
                options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": dropout > 0.0}
                parts.append(checkpoint(_block, *arguments, **options))
            else:
                parts.append(_block(*arguments))
            order += range(rows.start, rows.stop, dilation)
    together = torch.cat(parts, dim=2)
    return together if dilation == 1 else together[:, :, torch.tensor(order, device=query.device).argsort()]


def _block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    not_in_windows: torch.Tensor | None,
    global_keys: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
    relative: tuple[torch.Tensor, torch.Tensor] | None,
    before: int,
    band: Band,
    dropout: float,
) -> torch.Tensor:
    """Rows of one block, whose first row is column `before`."""
    query, scaling = query * query.shape[-1] ** -0.5, query.shape[-1] ** -0.5
    rows, columns = query.shape[2], key.shape[2]
    scores = query @ key.mT
    if relative is not None:
        scores = scores + _by_column((relative[0] * scaling) @ relative[1].mT, before, columns)
    distance = torch.arange(rows, device=query.device)[:, None] + before - torch.arange(columns, device=query.device)
    allowed = band.sees(distance)[None, None]
    unused = None
    if not_in_windows is not None:
        unused = not_in_windows[:, before:]
        # Such rows see themselves, so that no softmax is empty, and are not used.
        allowed = allowed & ~not_in_windows[:, None, None] | (distance == 0)
    scores = scores.to(sum_dtype(query)).masked_fill(~allowed, -torch.inf)
    if global_keys is not None:
        keys, values, valid = global_keys
        of_global = (query @ keys.mT).to(sum_dtype(query)).masked_fill(~valid[:, None, None], -torch.inf)
        scores, value = torch.cat([of_global, scores], dim=-1), torch.cat([values, value], dim=2)
    weights = scores.softmax(dim=-1).to(value.dtype)
    if dropout > 0.0:
        weights = torch.dropout(weights, dropout, train=True)
    output = weights @ value
    return output if unused is None else output.masked_fill(unused[:, None, :, None], 0.0)


def _by_column(scores: torch.Tensor, before: int, columns: int) -> torch.Tensor:
    """Scores by distance, `(…, rows, w + 1)`, to scores by column `(…, rows, columns)`; 0 outside the window.

    Row i with distance m stands in column `before + i - m`: row by row one column further, which is a view of the rows
    with as many zeros behind each as there are rows.
    """
    rows, width = scores.shape[-2:]
    padded = torch.nn.functional.pad(scores.flip(-1), (0, rows)).flatten(-2)
    shifted = padded[..., : rows * (width + rows - 1)].unflatten(-1, (rows, width + rows - 1))
    return shifted[..., width - 1 - before : width - 1 - before + columns]


__all__ = ["causal_rows"]
