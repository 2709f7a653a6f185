# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What every process of `test_context_parallel.py` does: `RANK=… WORLD_SIZE=… python FILE FOLDER CHECK ARGUMENTS`."""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from helpers import random_masks_and_pattern, randomise, tiny_config
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers.utils.logging import disable_progress_bar

import hf_longformer
from hf_longformer import collectives
from hf_longformer.context_parallel import SUPPORTED, TextDivision, context_parallel
from hf_longformer.transformers_internals import CHECKPOINTING

Draw = Callable[[int], int]


def problem(seed: int) -> tuple[Any, dict[str, Any]]:
    """A model in float64, of the head that the seed says, and a batch."""
    random = torch.Generator().manual_seed(seed)

    def draw(number: int) -> int:
        return int(torch.randint(number, (), generator=random))

    kind, length = SUPPORTED[seed % len(SUPPORTED)], 20 + draw(41)
    is_causal = kind.__name__ == "HfLongformerForCausalLM" or (kind is hf_longformer.HfLongformerModel and not draw(2))
    patterns = [random_masks_and_pattern(random, length, heads=3) for _ in range(2)]
    is_global, real, _ = patterns[0]
    fields: dict[str, Any] = {
        "attention_window": [pattern.attention_window for *_, pattern in patterns],
        "attention_dilation": [list(pattern.dilations) * (3 // len(pattern.dilations)) for *_, pattern in patterns],
        "is_decoder": is_causal,
        "global_projections": (None, "shared")[draw(2)],
        "norm_style": ("post", "pre")[draw(2)],
        "tag_layers": 1 + draw(2) * (kind is hf_longformer.HfLongformerForTokenClassification),
    }
    if not draw(3):
        fields |= {"repeat_positions": True, "max_position_embeddings": 10}
    if not is_causal and not draw(2):
        fields["global_scaling_length"] = 8
    model = randomise(kind(tiny_config(**fields))).double().train()
    if is_language_model(model):
        model.loss_function = partial(loss_in_float64, is_causal=is_causal)
    if draw(2):
        getattr(model, f"{CHECKPOINTING}_enable")()
    return model, batch_of(model, length, is_global, real, random, draw)


def is_language_model(model: Any) -> bool:
    return type(getattr(model, "module", model)).__name__.endswith(("MaskedLM", "CausalLM"))


def loss_in_float64(
    logits: torch.Tensor,
    labels: torch.Tensor,
    is_causal: bool,
    shift_labels: torch.Tensor | None = None,
    num_items_in_batch: Any = None,
    **_: Any,
) -> torch.Tensor:
    """That of language models, which Transformers takes in float32."""
    if is_causal:
        labels = nn.functional.pad(labels[:, 1:], (0, 1), value=-100) if shift_labels is None else shift_labels
    total = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    return total / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)


def batch_of(
    model: Any,
    length: int,
    is_global: torch.Tensor | None,
    real: torch.Tensor | None,
    random: torch.Generator,
    draw: Draw,
) -> dict[str, Any]:
    """Two texts, or choices; without a mask the head decides what is global."""
    name = type(model).__name__.removeprefix("HfLongformer")
    ids = torch.randint(5, 99, (2, length), generator=random)
    ids[:, 3] = ids[:, 9] = 2
    batch: dict[str, Any] = {"input_ids": ids}
    if real is not None:
        batch["attention_mask"] = real.long()
    if is_global is not None:
        batch["global_attention_mask"] = is_global.long()
    if draw(2):
        batch["token_type_ids"] = torch.randint(2, ids.shape, generator=random)
    labels = ids.masked_fill(torch.rand(2, length, generator=random) < 0.6, -100)
    labels[0, length // 2] = 7
    if name == "ForTokenClassification":
        labels = labels.where(labels == -100, labels % 2)
        labels = torch.stack([labels] * model.config.tag_layers, dim=-1) if model.config.tag_layers > 1 else labels
    if name == "ForMultipleChoice":
        batch = {key: value[None] for key, value in batch.items()}
    one_per_text = {"ForSequenceClassification": torch.tensor([0, 1]), "ForMultipleChoice": torch.tensor([1])}
    if name == "ForQuestionAnswering":
        spans = torch.randint(length, (2, 2), generator=random)
        return batch | {"start_positions": spans[0], "end_positions": spans[1]}
    if name == "ForMaskedLM":
        batch["masked_only"] = bool(draw(2))
    return batch if name == "Model" else batch | {"labels": one_per_text.get(name, labels)}


def compute(model: Any, batch: dict[str, Any], division: TextDivision | None = None) -> dict[str, torch.Tensor]:
    """Outputs, made whole, after a backward pass."""
    outputs = model(**batch, output_hidden_states=True)
    whole = (lambda tensor: tensor) if division is None else division.gather
    found = {f"states {number}": whole(one) for number, one in enumerate(outputs.hidden_states or ())}
    loss = outputs.get("loss")
    if loss is None:
        states = whole(outputs.last_hidden_state)
        weights = torch.linspace(0, 1, states[0].numel(), dtype=states.dtype).view_as(states[0])
        loss = (states * weights).sum() + outputs.pooler_output.square().sum()
        found["pooled"] = outputs.pooler_output
    for name in ("logits", "start_logits", "end_logits"):
        is_of_slice = is_language_model(model)
        if name in outputs and not (is_of_slice and batch.get("masked_only")):
            found[name] = whole(outputs[name]) if is_of_slice else outputs[name]
    loss.backward()
    return {"loss": loss} | found


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """By name, those that there are."""
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return {name: one.full_tensor() if isinstance(one, DTensor) else one for name, one in found.items()}


def averaged(found: dict[str, torch.Tensor], group: Any = None) -> dict[str, torch.Tensor]:
    for name in sorted(found):
        distributed.all_reduce(found[name], group=group)
        found[name] /= distributed.get_world_size(group)
    return found


def check_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str) -> None:
    for name in expected.keys() | found.keys():
        got = found.get(name, torch.zeros(()))  # a parameter that is not used, with a gradient of 0 or None
        wanted = expected.get(name, torch.zeros(()))
        got, wanted = torch.broadcast_tensors(got.double(), wanted.double())
        message = lambda text, name=name: f"{what}, {name}: {text}"  # noqa: E731
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-9, msg=message)


