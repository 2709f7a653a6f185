# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Who computes the local rows: a table of implementations, each with the reason why it cannot, if it cannot.

`attn_implementation="sdpa"` takes the first that can; the name of one of them asks for that one, which is refused with
its reason if it cannot be had. `"eager"`, the definition, stands outside: it can always be had.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from .attention_blocked import KNOWN as KNOWN_TO_BLOCKS, local_rows as local_rows_by_blocks
from .attention_cpu import KNOWN as KNOWN_ON_CPU, local_rows as local_rows_on_cpu
from .attention_flex import (
    KNOWN as KNOWN_TO_FLEX,
    local_rows as local_rows_by_flex,
    local_rows_by_flash,
    why_not as why_not_flex,
    why_not_flash,
)
from .attention_triton import KNOWN as KNOWN_TO_TRITON, local_rows as local_rows_by_triton, why_not as why_not_triton
from .kernel_proof import why_not_proven
from .operators import is_exporting, is_transformed
from .token_roles import PackedTexts, TokenRoles
from .transformers_internals import is_tracing
from .window_pattern import WindowPattern

OF_OPERATORS = "is an operator of its own, which exported programs and transforms of torch.func do not take"


class Implementation(NamedTuple):
    """One way to compute the local rows.

    Args:
        local_rows: From query, key and value, with `pattern`, `roles`, `dropout` and `scaling`.
        why_not: What is in the way, from the query and the same settings, so that the name of the implementation and
            this are a sentence; None if it can be had. While a program is compiled it runs inside of that.
        known: What of a pattern a subclass may replace, so that this still computes it.
    """

    local_rows: Callable[..., torch.Tensor]
    why_not: Callable[..., str | None]
    known: tuple[str, ...]


def _why_not_triton(query: torch.Tensor, *, scaling: float | None = None, **_: object) -> str | None:
    projections = query.device, query.dtype, query.shape[-1]
    if reason := why_not_triton(*projections):  # first, for it costs least
        return reason
    if not _takes_operators(query):
        return OF_OPERATORS
    if scaling is not None and scaling <= 0.0:
        return "needs a scaling above 0"
    return why_not_proven(*projections)


def _why_not_cpu(query: torch.Tensor, *, roles: TokenRoles, **_: object) -> str | None:
    if query.device.type != "cpu":
        return "needs tensors on a CPU"
    return _why_not_packed(roles) if _takes_operators(query) else OF_OPERATORS


def _why_not_blocked(query: torch.Tensor, *, roles: TokenRoles, **_: object) -> str | None:
    return _why_not_packed(roles)


def _why_not_flex(query: torch.Tensor, *, roles: TokenRoles, dropout: float = 0.0, **_: object) -> str | None:
    return why_not_flex(query.device, dropout) or _why_not_packed(roles)


def _why_not_flash(
    query: torch.Tensor, *, pattern: WindowPattern, roles: TokenRoles, dropout: float = 0.0, **_: object
) -> str | None:
    return why_not_flash(query, pattern=pattern, roles=roles, dropout=dropout) or _why_not_packed(roles)


def _why_not_packed(roles: TokenRoles) -> str | None:
    return "takes texts with their padding, or one by one" if isinstance(roles, PackedTexts) else None


IMPLEMENTATIONS = {  # in order of preference
    "triton": Implementation(local_rows_by_triton, _why_not_triton, KNOWN_TO_TRITON),
    "cpu": Implementation(local_rows_on_cpu, _why_not_cpu, KNOWN_ON_CPU),
    "blocked": Implementation(local_rows_by_blocks, _why_not_blocked, KNOWN_TO_BLOCKS),
    "flex_attention": Implementation(local_rows_by_flex, _why_not_flex, KNOWN_TO_FLEX),
    "flex_attention_flash": Implementation(local_rows_by_flash, _why_not_flash, KNOWN_TO_FLEX),
}
CHOSEN_BY_ITSELF = ("triton", "cpu", "blocked")
NAMES = ("eager", "sdpa", *IMPLEMENTATIONS)  # of `attn_implementation`


