# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The pattern against a definition written out again, entry by entry."""

import pytest
import torch
from helpers import GLOBALS, PADDINGS, make_masks

from hf_longformer import WindowPattern
from hf_longformer.token_roles import TokenRoles

LENGTH = 23


def sees(i: int, j: int, window: int, dilation: int, is_causal: bool) -> bool:
    """Independent of the package: the keys of a window counted one by one."""
    keys = {i}
    for step in range(1, window // 2 + 1):
        keys.add(i - step * dilation)
        if not is_causal:
            keys.add(i + step * dilation)
    return j in keys


@pytest.mark.parametrize("is_causal", [False, True], ids=["both", "causal"])
@pytest.mark.parametrize("dilation", [1, 2, 3, 7])
@pytest.mark.parametrize("window", [2, 4, 10, 60])
def test_allows_is_the_set_of_keys_of_the_definition(window: int, dilation: int, is_causal: bool):
    pattern = WindowPattern(window, dilation, is_causal)
    for i in range(LENGTH):
        for j in range(LENGTH):
            assert bool(pattern.allows(i, j)) == sees(i, j, window, dilation, is_causal), (i, j)


def test_allows_takes_tensors_and_the_dilation_of_a_head():
    pattern = WindowPattern(4, (1, 3))
    position = torch.arange(LENGTH)
    for head, dilation in enumerate((1, 3)):
        mask = pattern.allows(position[:, None], position[None, :], head)
        expected = [[sees(i, j, 4, dilation, False) for j in range(LENGTH)] for i in range(LENGTH)]
        assert mask.tolist() == expected


def test_allows_counts_attention_window_plus_one_keys_in_the_middle_of_a_text():
    assert sum(WindowPattern(8, 3).allows(50, j) for j in range(100)) == 9
    assert sum(WindowPattern(8, 3, is_causal=True).allows(50, j) for j in range(100)) == 5


@pytest.mark.parametrize("is_causal", [False, True], ids=["both", "causal"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("globals_", GLOBALS)
@pytest.mark.parametrize("dilation", [1, 2, (1, 2, 5)], ids=str)
def test_dense_mask_is_the_definition(dilation: int | tuple[int, ...], globals_: str, padding: str, is_causal: bool):
    is_global, real = make_masks(LENGTH, globals_, padding)
    mask = WindowPattern(4, dilation, is_causal).dense_mask(LENGTH, is_global, real)
    dilations = (dilation,) if isinstance(dilation, int) else dilation
    batch = 1 if is_global is None and real is None else 2
    assert mask.shape == (batch, len(dilations), LENGTH, LENGTH)
    assert mask.dtype == torch.bool
    for row in range(batch):
        is_real = [True] * LENGTH if real is None else real[row].tolist()
        marked = [False] * LENGTH if is_global is None else is_global[row].tolist()
        for head, of_head in enumerate(dilations):
            for i in range(LENGTH):
                for j in range(LENGTH):
                    expected = sees(i, j, 4, of_head, False) or marked[i] or marked[j]
                    expected = expected and is_real[i] and is_real[j] and (j <= i or not is_causal)
                    assert mask[row, head, i, j].item() == expected, (row, head, i, j)


@pytest.mark.parametrize(
    ("pattern", "reach"),
    [
        (WindowPattern(2), 1),
        (WindowPattern(512), 256),
        (WindowPattern(8, 3), 12),
        (WindowPattern(8, (1, 5, 2)), 20),
        (WindowPattern(8, 3, is_causal=True), 12),
    ],
    ids=str,
)
def test_reach_is_the_farthest_allowed_distance(pattern: WindowPattern, reach: int):
    assert pattern.reach == reach
    heads = range(len(pattern.dilations))
    distances = [
        distance for distance in range(-600, 601) for head in heads if pattern.allows(600, 600 - distance, head)
    ]
    assert max(distances) == reach
    assert min(distances) == (0 if pattern.is_causal else -reach)


def test_dilation_of_is_shared_or_per_head():
    assert [WindowPattern(4, 3).dilation_of(head) for head in range(3)] == [3, 3, 3]
    assert [WindowPattern(4, [1, 2, 5]).dilation_of(head) for head in range(3)] == [1, 2, 5]


def test_patterns_are_values():
    assert WindowPattern(4, [1, 2]) == WindowPattern(4, (1, 2))
    assert len({WindowPattern(4), WindowPattern(4, 1), WindowPattern(4, 1, False), WindowPattern(4, 2)}) == 2


def test_draw():
    assert WindowPattern(2).draw(4) == "██··\n███·\n·███\n··██"
    assert WindowPattern(2, 2).draw(5) == "█·█··\n·█·█·\n█·█·█\n·█·█·\n··█·█"
    assert WindowPattern(2, is_causal=True).draw(3) == "█··\n██·\n·██"
    assert WindowPattern(2).draw(5, global_positions=[0]) == "█████\n███··\n████·\n█·███\n█··██"
    assert WindowPattern(2, (1, 2)).draw(4, head=1) == WindowPattern(2, 2).draw(4)


@pytest.mark.parametrize("window", [-2, 0, 1, 3, 513])
def test_window_pattern_refuses_odd_and_small_windows(window: int):
    with pytest.raises(ValueError, match=f"even number of at least 2 .*got {window}$"):
        WindowPattern(window)


@pytest.mark.parametrize("dilation", [0, -1, (1, 0), ()], ids=str)
def test_window_pattern_refuses_dilations_below_one(dilation: int | tuple[int, ...]):
    with pytest.raises(ValueError, match=r"attention_dilation must be at least 1 .*got "):
        WindowPattern(4, dilation)


def test_check_num_heads():
    WindowPattern(4, 2).check_num_heads(12)
    WindowPattern(4, (1, 2)).check_num_heads(2)
    with pytest.raises(ValueError, match=r"one per head \(3 heads\), got 2: \(1, 2\)"):
        WindowPattern(4, (1, 2)).check_num_heads(3)


def test_token_roles_hold_every_global_position_once_and_in_order():
    is_global = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    roles = TokenRoles.from_masks(None, is_global, 3)
    assert roles.num_global == 3
    assert roles.global_tokens.valid.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert roles.global_tokens.index[0].tolist() == [1, 3, 4]
    assert roles.global_tokens.index[1, 0].item() == 0
    assert all(len(set(row)) == 3 for row in roles.global_tokens.index.tolist())
    tensor = torch.arange(30.0).view(3, 1, 5, 2)
    assert roles.global_tokens.gather(tensor)[0, 0].tolist() == [[2.0, 3.0], [6.0, 7.0], [8.0, 9.0]]
    assert roles.global_tokens.flat_index.view(3, 3).tolist() == [
        [n + 5 * text for n in row] for text, row in enumerate(roles.global_tokens.index.tolist())
    ]


def test_token_roles_without_global_tokens():
    assert TokenRoles.from_masks(None, None, 0).num_global == 0
    roles = TokenRoles.from_masks(None, torch.zeros(2, 5, dtype=torch.bool), 0)
    assert roles.num_global == 0
    assert roles.is_global is None


def test_token_roles_move_with_all_their_tensors():
    is_global, real = make_masks(LENGTH, "ragged", "right")
    roles = TokenRoles.from_masks(real, is_global, int(is_global.sum(dim=1).max()))
    moved = roles.to("meta")
    names = ("mask", "index", "valid", "flat_index")
    pairs = [(getattr(moved.global_tokens, name), getattr(roles.global_tokens, name)) for name in names]
    for there, here in (*pairs, (moved.key_padding_mask, roles.key_padding_mask)):
        assert there.device.type == "meta"
        assert there.shape == here.shape
