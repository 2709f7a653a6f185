# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The attention as users meet it: the bare operator, the module with six projections, and the choice between
implementations. `eager` is the definition, `sdpa` the fastest exact path of PyTorch for the device, `flex_attention` a
kernel compiled for the pattern, on GPUs.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import AttentionInterface
from transformers.utils import logging

from .attention_blocked import (
    apply_local_weights,
    global_rows,
    global_rows_of_states,
    global_weights,
    local_rows,
    local_weights,
    put_global_rows,
)
from .attention_cpu import local_rows as local_rows_on_cpu
from .attention_flex import local_rows as local_rows_by_flex
from .attention_layout import to_dense, to_narrow
from .attention_reference import attention_reference
from .attention_triton import can_attend as can_launch, local_rows as local_rows_by_triton
from .operator_forms import is_exporting, is_transformed
from .plain_modules import is_listened_to, is_plain
from .transformers_internals import is_tracing
from .window_pattern import TokenRoles, WindowPattern

logger = logging.get_logger(__name__)
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")


def longformer_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    attention_window: int,
    attention_dilation: int | tuple[int, ...] = 1,
    is_causal: bool = False,
    attention_mask: torch.Tensor | None = None,
    global_attention_mask: torch.Tensor | None = None,
    query_global: torch.Tensor | None = None,
    key_global: torch.Tensor | None = None,
    value_global: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    attn_implementation: str = "sdpa",
) -> torch.Tensor:
    """Longformer's attention alone, for models of your own: sliding window plus global tokens, any length.

    Args:
        query, key, value: `(batch, heads, S, head_dim)`.
        attention_window: Total width of the window in tokens, both sides together: even, at least 2.
        attention_dilation: Distance between neighbouring keys of the window, one number or one per head; 1 = no gaps.
        is_causal: Whether a token sees only itself and what comes before it.
        attention_mask: `(batch, S)`, 1 for real tokens, 0 for padding; all are real if left out.
        global_attention_mask: `(batch, S)`, 1 for tokens that attend to all and that all attend to.
        query_global, key_global, value_global: Projections for the rows of global tokens, shaped as `query`; the local
            ones if left out.
        dropout: Probability of dropping an attention weight.
        scaling: Factor on the scores, `head_dim ** -0.5` if left out.
        attn_implementation: `"sdpa"`: O(S · attention_window); `"eager"`: the definition, O(S²); `"flex_attention"`:
            as `"sdpa"`, by a kernel that is compiled for the pattern, on a GPU and without dropout.

    Returns:
        `(batch, heads, S, head_dim)`; rows of padding are 0.

    Raises:
        ValueError: If shapes do not fit, a mask holds anything but 0 and 1, or a global token is padding. While
            `torch.compile` or `torch.export` traces, only shapes are checked.
        NotImplementedError: If flex_attention is asked for on a CPU or with dropout.

    Source: arXiv 2004.05150, section 3.1.
    """
    if attn_implementation not in IMPLEMENTATIONS:
        raise ValueError(f"attn_implementation must be one of {IMPLEMENTATIONS}, got {attn_implementation!r}")
    given = (key, value, query_global, key_global, value_global)
    if query.dim() != 4 or any(tensor is not None and tensor.shape != query.shape for tensor in given):
        shapes = [None if tensor is None else tuple(tensor.shape) for tensor in (query, *given)]
        raise ValueError(f"all projections must have one shape (batch, heads, S, head_dim), got {shapes}")
    if any(tensor is not None and tensor.dtype != query.dtype for tensor in given):
        dtypes = [None if tensor is None else tensor.dtype for tensor in (query, *given)]
        raise ValueError(f"all projections must have one dtype, got {dtypes}")
    if not is_tracing(query) and 0 in query.shape:  # of which kernels would divide
        raise ValueError(f"projections must have something in every dimension, got {tuple(query.shape)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    pattern = WindowPattern(attention_window, attention_dilation, is_causal)
    pattern.check_num_heads(query.shape[1])
    shape = (query.shape[0], query.shape[2])
    facts = mask_facts(attention_mask, global_attention_mask, shape)
    if is_tracing(query):
        roles = traced_roles(attention_mask, global_attention_mask)
    else:
        roles = token_roles(attention_mask, global_attention_mask, read_numbers(facts))
    query_global = query if query_global is None else query_global
    key_global = key if key_global is None else key_global
    value_global = value if value_global is None else value_global
    if attn_implementation == "eager":
        masks: dict[str, Any] = {"is_global": roles.is_global, "key_padding_mask": roles.key_padding_mask}
        projections = (query, key, value, query_global, key_global, value_global)
        return attention_reference(*projections, pattern=pattern, dropout=dropout, scaling=scaling, **masks)[0]
    settings: dict[str, Any] = {"pattern": pattern, "roles": roles, "dropout": dropout, "scaling": scaling}
    output = chosen_local_rows(attn_implementation)(query, key, value, **settings)
    query_global = roles.gather_global(query_global) if roles.has_global else query_global[:, :, :0]
    return put_global_rows(output, global_rows(query_global, key_global, value_global, **settings), roles)


class HfLongformerSelfAttention(nn.Module):
    """Projects hidden states to local and global queries, keys and values and attends with one layer's pattern.

    Args:
        config: An `HfLongformerConfig`.
        layer_index: Which layer, 0 the lowest: windows and dilations differ by layer.
    """

    def __init__(self, config: Any, layer_index: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.layer_index = layer_index
        self.head_dim = size // config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        # Other positions have no global tokens.
        self.has_global_projections = config.position_embedding_type == "absolute"
        self.has_global_projections &= config.global_projections != "shared"
        if self.has_global_projections:
            self.query_global = nn.Linear(size, size)
            self.key_global = nn.Linear(size, size)
            self.value_global = nn.Linear(size, size)

    @property
    def global_projections(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Of query, key and value in the rows of global tokens: their own, or the local ones if those are shared."""
        if self.has_global_projections:
            return self.query_global, self.key_global, self.value_global
        return self.query, self.key, self.value

    @property
    def pattern(self) -> WindowPattern:
        """The window of this layer, read from the config every time: it may be changed on a loaded model. One far
        beyond the longest text is cut to what texts can fill.

        Where layers do not differ, none asks which one it is: compiled one by one, they are one program.
        """
        of_layers = self.config.attention_windows, self.config.attention_dilations
        window, dilation = (
            values[0] if all(value == values[0] for value in values) else values[self.layer_index]
            for values in of_layers
        )
        pattern = WindowPattern(window, dilation, self.config.is_decoder)
        is_limited = self.config.position_embedding_type == "absolute"
        return pattern.within(self.config.max_length_tokens) if is_limited else pattern

    def forward(
        self, hidden_states: torch.Tensor, roles: TokenRoles, output_attentions: bool = False
    ) -> tuple[torch.Tensor | None, ...]:
        """Attends.

        Args:
            hidden_states: `(batch, S, hidden_size)`.
            roles: Real and global tokens.
            output_attentions: Whether to return weights.

        Returns:
            The output `(batch, S, hidden_size)`, alone or, if weights are asked for, with those of local rows
            `(batch, heads, S, G + attention_window + 1)` and of global rows `(batch, heads, S, G)`, None if there are
            none.
        """
        hidden_states = cast_once(hidden_states)
        attend = ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        dropout = self.dropout if self.training else 0.0
        output, *weights = attend(self, hidden_states, roles, dropout, output_attentions)
        output = output.transpose(1, 2).flatten(2)
        return (output, *weights) if output_attentions else (output,)

    def split_heads(self, projected: torch.Tensor) -> torch.Tensor:
        """`(batch, S, hidden_size)` to `(batch, heads, S, head_dim)`."""
        *shape, size = projected.shape
        return projected.view(*shape, size // self.head_dim, self.head_dim).transpose(1, 2)


def cast_once(hidden_states: torch.Tensor) -> torch.Tensor:
    """What `torch.autocast` would do for every projection, each with a copy to keep for the backward pass."""
    device = hidden_states.device.type
    if hidden_states.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return hidden_states.to(torch.get_autocast_dtype(device))
    return hidden_states


def eager_attention(
    module: HfLongformerSelfAttention,
    hidden_states: torch.Tensor,
    roles: TokenRoles,
    dropout: float,
    output_attentions: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The definition, on dense weights."""
    local = [module.split_heads(project(hidden_states)) for project in (module.query, module.key, module.value)]
    of_global = [module.split_heads(project(hidden_states)) for project in module.global_projections]
    masks: dict[str, Any] = {"is_global": roles.is_global, "key_padding_mask": roles.key_padding_mask}
    output, weights = attention_reference(*local, *of_global, pattern=module.pattern, dropout=dropout, **masks)
    if not output_attentions:
        return output, None, None
    # The output is computed from the weights as they are returned, so that gradients reach those.
    weights, weights_of_global = to_narrow(weights, module.pattern, roles)
    dense = to_dense(weights, weights_of_global, module.pattern, roles)
    output = dense @ local[2]
    if roles.is_global is not None:
        output = torch.where(roles.is_global[:, None, :, None], dense @ of_global[2], output)
    return output, weights, weights_of_global


def sdpa_attention(
    module: HfLongformerSelfAttention,
    hidden_states: torch.Tensor,
    roles: TokenRoles,
    dropout: float,
    output_attentions: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The fastest path, or FlexAttention. Global projections are computed only where they are used."""
    projections = [module.split_heads(p(hidden_states)) for p in (module.query, module.key, module.value)]
    if not roles.texts:
        return _attend(module, hidden_states, projections, roles, dropout, output_attentions)
    states_of_texts = hidden_states.split(roles.lengths, dim=1)
    projections_of_texts = zip(*(p.split(roles.lengths, dim=2) for p in projections), strict=True)
    outputs = [
        _attend(module, states, of_text, text, dropout, False)[0].transpose(1, 2)
        for states, of_text, text in zip(states_of_texts, projections_of_texts, roles.texts, strict=True)
    ]
    return torch.cat(outputs, dim=1).transpose(1, 2), None, None


def _attend(
    module: HfLongformerSelfAttention,
    hidden_states: torch.Tensor,
    projections: Sequence[torch.Tensor],
    roles: TokenRoles,
    dropout: float,
    output_attentions: bool,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    settings: dict[str, Any] = {"pattern": module.pattern, "roles": roles}
    query, key, value = projections
    weights = None
    if output_attentions:
        weights = local_weights(query, key, dropout=dropout, **settings)
        output = apply_local_weights(weights, value, **settings)
    else:
        attend = chosen_local_rows(module.config._attn_implementation)
        output = attend(query, key, value, dropout=dropout, **settings)
    output, weights_of_global = add_global_rows(
        module, hidden_states, output, dropout=dropout, output_attentions=output_attentions, **settings
    )
    return output, weights, weights_of_global


def add_global_rows(
    module: HfLongformerSelfAttention,
    hidden_states: torch.Tensor,
    output: torch.Tensor,
    *,
    pattern: WindowPattern,
    roles: TokenRoles,
    dropout: float,
    output_attentions: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The rows of global tokens put among the local ones, and their weights if they are asked for."""
    of_row, weights_of_global = roles, None
    if roles.packed is not None:
        roles = roles.packed.roles
        hidden_states = of_row.packed.pad(hidden_states) if roles.has_global else hidden_states
    settings: dict[str, Any] = {"pattern": pattern, "roles": roles}
    if roles.has_global:
        tokens: Any = roles.global_tokens
        global_states = hidden_states.flatten(0, 1).index_select(0, tokens)
        if not output_attentions and _can_reassociate(module, roles):
            projections: Any = [(p.weight, p.bias) for p in module.global_projections]
            heads = output.shape[1]
            rows = global_rows_of_states(global_states, hidden_states, projections, heads, dropout=dropout, **settings)
            return _put(output, rows, of_row), None
        global_states, seen_states = global_states.unflatten(0, (-1, roles.num_global)), hidden_states
    elif not module.has_global_projections:
        return output, None
    elif is_listened_to(module.global_projections):
        global_states = seen_states = hidden_states
    elif module.training and torch.is_grad_enabled():
        global_states = seen_states = hidden_states[:, :0]  # gradients of zero, see global_rows
    else:
        return output, None
    if is_listened_to(module.global_projections[:1]):  # all tokens pass through them then, as in the definition
        global_states = hidden_states
    query, key, value = (
        module.split_heads(project(states))
        for project, states in zip(module.global_projections, (global_states, seen_states, seen_states), strict=True)
    )
    if roles.has_global and query.shape[2] != roles.num_global:
        query = roles.gather_global(query)
    if output_attentions and roles.has_global:
        weights_of_global = global_weights(query, key, dropout=dropout, **settings)
        rows = weights_of_global.mT @ value
    else:
        rows = global_rows(query, key, value, dropout=dropout, **settings)
    return _put(output, rows, of_row), weights_of_global


def _put(output: torch.Tensor, rows: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
    """The rows of global tokens of a batch to their places; if texts stand in one row, so do their global tokens."""
    if roles.packed is not None:
        rows = rows.transpose(0, 1).flatten(1, 2)[None]
    return put_global_rows(output, rows, roles)


def chosen_local_rows(attn_implementation: str | None) -> Callable[..., torch.Tensor]:
    """What computes the rows that are not global, for every implementation but the definition."""
    return local_rows_by_flex if attn_implementation == "flex_attention" else fastest_local_rows


def fastest_local_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, dropout: float = 0.0, **settings: Any
) -> torch.Tensor:
    """The rows that are not global, by the fastest exact path for the device.

    An exported program is made of PyTorch's own operators only, so that it runs anywhere.
    """
    chosen = local_rows
    if _takes_operators(query):
        if (settings.get("scaling") or 1.0) > 0.0 and has_kernels(query.device, query.dtype, query.shape[-1]):
            chosen = local_rows_by_triton
        elif query.device.type == "cpu":
            chosen = local_rows_on_cpu
    if settings["roles"].packed is not None and chosen is not local_rows_by_triton:
        raise RuntimeError(
            f"a batch without its padding needs kernels for {query.dtype} on {query.device}, and there are none: let "
            "layers compute in the dtype of the model, or of autocast"
        )
    return chosen(query, key, value, dropout=dropout, **settings)


def has_kernels(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether there are kernels for such projections, and they work."""
    return can_launch(device, dtype, head_dim) and is_proven(device, dtype, head_dim)


def _takes_operators(query: torch.Tensor) -> bool:
    """Whether this runs now, or is compiled or captured for later: all but programs of PyTorch's own operators, and
    what `torch.func` transforms.
    """
    if is_transformed():
        return False
    if torch.compiler.is_compiling():
        return not is_exporting()
    return not is_tracing(query) or (query.device.type == "cuda" and torch.cuda.is_current_stream_capturing())


@torch.compiler.assume_constant_result
def is_proven(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernels give what the definition says on this device, with this driver and compiler: tried once. If
    they do not, a warning says so, and the blocked path is taken.
    """
    return _prove_once(device, dtype, head_dim)


@lru_cache(maxsize=64)
def _prove_once(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            _prove(device, dtype, head_dim)
    except Exception as error:  # compilers and drivers have many of their own
        logger.warning(
            "the attention kernels are not used on %s with %s and heads of %d: %s. Attention takes the blocked path, "
            "which is slower.",
            *(device, dtype, head_dim, error),
        )
        return False
    return True


def _prove(device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    """Compares outputs and gradients with the definition, on two small texts.

    Raises:
        RuntimeError: If the kernel cannot run, or differs by more than rounding.
    """
    real, is_global = torch.ones(2, 150, dtype=torch.bool, device=device), torch.zeros(2, 150, device=device).bool()
    real[0, :20], is_global[:, 70] = False, True
    masks: dict[str, Any] = {"is_global": is_global, "key_padding_mask": real}
    roles = TokenRoles.from_masks(real, is_global, 1, is_contiguous=True)
    generator = torch.Generator(device).manual_seed(0)
    tensors = [torch.randn(2, 2, 150, head_dim, generator=generator, device=device).to(dtype) for _ in range(4)]
    keep = (real & ~is_global)[:, None, :, None]

    def run(attend: Callable[..., torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors[:3]]
        rows = attend(*leaves) * keep
        return torch.stack([rows, *torch.autograd.grad(rows, leaves, tensors[3].to(dtype))]).detach().double()

    for pattern in (WindowPattern(32), WindowPattern(16, 3), WindowPattern(32, is_causal=True)):
        define = partial(_local_rows_of_definition, pattern=pattern, **masks)
        exact, rounded = run(define, torch.float32), run(define, dtype)
        found = run(partial(local_rows_by_triton, pattern=pattern, roles=roles), dtype)
        error, allowed = (found - exact).abs().max(), 4 * (rounded - exact).abs().max() + 1e-5
        if not bool(error <= allowed):  # NaN is in no order with anything
            raise RuntimeError(f"it differs by {error:.2g} from the definition, and {allowed:.2g} could be rounding")


def _local_rows_of_definition(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any
) -> torch.Tensor:
    return attention_reference(query, key, value, query, key, value, **settings)[0]


def _is_compiled() -> bool:
    """Whether `torch.compile` traces, which takes operators of our own; `torch.export` does not."""
    return torch.compiler.is_compiling() and not is_exporting()


def _can_reassociate(module: HfLongformerSelfAttention, roles: TokenRoles) -> bool:
    """Whether that is cheaper, and the projections are what they seem."""
    return roles.is_counted and roles.num_global < module.head_dim and is_plain(*module.global_projections)


# Under the standard names, but in an interface of our own: `attn_implementation=` and `set_attn_implementation` work,
# and nobody else's attention changes.
ATTENTION_FUNCTIONS = AttentionInterface()
ATTENTION_FUNCTIONS["sdpa"] = ATTENTION_FUNCTIONS["flex_attention"] = sdpa_attention


def mask_facts(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None, shape: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """What `token_roles` must know of the masks, as tensors of one number each, so that one transfer reads them all.
    Nothing while a program is traced, which cannot read them.

    Raises:
        ValueError: If a mask is not `(batch, S)`.
    """
    facts: dict[str, torch.Tensor] = {}
    for name, mask in (("attention_mask", attention_mask), ("global_attention_mask", global_attention_mask)):
        if mask is not None and tuple(mask.shape) != tuple(shape):
            raise ValueError(f"{name} must have the shape (batch, S) = {tuple(shape)}, got {tuple(mask.shape)}")
        if mask is not None and not is_tracing(mask):
            facts[f"{name}_wrong"] = ((mask != 0) & (mask != 1)).sum()
    if not facts:
        return facts
    if attention_mask is not None:
        facts["padded"] = (attention_mask == 0).sum()
        real = attention_mask.bool()
        facts["longest"] = real.sum(dim=1).max()
        facts["texts_with_gaps"] = ((real[:, 1:] & ~real[:, :-1]).sum(dim=1) + real[:, 0] > 1).sum()
    if global_attention_mask is not None:
        facts["num_global"] = global_attention_mask.bool().sum(dim=1).max()
        if attention_mask is not None:
            facts["global_on_padding"] = (global_attention_mask.bool() & ~attention_mask.bool()).sum()
    return facts


def read_numbers(facts: dict[str, torch.Tensor]) -> dict[str, int]:
    """Tensors of one number each to Python numbers, in one transfer from the device."""
    if not facts:
        return {}
    if is_transformed():  # by `vmap`, perhaps: what is true of all its parts
        facts = {name: _of_all_parts(fact, name.endswith("_min")) for name, fact in facts.items()}
    return dict(zip(facts, torch.stack([fact.long() for fact in facts.values()]).tolist(), strict=True))


def _of_all_parts(fact: torch.Tensor, is_smallest: bool) -> torch.Tensor:
    """The largest, or smallest, of the numbers that `vmap` works with at a time."""
    while torch._C._functorch.is_functorch_wrapped_tensor(fact):
        fact = torch._C._functorch.get_unwrapped(fact)
    return fact.min() if is_smallest else fact.max()


def token_roles(
    attention_mask: torch.Tensor | None,
    global_attention_mask: torch.Tensor | None,
    facts: dict[str, int],
) -> TokenRoles:
    """Checks two `(batch, S)` masks of 0 and 1 by their facts and makes roles of them.

    Raises:
        ValueError: If a mask holds anything but 0 and 1, or a global token is padding.
    """
    if facts.get("attention_mask_wrong"):
        raise ValueError(
            "attention_mask must hold 0 (padding) and 1 (real token) only, "
            f"got {facts['attention_mask_wrong']} other values; global tokens belong in global_attention_mask"
        )
    if facts.get("global_attention_mask_wrong"):
        raise ValueError(
            "global_attention_mask must hold 0 and 1 (global token) only, "
            f"got {facts['global_attention_mask_wrong']} other values"
        )
    if facts.get("global_on_padding"):
        raise ValueError(
            "a global token must be a real token, "
            f"got {facts['global_on_padding']} positions with global_attention_mask=1 and attention_mask=0"
        )
    key_padding_mask = attention_mask.bool() if facts.get("padded") else None
    is_global = None if global_attention_mask is None else global_attention_mask.bool()
    is_contiguous = not facts.get("texts_with_gaps", 0)
    return TokenRoles.from_masks(key_padding_mask, is_global, facts.get("num_global", 0), is_contiguous=is_contiguous)


def traced_roles(
    attention_mask: torch.Tensor | None, global_attention_mask: torch.Tensor | None, num_global: int | None = None
) -> TokenRoles:
    """Roles of two `(batch, S)` masks while `torch.compile`, `torch.export` or `torch.jit` traces.

    What the masks hold is unknown then and stays unchecked; a global token on padding counts as padding.

    Args:
        attention_mask: 1 for real tokens.
        global_attention_mask: 1 for global tokens.
        num_global: The largest number of global tokens in a row, if it is the same for all inputs. Otherwise it is
            worked out whenever the traced program runs.
    """
    real = None if attention_mask is None else attention_mask.bool()
    if global_attention_mask is None:
        return TokenRoles(real)
    is_global = global_attention_mask.bool() if real is None else global_attention_mask.bool() & real
    is_counted = num_global is not None or not torch.compiler.is_compiling()
    if num_global is None:
        num_global = _count_global(is_global)
    return TokenRoles.from_masks(real, is_global, num_global, is_counted)


def _count_global(is_global: torch.Tensor) -> int:
    """The largest number of global tokens in a row, at least 1; in a compiled or exported program a symbol, at least 2:
    compilers ask whether a size is 1.
    """
    fewest = 2 if torch.compiler.is_compiling() else 1
    largest = is_global.sum(dim=1).max().clamp(min=fewest)
    if _is_compiled() and hasattr(torch._dynamo, "patch_dynamo_config"):
        with torch._dynamo.patch_dynamo_config(capture_scalar_outputs=True):  # otherwise the graph ends here
            num_global: Any = largest.item()
    else:
        num_global = largest.item()
    torch._check(num_global >= fewest)
    torch._check(num_global <= is_global.shape[1] + 1)
    return num_global


__all__ = ["HfLongformerSelfAttention", "longformer_attention"]
