# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The path of FlexAttention against the reference. Where there is no GPU, PyTorch's own uncompiled form of the kernel
gives outputs, and the lists of blocks are compared with the dense mask; gradients wait for a GPU.
"""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import (
    GLOBALS,
    PADDINGS,
    PROJECTIONS,
    Case,
    assert_as_exact_as_reference,
    largest_error,
    pairwise_cases,
    random_projections,
    run_local_rows,
    run_reference,
    tiny_config,
    token_roles,
)
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import flex_attention

from hf_longformer import (
    HfLongformerForCausalLM,
    HfLongformerModel,
    attention_flex,
    attention_roles,
    longformer_attention,
)
from hf_longformer.attention_flex import BLOCK, local_rows, make_block_mask, why_not_flash
from hf_longformer.attention_reference import attention_reference
from hf_longformer.window_pattern import WindowPattern

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
FACTORS: dict[str, Any] = {
    "length": [1, 7, 64, 128, 129, 300, 640],
    "window": [2, 8, 256, 300, 1400],
    "dilation": [1, 2, 3, (1, 1, 4), (2, 1, 2)],
    "is_causal": [False, True],
    "globals_": GLOBALS,
    "padding": PADDINGS,
}
PAIRWISE = pairwise_cases(**FACTORS)


def dense_mask(case: Case) -> torch.Tensor:
    """`(2, 3, S, S)`, bool: what rows that are used see."""
    is_global, real = case.masks()
    mask = case.pattern.dense_mask(case.length, is_global, real, device="cpu")
    return mask.expand(2, 3, -1, -1)


@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_make_block_mask(case: Case) -> None:
    """The function of positions gives the dense mask; no block that holds something is left out; and of those that are
    not looked into, everything is seen.
    """
    roles = token_roles(case)
    block_mask = make_block_mask(3, case.length, case.pattern, roles, torch.device("cpu"))
    index = torch.meshgrid(*map(torch.arange, (2, 3, case.length, case.length)), indexing="ij")
    found = block_mask.mask_mod(*index)
    hidden = torch.zeros(2, case.length, dtype=torch.bool) if roles.not_in_windows is None else roles.not_in_windows
    kept = ~hidden[:, None, :, None].expand_as(found)
    dense = dense_mask(case)
    assert torch.equal(found & kept, dense & kept)
    missing = -case.length % BLOCK
    blocks = torch.nn.functional.pad(dense & kept, (0, missing, 0, missing))
    blocks = blocks.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)
    thrown = torch.nn.functional.pad(~kept, (0, missing, 0, missing), value=True)
    thrown = thrown.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).transpose(3, 4)
    some, every = (
        listed(num, order).expand(2, 3, -1, -1)
        for num, order in (
            (block_mask.kv_num_blocks, block_mask.kv_indices),
            (block_mask.full_kv_num_blocks, block_mask.full_kv_indices),
        )
    )
    assert block_mask.kv_indices.shape == block_mask.full_kv_indices.shape  # the kernel takes it for granted
    assert not (some & every).any()
    assert (some | every)[blocks.any(-1).any(-1)].all()
    assert (blocks | thrown).all(-1).all(-1)[every].all()


def listed(num: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    counts = torch.arange(order.shape[-1]) < num[..., None]
    return torch.zeros(order.shape, dtype=torch.bool).scatter(-1, order.long(), counts)


def test_blocks_outside_the_window_are_not_visited() -> None:
    case = Case(64 * BLOCK, 2 * BLOCK)
    block_mask = make_block_mask(3, case.length, case.pattern, token_roles(case), torch.device("cpu"))
    assert int((block_mask.kv_num_blocks + block_mask.full_kv_num_blocks).max()) == 3


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention as PyTorch has it for debugging, on a CPU too, but without gradients there."""
    monkeypatch.setattr(attention_flex, "_attention", lambda backend: flex_attention)
    monkeypatch.setattr(attention_flex, "NOT_ON", ())


def run_flex(case: Case, *projections: torch.Tensor) -> torch.Tensor:
    return run_local_rows(local_rows, case, *projections, roles=token_roles(case).to(projections[0].device))


