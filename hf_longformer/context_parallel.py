# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Several processes work on one document: each on a slice of it, and what windows and global tokens need of the other
slices is exchanged in every layer, however long the document is.

To all that stands around the model, the processes of a group seem to compute the same text: they are given the same
batch, their losses are the loss of the whole text, and the mean of their gradients is its gradient.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from .collectives import all_reduce
from .modeling_causal_hf_longformer import HfLongformerForCausalLM
from .modeling_heads_hf_longformer import (
    HfLongformerForMaskedLM,
    HfLongformerForMultipleChoice,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
    HfLongformerForTokenClassification,
)
from .modeling_hf_longformer import HfLongformerModel, HfLongformerPreTrainedModel
from .slice_exchange import SliceExchange
from .token_roles import SlicedTexts, TokenRoles
from .transformers_internals import is_tracing

# The module of a head whose outputs are put together: those of all tokens, or one for the text.
GATHERED = {HfLongformerForQuestionAnswering: "qa_outputs", HfLongformerForTokenClassification: "classifier"}
OF_FIRST_TOKEN = {HfLongformerForSequenceClassification: "classifier", HfLongformerForMultipleChoice: "classifier"}
LANGUAGE_MODELS = (HfLongformerForMaskedLM, HfLongformerForCausalLM)  # whose loss is a sum over tokens
SUPPORTED = (HfLongformerModel, *GATHERED, *OF_FIRST_TOKEN, *LANGUAGE_MODELS)


@contextmanager
def context_parallel(model: nn.Module, group: Any) -> Iterator["TextDivision"]:
    """Inside, every process of a group computes a slice of the texts that the model is given.

    All processes of the group pass the same batch, whole; positions, padding and global tokens are those of the whole
    texts. Which outputs are whole:

    * the losses of all heads, and the logits of heads that classify texts, tokens, choices or answers;
    * of language models, and of the encoder alone, `logits`, `last_hidden_state` and `hidden_states` are those of the
      slice; `TextDivision.gather` puts them together.

    The mean over the group of a parameter's gradients is its gradient. `DistributedDataParallel` and FSDP take it when
    they average over all processes, those that share a text and those that have others; they may be around the model,
    or put around it inside. Losses of your own must be computed from whole outputs, in every process.

    Dropout is drawn anew in every process, from seeds that a generator of the process gives in every step: seed all
    processes alike or not, as you please.

    Args:
        model: A model of this package, or a module around one.
        group: The processes that share a text: a `ProcessGroup`, or a `DeviceMesh` of one dimension.

    Yields:
        The division of texts among the processes.

    Raises:
        ValueError: If there is no such model or group; while computing, if a text has fewer tokens than there are
            processes, or processes were given different batches.
        NotImplementedError: If the head, or what is asked of it, cannot be divided.

    Source: sequence parallelism by neighbour exchange, after arXiv 2105.13120; merged softmax, arXiv 1805.02867.
    """
    found = [module for module in model.modules() if isinstance(module, HfLongformerPreTrainedModel)]
    if not found:
        raise ValueError(f"context_parallel needs a model of hf-longformer, got {type(model).__name__}")
    head, encoders = found[0], [module for module in found if _kind(module) is HfLongformerModel]
    if _kind(head) not in SUPPORTED or len(encoders) != 1:
        names = ", ".join(kind.__name__ for kind in SUPPORTED)
        raise NotImplementedError(f"context_parallel can divide the texts of {names}, got {_kind(head).__name__}")
    encoder: Any = encoders[0]
    if encoder.text_division is not None:
        raise ValueError("the texts of this model are divided already: leave the other context_parallel first")
    division = TextDivision(_group_of(group))
    with ExitStack() as hooks:
        for handle in _hook(head, encoder, division):
            hooks.callback(handle.remove)
        encoder.text_division = division
        hooks.callback(setattr, encoder, "text_division", None)
        yield division


def _kind(module: nn.Module) -> Any:
    """The class of a model; sharded, it is of one that FSDP makes of this."""
    return next(kind for kind in type(module).__mro__ if not issubclass(kind, FSDPModule))


def _group_of(group: Any) -> Any:
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(
                f"the mesh must have one dimension, that of the processes which share a text, got {group.ndim}: "
                'take a part of it, such as mesh["cp"]'
            )
        group = group.get_group()
    if not isinstance(group, distributed.ProcessGroup):
        raise ValueError(
            f"group must be a ProcessGroup or a DeviceMesh that this process belongs to, got {type(group).__name__}"
        )
    return group


