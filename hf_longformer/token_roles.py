# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Which tokens are real and which are global, worked out once per forward pass for all layers: a small type per way in
which a batch may be laid out.

* `TokenRoles`: a batch `(batch, S)`, with or without padding and global tokens;
* `PackedTexts`: its texts one after the other in one row, which kernels take apart;
* `SeparateTexts`: the same row, taken apart into texts that are attended to one by one;
* `SlicedTexts`: one slice of every text, whose neighbours are elsewhere.
"""

from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch.nn.functional import pad

Derived = TypeVar("Derived")


@dataclass
class GlobalTokens:
    """Where the global tokens of a batch stand.

    Args:
        mask: `(batch, S)`, bool.
        index: `(batch, G)`, their positions in order; texts with fewer than G are filled up with other positions.
        valid: `(batch, G)`, bool, which entries of `index` count.
        flat_index: `(batch * G,)`, where they stand among all `batch * S` tokens; None where nobody asks for it.
        has_static_count: Whether G is a number; otherwise it is one only when a traced program runs.
        is_even: Whether every text is known to have G: all of `valid` is True then.
    """

    mask: torch.Tensor
    index: torch.Tensor
    valid: torch.Tensor
    flat_index: torch.Tensor | None = None
    has_static_count: bool = True
    is_even: bool = False

    @classmethod
    def from_mask(
        cls, mask: torch.Tensor, number: int, has_static_count: bool = True, is_even: bool = False
    ) -> "GlobalTokens":
        """From a `(batch, S)` bool mask; `number` is the largest number of global tokens in a text."""
        batch, length = mask.shape
        padded = mask if has_static_count else pad(mask, (0, 1))  # then two are looked for, even in a single token
        order = padded * length - torch.arange(padded.shape[1], device=mask.device)
        # Global tokens in their order, then others in theirs: a stable sort, which exporters to ONNX do not know.
        index = torch.topk(order, number, dim=1).indices.clamp(max=length - 1)
        slots = torch.arange(number, device=mask.device)
        valid = slots[None, :] < mask.sum(dim=1, keepdim=True)
        first = torch.arange(batch, device=mask.device) * length
        return cls(mask, index, valid, (first[:, None] + index).flatten(), has_static_count, is_even)

    @property
    def number(self) -> int:
        """G, the largest number of global tokens in a text."""
        return self.index.shape[1]

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, n)` to `(batch, heads, G, n)`: what stands at the global positions."""
        index = self.index[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[-1])
        return tensor.gather(2, index)

    def to(self, *args: Any, **kwargs: Any) -> "GlobalTokens":
        """The same on another device."""
        mask, index, valid = (x.to(*args, **kwargs) for x in (self.mask, self.index, self.valid))
        flat_index = None if self.flat_index is None else self.flat_index.to(*args, **kwargs)
        return GlobalTokens(mask, index, valid, flat_index, self.has_static_count, self.is_even)


@dataclass
class _Remembers:
    _derived: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    def derived(self, name: Hashable, make: Callable[[], Derived]) -> Derived:
        """What `make()` gives, made once: layers of a forward pass share what is worked out of roles, and buffers."""
        if name not in self._derived:
            is_inference = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
            with torch.inference_mode(False) if is_inference else nullcontext():  # training may follow
                self._derived[name] = make()
        return self._derived[name]


@dataclass
class TokenRoles(_Remembers):
    """The roles of a batch `(batch, S)`.

    Args:
        key_padding_mask: `(batch, S)`, bool, True for real tokens; None if all are real.
        global_tokens: None if no token is global.
        is_contiguous: Whether padding is known to stand at the ends of texts only.
    """

    key_padding_mask: torch.Tensor | None = None
    global_tokens: GlobalTokens | None = None
    is_contiguous: bool = False

    @classmethod
    def from_masks(
        cls,
        key_padding_mask: torch.Tensor | None,
        is_global: torch.Tensor | None,
        num_global: int,
        has_static_count: bool = True,
        is_contiguous: bool = False,
        is_even: bool = False,
    ) -> "TokenRoles":
        """Roles from two `(batch, S)` bool masks; `num_global` is the largest number of global tokens in a text, and of
        all texts if `is_even`.
        """
        tokens = None
        if is_global is not None and (num_global or not has_static_count):
            tokens = GlobalTokens.from_mask(is_global, num_global, has_static_count, is_even)
        return cls(key_padding_mask, tokens, is_contiguous)

    def forgetful(self) -> "TokenRoles":
        """The same for a program that is traced: what it works out of them is not kept in these."""
        known = {} if torch.compiler.is_compiling() else dict(self._derived)
        return TokenRoles(self.key_padding_mask, self.global_tokens, self.is_contiguous, _derived=known)

    @property
    def has_global(self) -> bool:
        """Whether there are, or in a traced program may be, global tokens."""
        return self.global_tokens is not None

    @property
    def num_global(self) -> int:
        """G, the largest number of global tokens in a text."""
        return 0 if self.global_tokens is None else self.global_tokens.number

    @property
    def is_global(self) -> torch.Tensor | None:
        """`(batch, S)`, bool; None if no token is global."""
        return None if self.global_tokens is None else self.global_tokens.mask

    @property
    def unused(self) -> torch.Tensor | None:
        """`(batch, S)`, bool: tokens whose local rows must be 0, as padding or because the rows of global tokens are
        added there; those replace them where every text has as many. None if there are none.
        """
        if self.global_tokens is not None and self.global_tokens.is_even:
            return None if self.key_padding_mask is None else ~self.key_padding_mask
        return self.not_in_windows

    @property
    def not_in_windows(self) -> torch.Tensor | None:
        """`(batch, S)`, bool: tokens that windows do not show, as padding or because all rows see them as global ones.
        None if there are none. Their own local rows are not used.
        """
        if self.key_padding_mask is None:
            return self.is_global
        return ~self.key_padding_mask if self.is_global is None else ~self.key_padding_mask | self.is_global

    def to(self, *args: Any, **kwargs: Any) -> "TokenRoles":
        """The roles on another device; lets libraries that spread layers over devices move them."""
        padding = None if self.key_padding_mask is None else self.key_padding_mask.to(*args, **kwargs)
        tokens = None if self.global_tokens is None else self.global_tokens.to(*args, **kwargs)
        return TokenRoles(padding, tokens, self.is_contiguous)