class Strided(WindowPattern):
    """Every third token of the whole text, others for every head, and the neighbours."""

    def allows(self, query_position: Any, key_position: Any, head: Any = 0) -> Any:
        of_head = (key_position + head) % 3 == 0
        return super().allows(query_position, key_position, head) | of_head


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("dilation", [1, (1, 3, 2)])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("length", [7, 128, 300])
def test_a_pattern_of_your_own(length: int, is_causal: bool, dilation: Any, uncompiled: None) -> None:
    case = Case(length, 4, dilation, is_causal, "one", "right")
    tensors, pattern = random_projections(case)[: len(PROJECTIONS)], Strided(4, dilation, is_causal)
    is_global, real = case.masks()
    expected, _ = attention_reference(*tensors, pattern=pattern, is_global=is_global, key_padding_mask=real)
    torch.testing.assert_close(run_local_rows(local_rows, case, *tensors, pattern=pattern), expected)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows(case: Case, uncompiled: None) -> None:
    tensors = random_projections(case)[: len(PROJECTIONS)]
    with torch.no_grad():
        exact = run_reference(case, *tensors)
        assert largest_error(run_flex(case, *tensors), exact) < 1e-13
        found = run_flex(case, *(tensor.float() for tensor in tensors))
        rounded = run_reference(case, *(tensor.float() for tensor in tensors))
    assert largest_error(found, exact) <= 2 * largest_error(rounded, exact) + 1e-6


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_model(uncompiled: None) -> None:
    torch.manual_seed(0)
    model = HfLongformerModel(tiny_config()).eval()
    ids = torch.randint(5, 99, (2, 50))
    inputs = {"input_ids": ids, "global_attention_mask": torch.nn.functional.one_hot(torch.tensor([0, 3]), 50)}
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
        model.set_attn_implementation("flex_attention")
        found = model(**inputs).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = torch.randn(3, 1, 2, 9, 4)
    with pytest.raises(NotImplementedError, match="needs a GPU, got tensors on a CPU"):
        longformer_attention(*tensors, attention_window=4, attn_implementation="flex_attention")
    encoder = HfLongformerModel(tiny_config(attn_implementation="flex_attention")).eval()
    with pytest.raises(NotImplementedError, match=r'needs a GPU.*"sdpa"'):
        encoder(torch.randint(5, 99, (1, 20)))
    monkeypatch.setattr(attention_flex, "NOT_ON", ())
    with pytest.raises(NotImplementedError, match=r"no dropout, got attention_probs_dropout_prob=0\.1"):
        longformer_attention(*tensors, attention_window=4, dropout=0.1, attn_implementation="flex_attention")
    config = tiny_config(is_decoder=True, position_embedding_type="relative")
    model = HfLongformerForCausalLM(config).eval()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(NotImplementedError, match="without relative positions"):
        model(torch.randint(5, 99, (1, 20)), use_cache=False)


