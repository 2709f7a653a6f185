# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What several test files share: masks, attention cases with outputs and gradients, tiny models and tokenizers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import PreTrainedTokenizerFast

from hf_longformer import HfLongformerConfig
from hf_longformer.attention_blocked import apply_local_weights, local_rows, local_weights
from hf_longformer.attention_reference import attention_reference
from hf_longformer.global_rows import global_weights, join_global_rows, put_global_rows
from hf_longformer.token_roles import TokenRoles
from hf_longformer.window_pattern import WindowPattern

GLOBALS = ("none", "one", "ragged", "all")
PADDINGS = ("none", "right", "left", "interior", "row")
PROJECTIONS = ("query", "key", "value", "query_global", "key_global", "value_global")
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Case:
    """One problem for an attention implementation: a batch of two texts and three heads of four."""

    length: int
    window: int
    dilation: int | tuple[int, ...] = 1
    is_causal: bool = False
    globals_: str = "none"
    padding: str = "none"

    @property
    def pattern(self) -> WindowPattern:
        return WindowPattern(self.window, self.dilation, self.is_causal)

    def masks(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """`is_global` and `key_padding_mask`, `(2, length)` bool, None where there is nothing to say."""
        return make_masks(self.length, self.globals_, self.padding)

    def __str__(self) -> str:
        dilation = self.dilation if isinstance(self.dilation, int) else "".join(map(str, self.dilation))
        direction = "causal" if self.is_causal else "both"
        return f"S{self.length}-w{self.window}-d{dilation}-{direction}-global_{self.globals_}-pad_{self.padding}"


def make_masks(length: int, globals_: str, padding: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Global tokens and real tokens of two texts of `length` tokens, of one of the named kinds each."""
    real = torch.ones(2, length, dtype=torch.bool)
    third = length // 3
    if padding == "right":
        real[0, length - third :] = False
    elif padding == "left":
        real[0, :third] = False
    elif padding == "interior":
        real[0, third : length // 2] = False
    elif padding == "row":
        real[1] = False
    is_global = torch.zeros(2, length, dtype=torch.bool)
    if globals_ == "one":
        is_global[:, third] = True
    elif globals_ == "ragged":
        is_global[0] = torch.rand(length, generator=torch.Generator().manual_seed(length)) < 8 / length
        is_global[0, 0] = is_global[0, length // 2] = is_global[1, length - 1] = True
    elif globals_ == "all":
        is_global[:] = True
    return None if globals_ == "none" else is_global & real, None if padding == "none" else real


def cases(**factors: Sequence[Any]) -> list[Case]:
    """The full product of factors."""
    return [Case(**dict(zip(factors, values, strict=True))) for values in product(*factors.values())]


def pairwise_cases(**factors: Sequence[Any]) -> list[Case]:
    """Few cases in which every pair of values of two factors occurs: greedily, the one with most new pairs first."""
    names = list(factors)
    open_pairs = {
        (a, x, b, y)
        for a, b in combinations(range(len(names)), 2)
        for x in factors[names[a]]
        for y in factors[names[b]]
    }
    generator, chosen = torch.Generator().manual_seed(0), []
    while open_pairs:
        first = min(open_pairs, key=str)
        candidates = []
        for _ in range(50):
            row = [values[int(torch.randint(len(values), (), generator=generator))] for values in factors.values()]
            row[first[0]], row[first[2]] = first[1], first[3]
            candidates.append(tuple(row))
        best = max(candidates, key=lambda row: len(open_pairs & _pairs(row)))
        open_pairs -= _pairs(best)
        chosen.append(Case(**dict(zip(names, best, strict=True))))
    return chosen


def _pairs(row: tuple) -> set[tuple]:
    return {(a, row[a], b, row[b]) for a, b in combinations(range(len(row)), 2)}


def random_projections(case: Case, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Six projections and a gradient of the output, `(2, 3, length, 4)`, in float64 but exact in `dtype`."""
    generator = torch.Generator().manual_seed(case.length)
    return list(torch.randn(7, 2, 3, case.length, 4, generator=generator).to(dtype).double())


def token_roles(case: Case, is_contiguous: bool = False) -> TokenRoles:
    is_global, real = case.masks()
    num_global = 0 if is_global is None else int(is_global.sum(dim=1).max())
    return TokenRoles.from_masks(real, is_global, num_global, is_contiguous=is_contiguous)


def keywords(case: Case, **more: Any) -> dict[str, Any]:
    """The arguments of `longformer_attention` for a case."""
    is_global, real = case.masks()
    return {
        "attention_window": case.window,
        "attention_dilation": case.dilation,
        "is_causal": case.is_causal,
        "attention_mask": None if real is None else real.long(),
        "global_attention_mask": None if is_global is None else is_global.long(),
    } | more


def run_reference(case: Case, *projections: torch.Tensor, **options: Any) -> torch.Tensor:
    is_global, real = case.masks()
    return attention_reference(
        *projections, pattern=case.pattern, is_global=is_global, key_padding_mask=real, **options
    )[0]


def run_blocked(case: Case, *projections: torch.Tensor, **options: Any) -> torch.Tensor:
    return run_local_rows(local_rows, case, *projections, **options)


def run_local_rows(
    attend: Callable[..., torch.Tensor], case: Case, *projections: torch.Tensor, **options: Any
) -> torch.Tensor:
    """The whole attention, with the local rows of an implementation; `roles` may be among the options."""
    options = {"pattern": case.pattern, "roles": token_roles(case), **options}
    return join_global_rows(attend(*projections[:3], **options), *projections[3:], **options)


def run_with_weights(case: Case, *projections: torch.Tensor) -> torch.Tensor:
    """The path that makes weights on the way; `dense_weights` of the same arguments gives them."""
    query, key, value, query_global, key_global, value_global = projections
    roles, pattern = token_roles(case), case.pattern
    weights = local_weights(query, key, pattern=pattern, roles=roles)
    output = apply_local_weights(weights, value, pattern=pattern, roles=roles)
    if not roles.num_global:
        return output + 0.0 * (query_global + key_global + value_global)
    columns = global_weights(rows_of_global(query_global, roles), key_global, pattern=pattern, roles=roles)
    return put_global_rows(output, columns.mT @ value_global, roles.global_tokens)


def rows_of_global(query_global: torch.Tensor, roles: TokenRoles) -> torch.Tensor:
    """The queries of the global tokens alone."""
    return roles.global_tokens.gather(query_global)


def run_with_gradients(
    attend: Callable[..., torch.Tensor], case: Case, tensors: Sequence[torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The output of `attend(case, *projections)` and the gradients of all six projections, by name."""
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors[:6]]
    output = attend(case, *leaves)
    output.backward(tensors[6].to(dtype))
    return {"output": output.detach()} | {name: leaf.grad for name, leaf in zip(PROJECTIONS, leaves, strict=True)}


def assert_as_exact_as_reference(
    attend: Callable[..., torch.Tensor], case: Case, dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32)
) -> None:
    """Output and six gradients of `attend` against the reference in float64, by the rule of the house: the error is at
    most twice (gradients: three times) that of the reference in the same dtype, plus eight units in the last place of
    the largest entry, or of 1 where all entries are smaller. In float64 it is at most 64 such units.
    """
    tensors = random_projections(case, dtypes[-1])
    oracle = run_with_gradients(run_reference, case, tensors, torch.float64)
    for dtype in dtypes:
        result = run_with_gradients(attend, case, tensors, dtype)
        reference = run_with_gradients(run_reference, case, tensors, dtype) if dtype != torch.float64 else oracle
        for name, exact in oracle.items():
            unit = torch.finfo(dtype).eps * max(1.0, exact.abs().max().item())
            allowed = (2 if name == "output" else 3) * largest_error(reference[name], exact)
            allowed += (64 if dtype == torch.float64 else 8) * unit
            error = largest_error(result[name], exact)  # NaN is in no order with anything
            assert error <= allowed, f"{case} {dtype} {name}: error {error:.2e}, allowed {allowed:.2e}"


def largest_error(tensor: torch.Tensor, exact: torch.Tensor) -> float:
    return (tensor.double() - exact).abs().max().item()


SIZES = {
    "vocab_size": 99,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 202,  # 200 tokens
    "type_vocab_size": 2,
    "attention_window": 8,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
WORDS = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "<mask>",
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "who",
]


def tiny_config(**overrides: Any) -> HfLongformerConfig:
    return HfLongformerConfig(**(SIZES | overrides))


def randomise(model: nn.Module) -> nn.Module:
    """Large random weights everywhere, also where a new model has 0 or 1: what is left out of a sum shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("orm.weight") else 0.0, 0.2, generator=generator)
    return model.eval()


def random_ids(*shape: int) -> torch.Tensor:
    """Ordinary tokens, none of them special."""
    return torch.randint(5, 99, shape, generator=torch.Generator().manual_seed(sum(shape)))


def tiny_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """Words as tokens; texts as `<s> … </s>` and pairs as `<s> … </s> </s> … </s>`, as RoBERTa has them."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    special |= {"unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 200}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(special | options))


def random_masks_and_pattern(
    random: torch.Generator, length: int, heads: int
) -> tuple[torch.Tensor | None, torch.Tensor | None, WindowPattern]:
    """`is_global` and `key_padding_mask` of two texts, and a window, dilated differently by head or causal at times."""

    def draw(number: int) -> int:
        return int(torch.randint(number, (), generator=random))

    real = (None, *(make_masks(length, "none", padding)[1] for padding in PADDINGS[1:]))[draw(len(PADDINGS))]
    is_global = None
    if draw(4):
        is_global = torch.rand(2, length, generator=random) < (0.05, 0.1, 0.3)[draw(3)]
        is_global = is_global if real is None else is_global & real
        is_global = is_global if is_global.any() else None
    dilation = (1, 2, tuple(1 + draw(3) for _ in range(heads)))[draw(3)]
    return is_global, real, WindowPattern(2 * (1 + draw(5)), dilation, is_causal=not draw(3))