def check_seeds(first: int, last: int) -> None:
    """Every process computes the whole texts, and then, with the others, its slice of them."""
    for seed in range(first, last):
        model, batch = problem(seed)
        expected = compute(model, batch)
        of_weights = gradients(model)
        model.zero_grad()
        with context_parallel(model, distributed.group.WORLD) as division:
            found = compute(model, batch, division)
        check_close(found, expected, f"seed {seed}")
        check_close(averaged(gradients(model)), of_weights, f"gradients of seed {seed}")


def check_mesh(first: int, last: int) -> None:
    """Two groups of two processes, each with a batch of its own, under DDP and FSDP2."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "cp"))
    for seed in range(first, last):
        for kind in ("ddp", "fsdp"):
            batches = []
            model, batch = problem(seed)
            for shift in range(2):
                batches.append(batch | {"input_ids": (batch["input_ids"] + shift).clamp(max=98)})
            for each in batches:
                loss = compute(model, each)["loss"] / 2
            del loss
            of_weights = {name: one / 2 for name, one in gradients(model).items()}
            model.zero_grad()
            own = batches[mesh.get_local_rank("dp")]
            wrapped: Any = model
            if kind == "ddp":
                wrapped = DistributedDataParallel(model)
            else:
                encoder = getattr(model, "longformer", model)
                for layer in encoder.encoder.layer:
                    fully_shard(layer)
                fully_shard(model)
            with context_parallel(wrapped, mesh["cp"]) as division:
                compute(wrapped, own, division)
            check_close(gradients(model), of_weights, f"{kind}, gradients of seed {seed}")


def sent(model: Any, length: int, division_of: Any) -> list[int]:
    """Bytes that this process gives to the collectives of a layer and of a forward pass, one after the other."""
    numbers: list[int] = []
    real = collectives.distributed.all_to_all_single

    def counted(output: torch.Tensor, given: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        numbers.append(given.numel() * given.element_size())
        return real(output, given, *args, **kwargs)

    collectives.distributed.all_to_all_single = counted
    try:
        ids = torch.full((1, length), 7)
        marked = torch.zeros_like(ids)
        marked[0, [0, 1, length // 2]] = 1
        with context_parallel(model, division_of):
            model(input_ids=ids, global_attention_mask=marked, labels=ids).loss.backward()
    finally:
        collectives.distributed.all_to_all_single = real
    return numbers


def check_bytes() -> None:
    """As many for a long text as for a short one: the window's and the global tokens', forward and backward."""
    model = hf_longformer.HfLongformerForMaskedLM(tiny_config(max_position_embeddings=5000))
    short, long = (sent(model, length, distributed.group.WORLD) for length in (160, 4096))
    assert short == long, (short, long)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    neighbours = (rank > 0) + (rank < world - 1)
    owned = [2, 0, 1, 0] if world == 4 else [2, 1]
    halo, of_global = 4 * neighbours * 24 * 4, owned[rank] * world * 24 * 4
    parts = 3 * 3 * (8 + 2) * 4  # tokens, heads, numbers of each
    assert short[:4] == [halo + of_global, parts] * 2, (short, halo, of_global, parts)
    assert len(short) == 8  # two layers, forward and backward


def check_dropout() -> None:
    """Is drawn, by other seeds in every process and every step, and everybody else's random numbers stay alike."""
    fields = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5, "max_position_embeddings": 100}
    model = randomise(hf_longformer.HfLongformerModel(tiny_config(**fields), add_pooling_layer=False)).train()
    ids = torch.full((1, 80), 7)
    settings = {"global_attention_mask": torch.zeros_like(ids), "position_ids": torch.full((1, 80), 5)}
    torch.manual_seed(5)
    with context_parallel(model, distributed.group.WORLD) as division:
        one, other = (model(ids, **settings, output_hidden_states=True).hidden_states for _ in range(2))
        whole = division.gather(one[0])
        first, second = whole[:, :40] == 0, whole[:, 40:] == 0
        assert 0.4 < first.double().mean() < 0.6, first.double().mean()
        assert 0.4 < (first == second).double().mean() < 0.6  # independent
        assert not torch.equal(one[0], other[0])
        numbers = torch.rand(2)
        sums = collectives.all_reduce(numbers, distributed.group.WORLD)
        assert torch.equal(sums, numbers * distributed.get_world_size())
        model.eval()
        one, other = (model(ids, **settings).last_hidden_state for _ in range(2))
        assert torch.equal(one, other)
    kind = hf_longformer.HfLongformerForSequenceClassification
    classifier = randomise(kind(tiny_config(**fields))).train()
    drawn: list[torch.Tensor] = []
    classifier.classifier.out_proj.register_forward_hook(lambda module, given, output: drawn.append(output))
    with context_parallel(classifier, distributed.group.WORLD):
        logits = classifier(ids, labels=torch.tensor([1])).logits
    assert torch.equal(drawn[0], logits) == (distributed.get_rank() == 0)
    total = collectives.all_reduce(logits.detach(), distributed.group.WORLD)
    torch.testing.assert_close(total, logits.detach() * distributed.get_world_size())  # of one and the same draw