def test_masks_are_made_once_per_text_and_compiled_once_per_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over layers, calls, lengths, batches and windows: texts that windows show as a whole, and others."""
    monkeypatch.setattr(attention_flex, "NOT_ON", ())
    compiled = torch.compile(flex_attention, dynamic=True, fullgraph=True, backend="eager")
    monkeypatch.setattr(attention_flex, "_compiled", lambda is_dynamic: compiled if is_dynamic else None)
    visited, made = attention_flex._visited_blocks, []
    monkeypatch.setattr(attention_flex, "_visited_blocks", lambda *given: made.append(1) or visited(*given))
    torch.compiler.reset()
    counters.clear()
    model = HfLongformerModel(tiny_config(num_hidden_layers=12, max_position_embeddings=700)).eval()
    programs = []
    for batch, length, is_masked in ((2, 520, False), (4, 300, False), (2, 530, True), (4, 400, True), (5, 520, True)):
        ids = torch.randint(5, 99, (batch, length))
        masks = {}
        if is_masked:
            masks["attention_mask"] = (torch.arange(length) < length - 9).long().expand(batch, -1)
            masks["global_attention_mask"] = torch.nn.functional.one_hot(torch.tensor(batch), length).expand(batch, -1)
        with torch.no_grad():
            model.set_attn_implementation("blocked")
            expected = model(ids, **masks).last_hidden_state
            model.set_attn_implementation("flex_attention")
            found = model(ids, **masks).last_hidden_state
        real = masks.get("attention_mask", torch.ones_like(ids)).bool()
        torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
        programs.append(counters["stats"]["unique_graphs"])
    assert programs == [1, 1, 2, 2, 2]
    assert len(made) == 5  # of the same window in twelve layers
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_roles_keep_the_mask(uncompiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is read: tensors without memory would refuse that."""
    case = Case(300, 8, (1, 1, 4), globals_="one", padding="right")
    is_global, real = case.masks()
    roles = attention_roles(real, is_global, num_global_tokens=1)
    query, key, value = random_projections(case)[:3]
    visited, made = attention_flex._visited_blocks, []
    monkeypatch.setattr(attention_flex, "_visited_blocks", lambda *given: made.append(1) or visited(*given))
    settings: dict[str, Any] = {"pattern": case.pattern, "attn_implementation": "flex_attention", "roles": roles}
    with torch.no_grad():
        for _ in range(3):
            longformer_attention(query, key, value, **settings)
    assert len(made) == 1
    with torch.no_grad():
        mask = make_block_mask(3, case.length, case.pattern, roles.to("meta"), torch.device("meta"))
    assert mask.kv_indices.device.type == "meta"
    assert mask.q_indices is None  # which a backward pass needs


@pytest.mark.parametrize(
    ("capability", "package", "dtype", "case", "dropout", "reason"),
    [
        ((8, 9), True, torch.bfloat16, Case(9, 4), 0.0, r"capability 9\.0 \(Hopper\) or newer"),
        ((9, 0), False, torch.bfloat16, Case(9, 4), 0.0, "needs the package flash-attn-4"),
        ((9, 0), True, torch.float32, Case(9, 4), 0.0, "takes bfloat16 and float16, got torch.float32"),
        ((9, 0), True, torch.bfloat16, Case(9, 4, globals_="one"), 0.0, "without padding and global tokens"),
        ((9, 0), True, torch.bfloat16, Case(9, 4, padding="right"), 0.0, "without padding and global tokens"),
        ((9, 0), True, torch.bfloat16, Case(9, 4, (1, 1, 4)), 0.0, "one dilation for all heads"),
        ((9, 0), True, torch.bfloat16, Case(9, 4), 0.1, "has no dropout"),
        ((9, 0), True, torch.bfloat16, Case(9, 4), 0.0, None),
    ],
)
def test_flash_backend_is_had_or_refused(
    capability: Any, package: bool, dtype: Any, case: Case, dropout: float, reason: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(attention_flex, "_has_flash", lambda: package)
    query: Any = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
    settings: dict[str, Any] = {"pattern": case.pattern, "roles": token_roles(case), "dropout": dropout}
    found = why_not_flash(query, **settings)
    assert found is None if reason is None else re.search(reason, found)


def test_flash_backend_on_a_cpu() -> None:
    tensors = torch.randn(3, 1, 2, 9, 4)
    with pytest.raises(NotImplementedError, match=r'"flex_attention_flash" needs a GPU of compute capability 9\.0'):
        longformer_attention(*tensors, attention_window=4, attn_implementation="flex_attention_flash")


@NEEDS_GPU
@pytest.mark.parametrize("case", PAIRWISE, ids=str)
def test_local_rows_on_a_gpu(case: Case) -> None:
    """Head dimensions of the cases are 4: filled up with zeros to 16, which changes neither scores nor outputs."""

    def attend(case: Case, *projections: torch.Tensor) -> torch.Tensor:
        query, *others = [torch.nn.functional.pad(x, (0, 12)).cuda() for x in projections]
        return run_flex(case, 2 * query, *others[:2], 2 * others[2], *others[3:])[..., :4].cpu()

    assert_as_exact_as_reference(attend, case, [torch.float32])
