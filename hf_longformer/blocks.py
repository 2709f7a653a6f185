# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A sequence cut into blocks of rows and the keys that each of them sees: as tensors with a dimension of blocks, for
attention made of PyTorch's operators, and as a walk over views, for kernels that are called block by block.

Which keys those are, and whether a mask is needed, says the `Band` of the pattern.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad

from .operators import is_exporting
from .token_roles import GlobalTokens, TokenRoles
from .window_pattern import Band, WindowPattern

MIN_BLOCK, MAX_BLOCK = 64, 256  # rows


class Blocks:
    """How a sequence is cut into blocks of queries and windows of keys, for one dilation of one pattern.

    In the shapes here `n` is batch · dilation · number of blocks. A text shorter than the window is one block, whose
    window is the text.

    Args:
        length: Number of tokens S.
        pattern: Window and direction.
        dilation: One of its dilations: every d-th token is a sequence of its own, in which windows have no gaps.
        roles: Real and global tokens.
        for_weights: Asks for the plain geometry, in which every row of a window holds the whole band, both sides.
    """

    def __init__(
        self, length: int, pattern: WindowPattern, dilation: int, roles: TokenRoles, for_weights: bool = False
    ) -> None:
        self.length, self.pattern, self.dilation, self.band = length, pattern, dilation, pattern.band
        self.is_traced = torch.compiler.is_compiling()  # then one geometry serves all lengths
        self.sub_length = -(-length // dilation)  # tokens of a sequence without gaps
        if self.is_traced and dilation > 1:
            self.sub_length = _at_least_two(self.sub_length)
        self.is_whole = not self.is_traced and not for_weights and self.sub_length <= self.band.before + 1
        if self.is_whole:
            self.before = self.after = 0
            self.size = self.sub_length
        else:
            self.before = self.band.before
            self.after = self.before if for_weights else self.band.after
            self.size = min(max(self.before, MIN_BLOCK), MAX_BLOCK)
            self.size = self.size if self.is_traced else min(self.size, self.sub_length)
        self.count = -(-self.sub_length // self.size)
        if self.is_traced:
            self.count = _at_least_two(self.count)
        self.num_keys = self.size + self.before + self.after
        # Where one window without gaps is the whole text, the global tokens are in it.
        self.has_global_columns = roles.has_global and not (self.is_whole and dilation == 1)

    def queries(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, x)` to blocks `(n, heads, size, x)`."""
        tensor = self._fold(tensor)
        missing = self.count * self.size - self.sub_length
        if self.is_traced or missing:
            tensor = pad(tensor, (0, 0, 0, missing))
        return self._join(tensor.unflatten(2, (self.count, self.size)).transpose(1, 2))

    def keys(self, tensor: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
        """`(batch, heads, S, x)` to what every block sees, `(n, heads, G + num_keys, x)`: global keys, then window."""
        windows = self._windows(tensor)
        if self.has_global_columns:
            front = roles.global_tokens.gather(tensor)[:, None].expand(-1, self.dilation * self.count, -1, -1, -1)
            windows = torch.cat([self._join(front), windows], dim=2)
        return windows

    def rows(self, blocks: torch.Tensor) -> torch.Tensor:
        """Undoes `queries`."""
        tensor = blocks.unflatten(0, (-1, self.count)).transpose(1, 2).flatten(2, 3)
        if self.dilation > 1:
            tensor = self._first(tensor, self.sub_length).unflatten(0, (-1, self.dilation))
            tensor = tensor.permute(0, 2, 3, 1, 4).flatten(2, 3)
        return self._first(tensor, self.length)

    def _first(self, tensor: torch.Tensor, length: int) -> torch.Tensor:
        """`(n, heads, S, x)` without what was padded; a view, unless tracing would ask whether it is all there is."""
        if self.is_traced:
            return tensor.index_select(2, torch.arange(length, device=tensor.device))
        return tensor[:, :, :length]

    def mask(self, roles: TokenRoles, batch_size: int, device: torch.device) -> torch.Tensor | None:
        """Which of its keys every query of a block attends to, `(n, 1, size, G + num_keys)`, bool; None if all.

        Rows whose output is not used (padded, global, beyond the end) see everything: no row is empty, whose softmax
        some kernels cannot take.
        """
        if self.is_traced and not is_exporting():
            return self._make_mask(roles, batch_size, device)  # the compiler joins equal ones
        name = ("blocks", self.pattern, self.dilation, self.before, self.after, self.size, self.has_global_columns)
        return roles.derived(name, lambda: self._make_mask(roles, batch_size, device))

    def band_index(self, device: torch.device) -> torch.Tensor:
        """`(size, attention_window + 1)`: for every row of a block, which columns of its window are its band."""
        return torch.arange(self.size, device=device)[:, None] + torch.arange(2 * self.before + 1, device=device)

    def _make_mask(self, roles: TokenRoles, batch_size: int, device: torch.device) -> torch.Tensor | None:
        is_even = self.is_whole and self.band.is_even(0, self.size, 0, self.size)
        if is_even and not self.has_global_columns and roles.key_padding_mask is None and self.dilation == 1:
            return None
        real = roles.key_padding_mask
        if real is None:
            real = torch.ones(batch_size, self.length, dtype=torch.bool, device=device)
        not_global = real if roles.is_global is None else real & ~roles.is_global
        window = self._windows(_as_column(not_global if self.has_global_columns else real)).mT
        if not is_even:
            row = torch.arange(self.size, device=device)[:, None] + self.before
            window = window & self.band.sees(row - torch.arange(self.num_keys, device=device))
        if self.has_global_columns:
            front = self._global_columns(roles, batch_size, device)
            window = torch.cat([front, window.expand(-1, -1, self.size, -1)], dim=-1)
        return window | ~self.queries(_as_column(not_global))

    def _global_columns(self, roles: TokenRoles, batch_size: int, device: torch.device) -> torch.Tensor:
        """Which global keys the rows see, `(n, 1, size, G)`."""
        tokens: Any = roles.global_tokens
        seen = tokens.valid[:, None, None, None, :].expand(-1, self.dilation * self.count, -1, self.size, -1)
        seen = self._join(seen)
        if self.band.after:
            return seen
        position = torch.arange(self.length, device=device).expand(batch_size, -1)
        index = tokens.index.repeat_interleave(self.dilation * self.count, dim=0)
        return seen & (index[:, None, None, :] <= self.queries(_as_column(position)))

    def _fold(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, x)` to `(batch * dilation, heads, sub_length, x)`: every dilation-th token by itself."""
        if self.dilation == 1:
            return tensor
        tensor = pad(tensor, (0, 0, 0, self.sub_length * self.dilation - self.length))
        return self._join(tensor.unflatten(2, (self.sub_length, self.dilation)).permute(0, 3, 1, 2, 4))

    def _windows(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = self._fold(tensor)
        missing = self.count * self.size - self.sub_length
        if self.is_traced or self.before or self.after or missing:
            tensor = pad(tensor, (0, 0, self.before, self.after + missing))
        return self._join(tensor.unfold(2, self.num_keys, self.size).permute(0, 2, 1, 4, 3))

    def _join(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(a, b, …)` to `(a · b, …)`. A traced program goes by way of a single dimension: whether the two can be one
        without a copy depends on sizes, and asking would bind it to some of them.
        """
        if not self.is_traced:
            return tensor.flatten(0, 1)
        first, second, *others = tensor.shape
        return tensor.clone(memory_format=torch.contiguous_format).flatten().unflatten(0, (first * second, *others))


def _at_least_two(size: int) -> int:
    """A size of a traced program, which takes one of 1 for a constant."""
    return max(size, 2) if isinstance(size, int) else torch.sym_max(size, 2)


def _as_column(tensor: torch.Tensor) -> torch.Tensor:
    """`(batch, S)` to `(batch, 1, S, 1)`."""
    return tensor[:, None, :, None]


Index = tuple[slice, slice, slice]  # texts, heads and tokens
EVERYTHING: Index = (slice(None), slice(None), slice(None))
ROWS_PER_CHUNK = 1024  # rows that attend to the global tokens at a time


# What operators are told besides the projections, in the language of schemas.
TENSORS = {"key_padding_mask": "Tensor?", "is_global": "Tensor?", "global_index": "Tensor?", "global_valid": "Tensor?"}
NUMBERS = {"attention_window": "int", "dilations": "int[]", "is_causal": "bool", "scaling": "float"}


class Arguments(NamedTuple):
    """What an operator is told besides the projections: tensors and numbers, of which it makes pattern and roles again.

    Args:
        key_padding_mask: `(batch, S)`, bool, or None.
        is_global: `(batch, S)`, bool, or None.
        global_index, global_valid: `(batch, G)`, as in `GlobalTokens`, or None.
        attention_window, dilations, is_causal: As in `WindowPattern`.
        scaling: Factor on the scores.
    """

    key_padding_mask: torch.Tensor | None
    is_global: torch.Tensor | None
    global_index: torch.Tensor | None
    global_valid: torch.Tensor | None
    attention_window: int
    dilations: Sequence[int]
    is_causal: bool
    scaling: float

    @classmethod
    def of(cls, pattern: WindowPattern, roles: TokenRoles, scaling: float) -> "Arguments":
        """From pattern and roles."""
        tokens: Any = roles.global_tokens
        mask, index, valid = (None, None, None) if tokens is None else (tokens.mask, tokens.index, tokens.valid)
        dilations = list(pattern.dilations)
        return cls(
            roles.key_padding_mask, mask, index, valid, pattern.attention_window, dilations, pattern.is_causal, scaling
        )

    def walk(self, query: torch.Tensor, short: int) -> "BlockWalk":
        """The walk over blocks of these projections."""
        pattern = WindowPattern(self.attention_window, tuple(self.dilations), self.is_causal)
        return BlockWalk(query.shape, self[:4], pattern, short)


class BlockWalk:
    """A walk over blocks of rows on a CPU, and the additive masks between them and the keys that they see. Rows and
    keys are views of the projections: a dilated window is one without gaps on every d-th token.

    Args:
        shape: `(batch, heads, S, head_dim)` of the projections.
        masks: `key_padding_mask`, and `mask`, `index` and `valid` of the global tokens, or None.
        pattern: Window, dilation and direction.
        short: Rows. Two such blocks that see each other's ends are taken as one: it costs less than several with a part
            of the keys.
    """

    def __init__(
        self, shape: torch.Size, masks: tuple[torch.Tensor | None, ...], pattern: WindowPattern, short: int
    ) -> None:
        self.real, is_global, index, valid = masks
        tokens = None if index is None or valid is None or is_global is None else GlobalTokens(is_global, index, valid)
        self.pattern, self.heads, self.length, self.short = pattern.within(shape[2]), shape[1], shape[2], short
        w, band = self.pattern.one_sided_window, self.pattern.band
        is_plain = self.pattern.reach == w and not self.pattern.is_causal  # no gaps, and both sides
        self.is_one_block = is_plain and self.length <= short + min(w, short)
        roles = TokenRoles(self.real, tokens)
        self.unused = roles.not_in_windows  # `(batch, S)`: rows whose output nobody uses; None if there are none
        self.is_global = is_global
        # Global tokens that are attended to beside the windows: none where each window, or the one mask, shows them.
        self.separate = None if self.is_one_block or (is_plain and self.length <= w + 1) else tokens
        self.not_in_windows = TokenRoles(self.real, self.separate).not_in_windows
        self.band: Band = band

    @property
    def num_separate(self) -> int:
        """How many global tokens are attended to beside the windows."""
        return 0 if self.separate is None else self.separate.number

    def separate_of(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keys and values of these tokens; nothing if there are none."""
        return () if self.separate is None else tuple(self.separate.gather(tensor) for tensor in tensors)

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[Index, Index, torch.Tensor | None]]:
        """Blocks of rows, the columns of the keys that their windows cover, and the additive mask between the two."""
        if self.is_one_block:
            yield EVERYTHING, EVERYTHING, self._mask_of_one_block(dtype)
            return
        size, band = _rows_of_block(self.pattern.attention_window, dtype), self.band
        band_mask, shown, masked_before = _band_mask(dtype, band, size), None, [0] * (self.length + 1)
        if self.not_in_windows is not None:  # how many such keys stand in front of every token, in any text
            masked_before = [0, *self.not_in_windows.any(dim=0).cumsum(0).tolist()]
            shown = _additive(~self.not_in_windows, dtype)[:, None, None, :]
        for dilation, heads in self.pattern.head_runs(self.heads):
            for phase in range(min(dilation, self.length)):
                tokens = range(phase, self.length, dilation)
                for start in range(0, len(tokens), size):
                    stop = min(start + size, len(tokens))
                    first, last = band.visited(start, stop)
                    low, high = max(0, first), min(len(tokens), last)
                    rows, columns = _slice(tokens[start:stop]), _slice(tokens[low:high])
                    mask = None
                    if masked_before[columns.start] < masked_before[min(columns.stop, self.length)]:
                        mask = shown[..., columns]
                    if not band.is_even(start, stop, low, high):
                        of_band = band_mask[: stop - start, low - first : high - first]
                        mask = of_band if mask is None else mask + of_band
                    yield (slice(None), heads, rows), (slice(None), heads, columns), mask

    def row_chunks(self, dtype: torch.dtype) -> Iterator[tuple[Index, torch.Tensor]]:
        """Parts of the rows, of all heads, and the mask between them and the tokens beside the windows."""
        for start in range(0, self.length if self.num_separate else 0, ROWS_PER_CHUNK):
            rows = slice(start, min(start + ROWS_PER_CHUNK, self.length), 1)
            yield (slice(None), slice(None), rows), self.separate_mask(rows, dtype)

    def separate_mask(self, rows: slice, dtype: torch.dtype) -> torch.Tensor:
        """The additive mask `(batch, 1, 1 or rows, G)` between rows and the tokens beside the windows."""
        tokens: Any = self.separate
        allowed = tokens.valid[:, None, None, :]
        if self.pattern.is_causal:
            position = torch.arange(rows.start, rows.stop, rows.step, device="cpu")
            allowed = allowed & (tokens.index[:, None, None, :] <= position[:, None])
        return _additive(allowed, dtype)

    def _mask_of_one_block(self, dtype: torch.dtype) -> torch.Tensor | None:
        """`(batch or 1, 1, S or 1, S)`, of window, global keys and padding; None if all see all."""
        length, mask = self.length, None
        if not self.band.is_even(0, length, 0, length):
            first, _ = self.band.visited(0, length)
            mask = _band_mask(dtype, self.band, 2 * self.short)[None, None, :length, -first : length - first]
            if self.is_global is not None:
                is_same = bool((self.is_global == self.is_global[:1]).all())
                mask = mask.masked_fill(self.is_global[: 1 if is_same else None, None, None, :], 0.0)
        if self.real is None:
            return mask
        not_in_windows = _additive(self.real, dtype)[:, None, None, :]
        return not_in_windows if mask is None else mask + not_in_windows


def _rows_of_block(attention_window: int, dtype: torch.dtype) -> int:
    """Rows that are computed at a time: the more of them, the longer the products, and the more keys that only some of
    them see. Measured for windows of 64 to 2,048 tokens.
    """
    if dtype == torch.float32:
        return MIN_BLOCK if attention_window <= 1024 else MAX_BLOCK
    return min(max(attention_window // 4 // MIN_BLOCK * MIN_BLOCK, MIN_BLOCK), MAX_BLOCK)


def _slice(tokens: range) -> slice:
    return slice(tokens.start, tokens.stop, tokens.step)


@lru_cache(maxsize=16)
def _band_mask(dtype: torch.dtype, band: Band, size: int) -> torch.Tensor:
    """The additive mask between `size` rows and all keys that they visit; blocks at the ends of a text take a part."""
    first, last = band.visited(0, size)
    distance = torch.arange(size, device="cpu")[:, None] - torch.arange(first, last, device="cpu")
    return _additive(band.sees(distance), dtype)


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device="cpu").masked_fill_(~allowed, float("-inf"))