@dataclass
class SeparateTexts(_Remembers):
    """Texts that stand one after the other in one row, each of which is attended to by itself.

    Args:
        texts: The roles of every text, `(1, length)`.
        lengths: Their numbers of tokens.
    """

    texts: tuple[TokenRoles, ...]
    lengths: tuple[int, ...]

    def to(self, *args: Any, **kwargs: Any) -> "SeparateTexts":
        """The same on another device."""
        return SeparateTexts(tuple(text.to(*args, **kwargs) for text in self.texts), self.lengths)


@dataclass(kw_only=True)
class PackedTexts(TokenRoles):
    """The roles of the one row `(1, T)` in which the T real tokens of a batch stand, text after text.

    Args:
        batch: The roles of the batch, with its padding.
        index: `(T,)`, where the tokens of the row stand among all `batch * S`.
        first: `(batch, 1)`, where every text begins in the batch.
        bounds: `(batch, 2)`, int32, where it begins and ends in the row.
        longest: Tokens of the longest text.
    """

    batch: TokenRoles
    index: torch.Tensor
    first: torch.Tensor
    bounds: torch.Tensor
    longest: int

    def pad(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(1, T, n)` to `(batch, S, n)`, with 0 for padding."""
        shape = self.batch.key_padding_mask.shape
        padded = tensor.new_zeros(shape.numel(), tensor.shape[-1])
        return padded.index_copy(0, self.index, tensor[0]).unflatten(0, shape)

    def to(self, *args: Any, **kwargs: Any) -> "PackedTexts":
        """The same on another device."""
        row, batch = super().to(*args, **kwargs), self.batch.to(*args, **kwargs)
        index, first, bounds = (x.to(*args, **kwargs) for x in (self.index, self.first, self.bounds))
        return PackedTexts(
            global_tokens=row.global_tokens,
            is_contiguous=self.is_contiguous,
            batch=batch,
            index=index,
            first=first,
            bounds=bounds,
            longest=self.longest,
        )


@dataclass(kw_only=True)
class SlicedTexts(_Remembers):
    """The roles of one slice of a batch: the tokens `start … stop - 1` of every text.

    Args:
        texts: The roles of the whole texts, `(batch, S)`.
        length: S.
        start: Where the slice begins.
        stop: What follows it.
        exchange: What brings the states of other slices here, in a model; see `context_parallel.py`.
    """

    texts: TokenRoles
    length: int
    start: int
    stop: int
    exchange: Any = None


def text_bounds(real: torch.Tensor) -> torch.Tensor:
    """`(batch, S)`, bool, to `(batch, 2)`: the first real token of every text, and what follows the last one."""
    last = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(dim=1)
    return torch.stack([torch.where(last > 0, real.int().argmax(dim=1), 0), last], dim=1)


def pack(roles: TokenRoles, padded: int, longest: int) -> PackedTexts:
    """The roles of a batch whose texts stand one after the other in one row.

    Args:
        roles: Of the batch, whose padding stands at the ends of texts.
        padded: Padded tokens in all.
        longest: Tokens of the longest text.
    """
    real: Any = roles.key_padding_mask
    index = torch.argsort(~real.flatten(), stable=True)[: real.numel() - padded]
    first, last = text_bounds(real).split(1, dim=1)
    ends = (last - first).cumsum(0)
    bounds = torch.cat([ends - last + first, ends], dim=1).int()
    return PackedTexts(
        global_tokens=_globals_of_row(roles.global_tokens, index, first, bounds),
        is_contiguous=True,
        batch=roles,
        index=index,
        first=first,
        bounds=bounds,
        longest=longest,
    )


def _globals_of_row(
    tokens: GlobalTokens | None, index: torch.Tensor, first: torch.Tensor, bounds: torch.Tensor
) -> GlobalTokens | None:
    """Where a text has fewer global tokens than others, a place stands for nothing."""
    if tokens is None:
        return None
    in_row = (tokens.index - first + bounds[:, :1]).clamp(0, len(index) - 1).flatten()
    mask, valid = tokens.mask.flatten()[index][None], tokens.valid.flatten()[None]
    return GlobalTokens(mask, in_row[None], valid, in_row, is_even=tokens.is_even)
