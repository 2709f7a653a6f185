# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What attends to what: the sliding window of Longformer as a predicate, a dense mask, a drawing, and as the band that
blocks of queries and keys have in common.

Source: Beltagy, Peters, Cohan, "Longformer: The Long-Document Transformer" (arXiv 2004.05150), section 3.1 and
figure 2. Start reading here, then `attention_reference.py`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

# Members that say which keys a token sees: a subclass that has others of them is another pattern.
SEMANTICS = (
    "allows",
    "holds",
    "band",
    "dense_mask",
    "one_sided_window",
    "dilations",
    "dilation_of",
    "head_runs",
    "reach",
)
OF_LOCAL_ROWS = ("allows",)  # of these, what global rows do not depend on


@dataclass(frozen=True)
class Band:
    """Which keys a row sees in a sequence where its window has no gaps: row `i` sees the keys `i - before … i + after`.
    Every d-th token of a text is such a sequence for dilation d. Implementations that cut it into blocks ask here.

    Args:
        before: Keys on the left, an int, or a tensor with one per head.
        after: Keys on the right.
    """

    before: Any
    after: Any

    def times(self, dilation: Any) -> "Band":
        """What dilated windows span in the text itself, gaps included."""
        return Band(self.before * dilation, self.after * dilation)

    def sees(self, distance: Any) -> Any:
        """Whether a row sees the key `distance` tokens before it (below 0: behind it): ints or tensors, as below."""
        return (distance <= self.before) & (distance >= -self.after)

    def visited(self, start: Any, stop: Any) -> tuple[Any, Any]:
        """Which keys the rows `start … stop - 1` look at, from the first to before the last; they may lie outside of
        the text.
        """
        return start - self.before, stop + self.after

    def is_even(self, start: Any, stop: Any, first: Any, last: Any) -> Any:
        """Whether all rows `start … stop - 1` see all keys `first … last - 1`: then no mask is needed."""
        return (stop - 1 - first <= self.before) & (last - 1 - start <= self.after)