class TextDivision:
    """How texts are divided among the processes of a group: into slices of about the same length, in order.

    Args:
        group: The processes.
    """

    def __init__(self, group: Any) -> None:
        self.group, self.rank, self.size = group, distributed.get_rank(group), distributed.get_world_size(group)
        self.length = 0
        self.around_forward: list[ExitStack] = []

    def bounds(self, length: int) -> list[int]:
        """Where the slices of a text of so many tokens begin, and where the last one ends: one more than processes."""
        return [length * rank // self.size for rank in range(self.size + 1)]

    def slice(self, tensor: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """The part of this process of a tensor of whole texts."""
        start, stop = self.bounds(tensor.shape[dim])[self.rank : self.rank + 2]
        return tensor.narrow(dim, start, stop - start).contiguous()

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """`(batch, slice, …)` of every process to `(batch, S, …)`, of the texts computed last, in every process.

        Raises:
            ValueError: If the tensor is not that of a slice.
        """
        start, stop = self.bounds(self.length)[self.rank : self.rank + 2]
        if tensor.dim() < 2 or tensor.shape[1] != stop - start:
            raise ValueError(f"the slice has {stop - start} tokens, got a tensor {tuple(tensor.shape)}")
        whole = tensor.new_zeros(tensor.shape[0], self.length, *tensor.shape[2:])
        return all_reduce(torch.cat([whole[:, :start], tensor, whole[:, stop:]], dim=1), self.group)

    def first_states(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The state of the first real token of every text, `(batch, 1, hidden_size)`, in every process."""
        start, number = self.bounds(self.length)[self.rank], hidden_states.shape[1]
        if attention_mask is None:
            first = torch.full((len(hidden_states),), -start, device=hidden_states.device)
        else:
            first = attention_mask.long().argmax(dim=1) - start
        index = first.clamp(0, number - 1)[:, None, None].expand(-1, 1, hidden_states.shape[-1])
        is_elsewhere = ((first < 0) | (first >= number))[:, None, None]
        return all_reduce(hidden_states.gather(1, index).masked_fill(is_elsewhere, 0.0), self.group)

    def of_first_process(self, tensor: torch.Tensor) -> torch.Tensor:
        """What the first process has, in every process: of several that dropped out different things, one counts."""
        others = torch.full((), self.rank > 0, device=tensor.device)
        return all_reduce(tensor.masked_fill(others, 0.0), self.group)

    def divide(
        self, inputs: tuple[torch.Tensor | None, ...], roles: TokenRoles
    ) -> tuple[tuple[torch.Tensor | None, ...], SlicedTexts]:
        """The slice of this process, of what embeddings take, `(batch or 1, S, …)`, and of roles.

        Raises:
            ValueError: If there are fewer tokens than processes.
        """
        self.length = next(one.shape[1] for one in inputs if one is not None)
        if self.length < self.size:
            raise ValueError(f"{self.size} processes need at least as many tokens to divide, got {self.length}")
        bounds = self.bounds(self.length)
        kept = tuple(None if one is None else self.slice(one) for one in inputs)
        return kept, SlicedTexts(
            texts=roles,
            length=self.length,
            start=bounds[self.rank],
            stop=bounds[self.rank + 1],
            exchange=SliceExchange(self.group, bounds, roles),
        )


def _hook(head: Any, encoder: Any, division: TextDivision) -> Iterator[Any]:
    """Puts on a model what makes its inputs and outputs those of whole texts; yields handles that take it off again."""
    yield head.register_forward_pre_hook(_before(head, encoder, division), with_kwargs=True)
    yield head.register_forward_hook(_after(head, division), with_kwargs=True, always_call=True)

    def take_first(module: nn.Module, given: tuple[torch.Tensor, torch.Tensor | None]) -> tuple[torch.Tensor, None]:
        return division.first_states(*given), None

    if encoder.pooler is not None:
        yield encoder.pooler.register_forward_pre_hook(take_first)
    if isinstance(head, HfLongformerForSequenceClassification):
        yield head.classifier.register_forward_pre_hook(take_first)
    for table, put_together in ((GATHERED, division.gather), (OF_FIRST_TOKEN, division.of_first_process)):
        if _kind(head) in table:
            module = getattr(head, table[_kind(head)])
            yield module.register_forward_hook(lambda module, given, output, whole=put_together: whole(output))


def _before(head: Any, encoder: Any, division: TextDivision) -> Callable:
    signature = inspect.signature(type(head).forward)

    def before(module: nn.Module, given: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        bound = signature.bind(module, *given, **kwargs).arguments
        kwargs = {**bound, **bound.pop("kwargs", {})}
        kwargs.pop("kwargs", None)
        kwargs.pop(next(iter(signature.parameters)))  # self
        _refuse(head, encoder, kwargs)
        _check_same(kwargs, division)
        if isinstance(head, LANGUAGE_MODELS) and kwargs.get("labels") is not None:
            kwargs = _slice_labels(head, kwargs, division)
        if encoder.has_causal_layers:
            kwargs["use_cache"] = False
        division.around_forward.append(_own_randomness(division.rank) if head.training else ExitStack())
        return (), kwargs

    return before


def _after(head: Any, division: TextDivision) -> Callable:
    def after(module: nn.Module, given: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if division.around_forward:  # unless inputs were refused
            division.around_forward.pop().close()
        if output is None or not isinstance(head, LANGUAGE_MODELS) or output.loss is None:
            return output
        part = output.loss * division.size
        whole = all_reduce(output.loss.detach(), division.group)
        output.loss = part + (whole - part).detach()
        return output

    return after


def _refuse(head: Any, encoder: Any, kwargs: dict[str, Any]) -> None:
    """What a slice cannot do, in a sentence."""
    config = encoder.config
    asked = {name: kwargs.get(name, getattr(config, name, None)) for name in ("output_attentions", "return_dict")}
    if asked["output_attentions"]:
        raise NotImplementedError("attention weights are not returned of divided texts: leave output_attentions out")
    if asked["return_dict"] is False:
        raise NotImplementedError("outputs of divided texts have names: leave return_dict=False out")
    if config._attn_implementation == "eager":
        raise NotImplementedError(
            'attn_implementation="eager" computes whole texts, got texts that are divided: take "sdpa"'
        )
    if config.layerdrop and head.training:
        raise NotImplementedError(
            f"processes that share a text would leave out different layers: set layerdrop to 0, got {config.layerdrop}"
        )
    if config.position_embedding_type != "absolute":
        raise NotImplementedError(
            f"texts with absolute positions can be divided, got {config.position_embedding_type} ones: leave them whole"
        )
    if config.retrieval is not None:
        raise NotImplementedError(
            "chunks of a text and what was found for them are read by one process: leave the text whole, or set "
            f"config.retrieval to None, got {config.retrieval}"
        )
    for name in ("past_key_values", "cache", "use_cache", "logits_to_keep"):
        if kwargs.get(name) is not None and kwargs[name] is not False and kwargs[name] != 0:
            raise NotImplementedError(f"texts that are divided are read at once and whole: leave {name} out")
    tensors = [one for one in kwargs.values() if isinstance(one, torch.Tensor)]
    if torch.compiler.is_compiling() or any(map(is_tracing, tensors)):
        raise NotImplementedError("texts are divided in eager mode: do not compile or export the model inside")


def _check_same(kwargs: dict[str, Any], division: TextDivision) -> None:
    """Raises `ValueError` in all processes if they were given different batches."""
    tensors = {name: one for name, one in sorted(kwargs.items()) if isinstance(one, torch.Tensor)}
    if not tensors:
        return
    device = next(iter(tensors.values())).device
    digest = sum(_digest(name, one).to(device) for name, one in tensors.items())
    extremes = torch.stack([digest, -digest])  # type: ignore[list-item]
    distributed.all_reduce(extremes, distributed.ReduceOp.MAX, division.group)
    if int(extremes.sum()):
        raise ValueError(
            "processes that share a text must be given the same batch, whole, got different ones: divide texts by "
            "context_parallel alone, and draw batches and random masks by the same seed"
        )


def _digest(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A number of what a tensor is and holds."""
    seed = hash((sum(name.encode()), tuple(tensor.shape))) % 2**31
    values = tensor.detach().flatten()
    bits = values.double().view(torch.int64) if values.is_floating_point() else values.long()
    places = torch.arange(1, len(bits) + 1, device=bits.device) * 0x9E3779B97F4A7C1 + seed
    return ((bits + seed) * places % (2**31 - 1)).sum()


def _slice_labels(head: Any, kwargs: dict[str, Any], division: TextDivision) -> dict[str, Any]:
    """Labels of the slice, and what the sum of their losses is divided by: the labels of the whole text."""
    labels = kwargs["labels"]
    if isinstance(head, HfLongformerForCausalLM):
        shifted = kwargs.get("shift_labels")
        labels = nn.functional.pad(labels[:, 1:], (0, 1), value=-100) if shifted is None else shifted
        kwargs = {**kwargs, "shift_labels": division.slice(labels)}  # over the edges of slices
    if kwargs.get("num_items_in_batch") is None:
        kwargs = {**kwargs, "num_items_in_batch": labels.ne(-100).sum()}
    return {**kwargs, "labels": division.slice(labels)}


def _own_randomness(rank: int) -> ExitStack:
    """Until it is closed, random numbers of this process alone; those of everybody else go on as if nothing was drawn
    but one number.
    """
    seed = int(torch.randint(2**31, ()))
    stack = ExitStack()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    stack.enter_context(torch.random.fork_rng(devices))
    torch.manual_seed(seed + rank * 2**31)
    return stack


__all__ = ["TextDivision", "context_parallel"]