def local_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    attn_implementation: str | None,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Output `(batch, heads, S, head_dim)` of the rows that are not global; padded rows are 0, and so are global ones
    unless every text has as many: then their rows replace what stands there.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`.
        attn_implementation: `"sdpa"` or None, or a name of `IMPLEMENTATIONS`.
        pattern: Window, dilation and direction.
        roles: Real and global tokens.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.

    Raises:
        NotImplementedError: If an implementation is asked for by its name and cannot be had.
    """
    chosen = choose(query, attn_implementation, pattern, roles, dropout, scaling)
    return chosen.local_rows(query, key, value, pattern=pattern, roles=roles, dropout=dropout, scaling=scaling)


def choose_once(
    query: torch.Tensor, attn_implementation: str | None, pattern: WindowPattern, roles: TokenRoles, dropout: float
) -> Implementation:
    """`choose` for the layers of one forward pass, to which `roles` belong: the first one's choice is that of all that
    are as it is. It is not kept where somebody wants to know what each looks at; while a program is traced or
    transformed, for `roles` may be older or younger than that; and for patterns of somebody's own.
    """
    is_usual = type(query) is torch.Tensor and type(pattern) is WindowPattern and _choices is None
    if torch.compiler.is_compiling() or not is_usual or torch.jit.is_tracing() or is_transformed():
        return choose(query, attn_implementation, pattern, roles, dropout)
    name = ("implementation", attn_implementation, pattern, query.dtype, query.device, query.shape[-1], dropout)
    return roles.derived(name, lambda: choose(query, attn_implementation, pattern, roles, dropout))


def choose(
    query: torch.Tensor,
    attn_implementation: str | None,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float,
    scaling: float | None = None,
) -> Implementation:
    """Who computes the local rows: arguments are those of `local_rows`, and so is what is raised."""
    is_free = attn_implementation in ("sdpa", None)
    names = CHOSEN_BY_ITSELF if is_free else (str(attn_implementation),)
    own = set(pattern.overridden())
    able = [name for name in names if own.issubset(IMPLEMENTATIONS[name].known)]
    if not able:
        pattern.require_window(IMPLEMENTATIONS[names[-1]].known)
    for name in able:
        chosen = IMPLEMENTATIONS[name]
        reason = chosen.why_not(query, pattern=pattern, roles=roles, dropout=dropout, scaling=scaling)
        note(name, reason)
        if reason is None:
            return chosen
    if is_free:
        raise RuntimeError(
            f"a batch without its padding needs kernels for {query.dtype} on {query.device}, and there are none: let "
            "layers compute in the dtype of the model, or of autocast"
        )
    raise NotImplementedError(f'attn_implementation="{attn_implementation}" {reason}')


def has_kernels(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether there are kernels for such projections, and they work."""
    return (why_not_triton(device, dtype, head_dim) or why_not_proven(device, dtype, head_dim)) is None


def _takes_operators(query: torch.Tensor) -> bool:
    """Whether this runs now, or is compiled or captured for later: all but programs of PyTorch's own operators, and
    what `torch.func` transforms.
    """
    if is_transformed():
        return False
    if torch.compiler.is_compiling():
        return not is_exporting()
    return not is_tracing(query) or (query.device.type == "cuda" and torch.cuda.is_current_stream_capturing())


_choices: list[tuple[str, str | None]] | None = None


def note(name: str, reason: str | None = None) -> None:
    """Notes that an implementation is taken, or why it is not, if somebody wants to know."""
    if _choices is not None:
        _choices.append((name, reason))


@contextmanager
def recorded_choices() -> Iterator[list[tuple[str, str | None]]]:
    """Inside, every implementation that is looked at is noted, with the reason why it was not taken, or None."""
    global _choices
    _choices = choices = list[tuple[str, str | None]]()
    try:
        yield choices
    finally:
        _choices = None


__all__ = ["IMPLEMENTATIONS", "NAMES", "choose_once", "has_kernels", "local_rows", "note", "recorded_choices"]
