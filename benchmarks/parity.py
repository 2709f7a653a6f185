# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What must hold before a speed means anything: ours computes the definition, and what stock Longformer computes."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from hf_longformer import longformer_attention
from hf_longformer.conversion.source import encoder_config

from .peers import SIZES, Peer, random_ids

# The rule of the house: errors against the definition in float64, over the definition's own error in the same dtype.
OUTPUT_BUDGET, GRADIENT_BUDGET = 2.0, 3.0
COMPILED_APART = 8  # roundings
PEER_TOKENS = 100
STOCK_TOLERANCE = 1e-4  # in float32, as in the gate of the conversion


class ParityError(RuntimeError):
    """Something else is computed than the definition says: no speed is worth knowing."""


def parity_length(attention_window: int, attention_dilation: int = 1) -> int:
    """Tokens: enough for rows whose window ends inside the text, and no multiple of anything."""
    return attention_window * attention_dilation + attention_window // 2 + 13


def check_operator(size: str, window: int, dilation: int, dtype: torch.dtype, device: torch.device) -> None:
    """Compares `longformer_attention` with the definition, outputs and gradients.

    Raises:
        ParityError: If an error is beyond the budget.
    """
    generator = torch.Generator().manual_seed(1)
    heads, length = SIZES[size]["num_attention_heads"], parity_length(window, dilation)
    shape = (4, 1, heads, length, SIZES[size]["hidden_size"] // heads)
    *states, probe = torch.randn(shape, generator=generator).to(dtype).to(device).unbind(0)
    is_global = torch.zeros(1, length, device=device)
    is_global[:, 0] = 1

    def run(implementation: str, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [state.to(dtype).requires_grad_() for state in states]
        settings: dict[str, Any] = {"attention_window": window, "attention_dilation": dilation}
        output = longformer_attention(
            *leaves, **settings, global_attention_mask=is_global, attn_implementation=implementation
        )
        gradients = torch.autograd.grad((output * probe.to(dtype)).sum(), leaves)
        return [output.detach(), torch.cat([gradient.flatten() for gradient in gradients])]

    _check_budget("the operator", run("sdpa", dtype), run("eager", dtype), run("eager", torch.float64))


def check_ours(
    peer: Peer, size: str, cast: Callable[[], AbstractContextManager] = nullcontext, gradients: bool = False
) -> None:
    """Compares our encoder, in its dtype, with the definition in the same dtype and in float64.

    Args:
        peer: Our encoder.
        size: Its size.
        cast: Makes the context in which it computes: autocast, or none.
        gradients: Whether to compare those of all weights too.

    Raises:
        ParityError: If an error is beyond the budget.
    """
    input_ids = _parity_ids(peer, size)

    def run(peer: Peer, implementation: str, cast: Callable[[], AbstractContextManager]) -> list[torch.Tensor]:
        before = peer.model.config._attn_implementation
        peer.model.set_attn_implementation(implementation)
        peer.model.eval()
        try:
            with torch.set_grad_enabled(gradients):
                with cast():
                    output = peer.hidden_states(peer.inputs(input_ids))
                if not gradients:
                    return [output]
                generator = torch.Generator().manual_seed(1)
                probe = torch.randn(output.shape, generator=generator).to(output)
                weights = [weight for weight in peer.model.parameters() if weight.requires_grad]
                found = torch.autograd.grad((output * probe).sum(), weights, allow_unused=True, materialize_grads=True)
                return [output.detach(), torch.cat([gradient.flatten() for gradient in found])]
        finally:
            peer.model.set_attn_implementation(before)

    results = run(peer, "sdpa", cast), run(peer, "eager", cast)
    exact = Peer(copy.deepcopy(peer.model).double(), has_global=peer.has_global)
    _check_budget("the encoder", *results, run(exact, "eager", nullcontext))


@torch.no_grad()
def check_compiled(
    compiled: Peer, ours: Peer, size: str, cast: Callable[[], AbstractContextManager] = nullcontext
) -> None:
    """Compares our encoder as `torch.compile` makes it with the definition in float64: its error may be twice that of
    the encoder as it is.

    Raises:
        ParityError: If an error is beyond the budget.
    """
    input_ids = _parity_ids(ours, size)
    exact = Peer(copy.deepcopy(ours.model).double(), has_global=ours.has_global)
    exact.model.set_attn_implementation("eager")
    with cast():
        found, rounded = (peer.hidden_states(peer.inputs(input_ids)) for peer in (compiled, ours))
    expected = exact.hidden_states(exact.inputs(input_ids))
    _check_budget("the compiled encoder", [found], [rounded], [expected])


@torch.no_grad()
def check_compiled_peer(
    compiled: Peer, peer: Peer, size: str, dtype: torch.dtype, cast: Callable[[], AbstractContextManager] = nullcontext
) -> None:
    """Compares another encoder as `torch.compile` makes it with what it is by itself.

    Raises:
        ParityError: If their states are farther apart, by the norm, than `COMPILED_APART` roundings of the dtype.
    """
    input_ids = random_ids(size, 2, PEER_TOKENS).to(peer.model.device)
    with cast():
        found, expected = (one.hidden_states(one.inputs(input_ids)).double() for one in (compiled, peer))
    apart, allowed = float((found - expected).norm() / expected.norm()), COMPILED_APART * torch.finfo(dtype).eps
    if not apart <= allowed:
        raise ParityError(
            f"a compiled peer must compute what it does uncompiled, got states that are {apart:.2g} apart, above "
            f"{allowed:.2g}: no speed is shown"
        )


@torch.no_grad()
def check_stock(ours: Peer, stock: Peer, size: str) -> None:
    """Compares our encoder with stock Longformer that has the same weights, both in float32.

    Raises:
        ParityError: If the outputs differ.
    """
    _check_same(ours, stock, _parity_ids(ours, size), "stock Longformer computes")


@torch.no_grad()
def check_dense(ours: Peer, dense: Peer, size: str) -> None:
    """Compares our causal model with a dense one that has the same weights, where windows cover the text.

    Raises:
        ParityError: If the outputs differ.
    """
    check_as_dense(ours, dense, _parity_ids(ours, size))


@torch.no_grad()
def check_as_dense(ours: Peer, dense: Peer, input_ids: torch.Tensor) -> None:
    """Compares our encoder with a dense one that has the same weights, on `(batch, S)` tokens that windows cover.

    Raises:
        ParityError: If the outputs differ.
    """
    config = ours.model.config
    was = config.attention_window, config.attention_dilation
    config.attention_window, config.attention_dilation = 2 * input_ids.shape[1], 1
    try:
        _check_same(ours, dense, input_ids, "a dense model computes")
    finally:
        config.attention_window, config.attention_dilation = was


@torch.no_grad()
def check_writers(ours: Peer, bart: Peer, size: str) -> None:
    """Compares the logits of two decoders with the same weights, about the same states.

    Raises:
        ParityError: If they differ.
    """
    ids = random_ids(size, 1, 2 * parity_length(8))
    states = torch.randn(1, len(ids[0]), SIZES[size]["hidden_size"], generator=torch.Generator().manual_seed(1))
    device = ours.model.device
    encoded, read = BaseModelOutput(last_hidden_state=states.to(device)), ids.to(device)
    logits = [peer.model(encoder_outputs=encoded, decoder_input_ids=read).logits for peer in (ours, bart)]
    _check_tolerance(logits[0], logits[1], "BART's decoder computes")


def _parity_ids(ours: Peer, size: str) -> torch.Tensor:
    """A text whose length suits the first layer's window, as far as the model can read."""
    config = encoder_config(ours.model.config)
    length = parity_length(config.attention_windows[0], config.attention_dilations[0])
    return random_ids(size, 1, min(length, config.max_length_tokens)).to(ours.model.device)


def _check_same(ours: Peer, other: Peer, input_ids: torch.Tensor, what: str) -> None:
    outputs = [peer.hidden_states(peer.inputs(input_ids)) for peer in (ours, other)]
    _check_tolerance(outputs[0], outputs[1], what)


def _check_tolerance(ours: torch.Tensor, other: torch.Tensor, what: str) -> None:
    difference = float((ours - other).abs().max())
    if not difference <= STOCK_TOLERANCE:
        raise ParityError(
            f"the model must compute what {what} to {STOCK_TOLERANCE}, got a difference of {difference:.2g}: no speed "
            "is shown"
        )


def _check_budget(
    what: str, ours: list[torch.Tensor], reference: list[torch.Tensor], exact: list[torch.Tensor]
) -> None:
    for kind, budget, *tensors in zip(
        ("outputs", "gradients"), (OUTPUT_BUDGET, GRADIENT_BUDGET), ours, reference, exact, strict=False
    ):
        error, allowed = (_relative_error(tensor, tensors[2]) for tensor in tensors[:2])
        if not error <= budget * allowed:  # NaN is in no order with anything
            raise ParityError(
                f"the {kind} of {what} must be within {budget:g} times the definition's own error of {allowed:.2g}, "
                f"got {error:.2g}: no speed is shown"
            )


def _relative_error(tensor: torch.Tensor, exact: torch.Tensor) -> float:
    return float((tensor.double() - exact).norm() / exact.norm())