@dataclass(frozen=True)
class WindowPattern:
    """The window of one attention layer.

    A token at position `i` with one-sided window `w = attention_window // 2` and dilation `d` sees the keys
    `{i + d * k : |k| <= w}` that lie inside the text: `attention_window + 1` keys, itself included, the farthest
    `w * d` positions away. The causal form keeps those with `j <= i`.

    With `w = 2`, `d = 1` (left) and `d = 2` (right), rows are queries and columns are keys:

        1 1 1 0 0 0 0        1 0 1 0 1 0 0
        1 1 1 1 0 0 0        0 1 0 1 0 1 0
        1 1 1 1 1 0 0        1 0 1 0 1 0 1
        0 1 1 1 1 1 0        0 1 0 1 0 1 0
        0 0 1 1 1 1 1        1 0 1 0 1 0 1
        0 0 0 1 1 1 1        0 1 0 1 0 1 0
        0 0 0 0 1 1 1        0 0 1 0 1 0 1

    Args:
        attention_window: Total width in tokens, both sides together: an even number of at least 2.
        attention_dilation: Distance between neighbouring keys, 1 = no gaps. One number for all heads, or a sequence
            with one number per head.
        is_causal: Whether a token sees only itself and what comes before it.

    A subclass with another `allows` is another pattern. It is asked for positions in the row, padding included, on ints
    and tensors, and for every head. What it holds besides must be fields of a dataclass.

    Raises:
        ValueError: If the window is odd or not positive, or a dilation is smaller than 1.
    """

    attention_window: int
    attention_dilation: int | tuple[int, ...] = 1
    is_causal: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.attention_dilation, int):
            object.__setattr__(self, "attention_dilation", tuple(self.attention_dilation))
        if self.attention_window < 2 or self.attention_window % 2:
            raise ValueError(
                "attention_window must be an even number of at least 2 (total width, both sides together), "
                f"got {self.attention_window}"
            )
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(
                f"attention_dilation must be at least 1 for every head (1 = no gaps), got {self.attention_dilation}"
            )

    @property
    def one_sided_window(self) -> int:
        """Keys seen on each side of a token."""
        return self.attention_window // 2

    @property
    def band(self) -> Band:
        """The window where it has no gaps."""
        return Band(self.one_sided_window, 0 if self.is_causal else self.one_sided_window)

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of every head, or the one dilation that all heads share."""
        return (self.attention_dilation,) if isinstance(self.attention_dilation, int) else self.attention_dilation

    @property
    def reach(self) -> int:
        """Farthest attended distance, in tokens, over all heads."""
        return self.one_sided_window * max(self.dilations)

    def dilation_of(self, head: Any) -> Any:
        """The dilation of one head, which is a tensor where FlexAttention asks."""
        if len(set(self.dilations)) == 1:
            return self.dilations[0]
        if isinstance(head, torch.Tensor):
            return sum((head == number) * dilation for number, dilation in enumerate(self.dilations))
        return self.dilations[head]

    def overridden(self) -> list[str]:
        """Which of the members that say what is seen a subclass has replaced; none for the window of Longformer.

        Raises:
            ValueError: If such an object has state that is no field: it would be lost when a window is cut to the text,
                and two patterns that differ in it would be held for equal.
        """
        kind = type(self)
        if kind is WindowPattern:
            return []
        if state := vars(self).keys() - {field.name for field in fields(self)}:
            raise ValueError(
                f"what a pattern holds must be fields of a dataclass, got {', '.join(sorted(state))} in "
                f"{kind.__name__}: write @dataclass(frozen=True) above the class, and name them in it"
            )
        return [name for name in SEMANTICS if getattr(kind, name) is not getattr(WindowPattern, name)]

    def require_window(self, except_for: Collection[str] = ()) -> None:
        """Raises `NotImplementedError` if a subclass has another `allows`, or anything else that says which keys are
        seen, where an implementation computes windows only.

        Args:
            except_for: Members that a subclass may replace all the same.
        """
        if others := [name for name in self.overridden() if name not in except_for]:
            raise NotImplementedError(
                f"this implementation computes windows only, got {type(self).__name__} with {', '.join(others)} of its "
                'own: take attn_implementation="eager" without output_attentions, or attention_reference; or, on a GPU '
                'and if it replaces `allows` alone, "flex_attention"'
            )

    def require_global_rows(self) -> None:
        """The same for global rows, which see every key, or every one before them: which keys other rows see does not
        matter to them.
        """
        self.require_window(OF_LOCAL_ROWS)

    def within(self, length: int) -> "WindowPattern":
        """A pattern that is the same for texts of so many tokens, and whose window is hardly wider than they are."""
        self.overridden()
        widest = 2 << max(0, length - 1).bit_length()
        return self if self.attention_window <= widest else replace(self, attention_window=widest)

    def head_runs(self, num_heads: int) -> list[tuple[int, slice]]:
        """Runs of neighbouring heads with one dilation: that, and which heads."""
        if len(set(self.dilations)) == 1:
            return [(self.dilations[0], slice(0, num_heads))]
        dilations = self.dilations
        starts = [head for head in range(num_heads) if head == 0 or dilations[head] != dilations[head - 1]]
        ends = [*starts[1:], num_heads]
        return [(dilations[start], slice(start, end)) for start, end in zip(starts, ends, strict=True)]

    def check_num_heads(self, num_heads: int) -> None:
        """Raises `ValueError` if the dilations are given per head and there is not one for each of `num_heads`."""
        if len(self.dilations) not in (1, num_heads):
            raise ValueError(
                f"attention_dilation must be one number or one per head ({num_heads} heads), "
                f"got {len(self.dilations)}: {self.attention_dilation}"
            )

    def allows(self, query_position: Any, key_position: Any, head: Any = 0) -> Any:
        """Whether the window of a query position holds a key position: the definition, on ints or on tensors."""
        return self.holds(query_position - key_position, self.dilation_of(head))

    def holds(self, distance: Any, dilation: Any) -> Any:
        """Whether a window of such a dilation holds the key that stands so many tokens before its row."""
        return self.band.times(dilation).sees(distance) & (distance % dilation == 0)

    def dense_mask(
        self,
        length: int,
        is_global: torch.Tensor | None = None,
        key_padding_mask: torch.Tensor | None = None,
        device: torch.device | str | None = None,
        num_heads: int = 1,
    ) -> torch.Tensor:
        """Which keys every row attends to, window and global attention together. O(length²): for small texts, the
        reference and pictures.

        Args:
            length: Number of tokens S.
            is_global: `(batch, S)`, bool, the global tokens. They attend to all tokens and all tokens attend to them.
            key_padding_mask: `(batch, S)`, bool, True for real tokens. Padded tokens attend to nothing and nothing
                attends to them.
            device: Where to make the mask; that of the given masks if left out.
            num_heads: How many heads a pattern of your own is asked for.

        Returns:
            `(batch, heads, S, S)`, bool. `batch` is 1 without masks; `heads` is 1 if one dilation is given for all of
            them, and `num_heads` for a pattern of your own, which may differ by head.
        """
        given = is_global if is_global is not None else key_padding_mask
        device = given.device if given is not None and device is None else device
        position = torch.arange(length, device=device)
        rows, columns = position[:, None], position[None, :]
        heads = range(max(len(self.dilations), num_heads if self.overridden() else 1))
        mask = torch.stack([self.allows(rows, columns, head).expand(length, length) for head in heads])[None]
        if is_global is not None:
            mask = mask | is_global[:, None, :, None] | is_global[:, None, None, :]
        if self.is_causal:
            mask = mask & (columns <= rows)
        if key_padding_mask is not None:
            mask = mask & key_padding_mask[:, None, :, None] & key_padding_mask[:, None, None, :]
        return mask

    def draw(self, length: int, global_positions: Sequence[int] = (), head: int = 0) -> str:
        """The pattern as text, one line per query, `█` where it attends and `·` where it does not.

        `hf_longformer.drawing` makes a picture of the same mask.

        Args:
            length: Number of tokens.
            global_positions: Positions of global tokens.
            head: Which head to draw.
        """
        is_global = torch.zeros(1, length, dtype=torch.bool)
        is_global[0, list(global_positions)] = True
        mask = self.dense_mask(length, is_global)[0, head if len(self.dilations) > 1 else 0]
        return "\n".join("".join("█" if allowed else "·" for allowed in row) for row in mask.tolist())