def refusal(call: Callable[[], Any], error: type[Exception]) -> str:
    """What is said."""
    try:
        call()
    except error as refused:
        return str(refused)
    raise AssertionError("nothing was refused")


def check_refusals() -> None:
    model = randomise(hf_longformer.HfLongformerForMaskedLM(tiny_config()))
    world = distributed.group.WORLD
    ids = torch.full((1, 20), 7)

    def inside(model: Any, *args: Any, **kwargs: Any) -> Any:
        with context_parallel(model, world):
            return model(*args, **kwargs)

    expected = model(ids).logits
    rank = distributed.get_rank()
    said = refusal(lambda: inside(model, ids + rank), ValueError)
    assert "must be given the same batch" in said
    assert "same batch" in refusal(lambda: inside(model, ids[:, : 20 - rank]), ValueError)
    assert "at least as many tokens to divide, got 1" in refusal(lambda: inside(model, ids[:, :1]), ValueError)
    for name, value in {"output_attentions": True, "return_dict": False, "use_cache": True}.items():
        assert name in refusal(lambda name=name, value=value: inside(model, ids, **{name: value}), NotImplementedError)
    for name, value in {"attn_implementation": "eager", "layerdrop": 0.5}.items():
        other = hf_longformer.HfLongformerForMaskedLM(tiny_config(**{name: value})).train()
        assert name in refusal(lambda other=other: inside(other, ids), NotImplementedError)
    rotary = tiny_config(is_decoder=True, position_embedding_type="rotary")
    assert "absolute positions can be divided, got rotary" in refusal(
        lambda: inside(hf_longformer.HfLongformerForCausalLM(rotary), ids), NotImplementedError
    )
    reads = hf_longformer.HfLongformerForCausalLM(tiny_config(is_decoder=True, retrieval={"chunk_size": 4}))
    assert "read by one process" in refusal(lambda: inside(reads, ids), NotImplementedError)
    evidence = hf_longformer.HfLongformerForCoreference(tiny_config(coreference={}))
    assert "got HfLongformerForCoreference" in refusal(lambda: inside(evidence), NotImplementedError)
    assert "model of hf-longformer, got Linear" in refusal(lambda: inside(nn.Linear(2, 2)), ValueError)
    with context_parallel(model, world) as division:
        assert "divided already" in refusal(lambda: inside(model, ids), ValueError)
        model(ids)
        assert "the slice has" in refusal(lambda: division.gather(expected), ValueError)
    mesh = init_device_mesh("cpu", (1, distributed.get_world_size()), mesh_dim_names=("dp", "cp"))
    with context_parallel(model, mesh["cp"]) as division:
        torch.testing.assert_close(division.gather(model(ids).logits), expected)
    for group, text in ((mesh, "must have one dimension"), (None, "must be a ProcessGroup")):
        assert text in refusal(lambda group=group: context_parallel(model, group).__enter__(), ValueError)
    assert torch.equal(model(ids).logits, expected)  # nothing is left on the model


CHECKS = {name.removeprefix("check_"): one for name, one in globals().items() if name.startswith("check_")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    disable_progress_bar()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=rank, world_size=world)
    for words in " ".join(sys.argv[2:]).split(","):
        name, *numbers = words.split()
        CHECKS[name](*map(int, numbers))
        sys.stdout.write(f"checked {words.strip()}\n")
    distributed.destroy_process_group()
