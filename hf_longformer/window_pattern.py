# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What attends to what: the sliding window of Longformer as a predicate, a dense mask and a drawing.

Source: Beltagy, Peters, Cohan, "Longformer: The Long-Document Transformer" (arXiv 2004.05150), section 3.1 and
figure 2. Start reading here, then `attention_reference.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.nn.functional import pad

# Members that say which keys a token sees: a subclass that has others of them is another pattern.
MEANING = ("allows", "dense_mask", "one_sided_window", "dilations", "dilation_of", "head_runs", "reach")


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
    def dilations(self) -> tuple[int, ...]:
        """The dilation of every head, or the one dilation that all heads share."""
        return (self.attention_dilation,) if isinstance(self.attention_dilation, int) else self.attention_dilation

    @property
    def reach(self) -> int:
        """Farthest attended distance, in tokens, over all heads."""
        return self.one_sided_window * max(self.dilations)

    def dilation_of(self, head: int) -> int:
        """The dilation of one head."""
        return self.dilations[head if len(self.dilations) > 1 else 0]

    def refuse_others(self) -> None:
        """Says that only the definition knows patterns of somebody's own: everything faster is made for this one.

        Raises:
            NotImplementedError: If a subclass has another `allows`, or anything else that says which keys are seen.
        """
        kind = type(self)
        if kind is WindowPattern:
            return
        if others := [name for name in MEANING if getattr(kind, name) is not getattr(WindowPattern, name)]:
            raise NotImplementedError(
                f'only the definition computes patterns of your own: take attn_implementation="eager" without '
                f"output_attentions, or attention_reference, got {kind.__name__} with {', '.join(others)} of its own"
            )

    def within(self, length: int) -> "WindowPattern":
        """A pattern that is the same for texts of so many tokens, and whose window is hardly wider than they are."""
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

    def allows(self, query_position, key_position, head: int = 0):
        """Whether the window of a query position holds a key position: the definition, on ints or on tensors."""
        distance = query_position - key_position
        dilation = self.dilation_of(head)
        inside = (abs(distance) <= self.one_sided_window * dilation) & (distance % dilation == 0)
        return inside & (distance >= 0) if self.is_causal else inside

    def dense_mask(
        self,
        length: int,
        is_global: torch.Tensor | None = None,
        key_padding_mask: torch.Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        """Which keys every row attends to, window and global attention together. O(length²): for small texts, the
        reference and pictures.

        Args:
            length: Number of tokens S.
            is_global: `(batch, S)`, bool, the global tokens. They attend to all tokens and all tokens attend to them.
            key_padding_mask: `(batch, S)`, bool, True for real tokens. Padded tokens attend to nothing and nothing
                attends to them.
            device: Where to make the mask; that of the given masks if left out.

        Returns:
            `(batch, heads, S, S)`, bool. `batch` is 1 without masks, `heads` is 1 if all heads share a dilation.
        """
        given = is_global if is_global is not None else key_padding_mask
        device = given.device if given is not None and device is None else device
        position = torch.arange(length, device=device)
        rows, columns = position[:, None], position[None, :]
        mask = torch.stack([self.allows(rows, columns, head) for head in range(len(self.dilations))])[None]
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


@dataclass
class TokenRoles:
    """Which tokens are real and which are global, worked out once per forward pass for all layers.

    Args:
        key_padding_mask: `(batch, S)`, bool, True for real tokens; None if all are real.
        is_global: `(batch, S)`, bool; None if no token is global.
        global_index: `(batch, G)`, positions of the global tokens of every row in order; rows with fewer than G are
            filled up with other positions. None if no token is global.
        global_valid: `(batch, G)`, bool, which entries of `global_index` count.
        is_counted: Whether G is a number; otherwise it is one only when a traced program runs.
        is_contiguous: Whether padding is known to stand at the ends of texts only.
        texts: The roles of every text, if the texts of the batch stand one after the other in one row; then nothing of
            the above is given.
        lengths: Their numbers of tokens.
        packed: How such texts are found again, if kernels take them apart; then all of the above but `texts` is about
            the one row.
        global_tokens: `(batch * G,)`, where the tokens of `global_index` stand among all `batch * S`.
        cache: Masks that implementations derive from the above, so that layers of one pattern share them.
    """

    key_padding_mask: torch.Tensor | None = None
    is_global: torch.Tensor | None = None
    global_index: torch.Tensor | None = None
    global_valid: torch.Tensor | None = None
    is_counted: bool = True
    is_contiguous: bool = False
    texts: tuple["TokenRoles", ...] = ()
    lengths: tuple[int, ...] = ()
    packed: "PackedTexts | None" = None
    global_tokens: torch.Tensor | None = None
    cache: dict = field(default_factory=dict, repr=False)

    @classmethod
    def from_masks(
        cls,
        key_padding_mask: torch.Tensor | None,
        is_global: torch.Tensor | None,
        num_global: int,
        is_counted: bool = True,
        is_contiguous: bool = False,
    ) -> "TokenRoles":
        """Roles from two `(batch, S)` bool masks; `num_global` is the largest number of global tokens in a row."""
        if is_global is None or (is_counted and num_global == 0):
            return cls(key_padding_mask, is_contiguous=is_contiguous)
        batch, length = is_global.shape
        room = is_global if is_counted else pad(is_global, (0, 1))  # then two are looked for, even in a single token
        order = room * length - torch.arange(room.shape[1], device=is_global.device)
        # Global tokens in their order, then others in theirs: a stable sort, which exporters to ONNX do not know.
        index = torch.topk(order, num_global, dim=1).indices.clamp(max=length - 1)
        slots = torch.arange(num_global, device=is_global.device)
        valid = slots[None, :] < is_global.sum(dim=1, keepdim=True)
        first = torch.arange(batch, device=is_global.device) * length
        tokens = (first[:, None] + index).flatten()
        facts = is_counted, is_contiguous
        return cls(key_padding_mask, is_global, index, valid, *facts, global_tokens=tokens)

    @property
    def has_global(self) -> bool:
        """Whether there are, or in a traced program may be, global tokens."""
        return self.global_index is not None

    @property
    def num_global(self) -> int:
        """G, the largest number of global tokens in a row."""
        return 0 if self.global_index is None else self.global_index.shape[1]

    @property
    def hidden(self) -> torch.Tensor | None:
        """`(batch, S)`, bool: tokens that windows do not show, as padding or because they stand among the global ones.
        None if there are none. Their own local rows are thrown away.
        """
        if self.key_padding_mask is None:
            return self.is_global
        return ~self.key_padding_mask if self.is_global is None else ~self.key_padding_mask | self.is_global

    def gather_global(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, heads, S, n)` to `(batch, heads, G, n)`: what stands at the global positions."""
        index = self.global_index[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[-1])
        return tensor.gather(2, index)

    def to(self, *args, **kwargs) -> "TokenRoles":
        """The roles on another device; lets libraries that spread layers over devices move them."""
        tensors = (self.key_padding_mask, self.is_global, self.global_index, self.global_valid, self.global_tokens)
        padding, is_global, index, valid, tokens = (None if x is None else x.to(*args, **kwargs) for x in tensors)
        texts = tuple(text.to(*args, **kwargs) for text in self.texts)
        packed = None if self.packed is None else self.packed.to(*args, **kwargs)
        facts = self.is_counted, self.is_contiguous, texts, self.lengths, packed
        return TokenRoles(padding, is_global, index, valid, *facts, tokens)


@dataclass
class PackedTexts:
    """Texts of a batch that stand one after the other in one row, without their padding.

    Args:
        roles: Those of the batch, with its padding.
        index: `(T,)`, where the T real tokens stand among all `batch * S`.
        first: `(batch, 1)`, where every text begins in the batch.
        bounds: `(batch, 2)`, int32, where it begins and ends in the row.
        longest: Tokens of the longest text.
    """

    roles: TokenRoles
    index: torch.Tensor
    first: torch.Tensor
    bounds: torch.Tensor
    longest: int

    def pad(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(1, T, n)` to `(batch, S, n)`, with 0 for padding."""
        shape = self.roles.key_padding_mask.shape
        padded = tensor.new_zeros(shape.numel(), tensor.shape[-1])
        return padded.index_copy(0, self.index, tensor[0]).unflatten(0, shape)

    def to(self, *args, **kwargs) -> "PackedTexts":
        """The same on another device."""
        index, first, bounds = (x.to(*args, **kwargs) for x in (self.index, self.first, self.bounds))
        return PackedTexts(self.roles.to(*args, **kwargs), index, first, bounds, self.longest)


def text_bounds(real: torch.Tensor) -> torch.Tensor:
    """`(batch, S)`, bool, to `(batch, 2)`: the first real token of every text, and what follows the last one."""
    last = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(dim=1)
    return torch.stack([torch.where(last > 0, real.int().argmax(dim=1), 0), last], dim=1)
