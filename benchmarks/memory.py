# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Expected peak memory of our encoder on a CPU, from what its code keeps: `hf-longformer bench --estimate-memory`.

Written with T tokens (batch · length), d = hidden_size, f = intermediate_size, e bytes per number (4 in float32, 2 in
bfloat16). Not in it: Python and its libraries (some 500 MB), and the logits of a language model.

**Inference** holds the weights, room for T · e · f of wide states, but at most 12 MiB, which the feed-forwards of all
layers share, and at its peak, in the attention, T · e · 6 d. Longer texts than `text_segments.LONG_TEXT` hold their
states, T · e · d, and at the peak one segment.

**Training** in mixed precision keeps weights, gradients and AdamW's two moments in float32, 16 bytes per weight. What
autograd saves is listed by `saved_by_layer`, term by term. The peak is the larger of two: where the backward pass
begins, everything saved and the gradients that one feed-forward works with; and where it ends, all gradients. With
gradient checkpointing only the input of every layer is saved, and one layer at a time is computed again.

So much lives. **The default allocator** of the GNU C library keeps what is freed below 32 MiB, and cannot use all of
it again for aligned tensors: gradients come beside what the backward pass has freed. With gradient checkpointing those
that fit come into the holes that a layer leaves, so that the layer below, computed again, finds no room there: every
layer comes beside the one before, and checkpointing saves next to nothing but tensors above 32 MiB. `kept` is that.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from hf_longformer import HfLongformerConfig, HfLongformerModel
from hf_longformer.conversion import InputError
from hf_longformer.text_segments import LONG_TEXT, SEGMENT

from .peers import SIZES, our_config

FEWEST_ROWS, MOST_ROWS = 64, 256  # of the attention with dropout, whose weights are there block by block
PART = 12 * 2**20  # bytes that a feed-forward widens tokens to at a time
FULL = 4  # bytes of what stays in float32
LARGEST_IN_THE_HEAP = 32 * 2**20  # bytes: M_MMAP_THRESHOLD never grows beyond
# Of how many tensors an entry of `saved_by_layer` consists, if it is not one.
TENSORS = {
    "query, key, value and output of the attention": 4,
    "inputs of layer norms, mean and deviation": 2,
    "feed-forward before the activation": 2,  # with gradient checkpointing, for which it counts
}


@dataclass(frozen=True)
class Setting:
    """What is to run.

    Args:
        length: Tokens per text.
        batch: Texts.
        dtype: `"float32"` or `"bfloat16"`; training in bfloat16 is mixed precision (autocast).
        checkpointing: Whether training computes layers again instead of keeping what is in them.
    """

    length: int
    batch: int = 1
    dtype: str = "float32"
    checkpointing: bool = False

    @property
    def tokens(self) -> int:
        """In the batch."""
        return self.batch * self.length

    @property
    def bytes_per_number(self) -> int:
        """Of what is computed in `dtype`."""
        return 2 if self.dtype == "bfloat16" else FULL


def read_config(model: str, length: int, attention_window: int | None = None) -> HfLongformerConfig:
    """The configuration of a size, or of a checkpoint of ours.

    Args:
        model: One of `SIZES`, or a folder.
        length: Tokens that it is to read.
        attention_window: Another window than its own.

    Raises:
        InputError: If there is none, or it cannot read so much.
    """
    if model in SIZES:
        return our_config(model, length, attention_window or 512)
    if not (Path(model) / "config.json").is_file():
        raise InputError(
            f"--estimate-memory must be one of {', '.join(SIZES)} or the folder of a checkpoint, got {model}"
        )
    try:
        kind = HfLongformerConfig.get_config_dict(model, local_files_only=True)[0].get("model_type")
        if kind != HfLongformerConfig.model_type:
            raise InputError(
                f"{model} must hold a checkpoint of this package, got one of {kind} that was not converted: run "
                "`hf-longformer convert` first"
            )
        config = HfLongformerConfig.from_pretrained(model, local_files_only=True)
    except InputError:
        raise
    except (ValueError, OSError, NotImplementedError) as error:
        raise InputError(f"{model} must hold a checkpoint of this package, got one that is not: {error}") from error
    if config.is_decoder:
        raise InputError(f"memory is estimated for encoders, got a causal model in {model}")
    if length > config.max_length_tokens:
        raise InputError(f"--length must be at most {config.max_length_tokens}, which {model} can read, got {length}")
    if attention_window is not None:
        config.attention_window = attention_window
    return config


def parameter_counts(config: HfLongformerConfig) -> tuple[int, int]:
    """How many weights an encoder has, and how many of them get gradients: the pooler's do not. No memory is used."""
    with torch.device("meta"):
        model = HfLongformerModel(config)
    total = model.num_parameters()
    return total, total - (config.hidden_size + 1) * config.hidden_size


def estimate(
    config: HfLongformerConfig, setting: Setting, total: int, trained: int, has_global: bool = True
) -> dict[str, dict[str, int]]:
    """Expected peak memory in bytes, by part.

    Args:
        config: The encoder's configuration.
        setting: What is to run.
        total: Its weights.
        trained: Those of them that get gradients.
        has_global: Whether there are global tokens, a few per text.

    Returns:
        For `inference` and `training` their `peak`, and in it `weights`, `optimizer` (training), `gradients` and
        `activations` at the peak; and `kept`, what the default allocator adds to that peak.
    """
    tokens, size, d = setting.tokens, setting.bytes_per_number, config.hidden_size
    wide, states = tokens * size * config.intermediate_size, tokens * size * d
    whole, attention = 2 * states + 2 * wide, 6 * states
    blocks = _blocks(config, setting, size)
    at_peak = states + 6 * SEGMENT * size * d if setting.length > LONG_TEXT else attention
    inference = {"weights": total * size, "activations": min(wide, PART) + at_peak + blocks}

    layers = config.num_hidden_layers
    layer = sum(saved_by_layer(config, setting, has_global).values())
    copies = weight_copies(config, setting, has_global)
    edges = tokens * 2 * d * FULL  # input of the embeddings' layer norm, last hidden states
    # The feed-forward's wide states, activated again, and their gradient; a gradient of the residual connection.
    gradients_at_work = tokens * (2 * config.intermediate_size * size + d * FULL) + _blocks(config, setting, FULL)
    if setting.checkpointing:
        inputs = layers * tokens * d * FULL
        forward_ends = edges + inputs + layers * copies + max(whole, attention) + blocks
        begins = edges + inputs + layer + copies + gradients_at_work
    else:
        forward_ends = 0
        begins = edges + layers * (layer + copies) + gradients_at_work
    ends = trained * FULL + edges
    stages = {(forward_ends, 0), (begins, 0), (ends - trained * FULL, trained * FULL)}
    activations, gradients = max(stages, key=lambda stage: stage[0] + stage[1])
    training = {
        "weights": total * FULL,
        "optimizer": 2 * total * FULL,
        "gradients": gradients,
        "activations": activations,
    }
    kept = begins + trained * FULL - activations - gradients
    if setting.checkpointing:
        holes = _holes(saved_by_layer(config, setting, has_global))
        kept += (layers - 1) * sum(holes.values()) - layers * _gradients_in(holes, config, has_global)
    return {
        "inference": {"peak": sum(inference.values()), "kept": 0, "optimizer": 0, **inference},
        "training": {"peak": sum(training.values()), "kept": kept, **training},
    }


def saved_by_layer(config: HfLongformerConfig, setting: Setting, has_global: bool = True) -> dict[str, int]:
    """Bytes that autograd saves in one layer, by what they are; copies of weights are apart (`weight_copies`)."""
    d, f, size = config.hidden_size, config.intermediate_size, setting.bytes_per_number
    per_token = {
        "input of query, key and value": d * size,
        "query, key, value and output of the attention": 4 * d * size,
        "its log-sum-exp": 0 if config.attention_probs_dropout_prob else config.num_attention_heads * FULL,
        "output with the rows of global tokens": d * size if has_global else 0,
        "weights of global tokens": 3 * config.num_attention_heads * FULL if has_global else 0,
        "inputs of layer norms, mean and deviation": 2 * (d * FULL + 2 * FULL),
        "input of the feed-forward": d * size,
        # Activated again when it is needed, except in a checkpoint's second pass, where it is needed at once.
        "feed-forward before the activation": (2 if setting.checkpointing else 1) * f * size,
    }
    return {name: setting.tokens * count for name, count in per_token.items()}


def _holes(saved: dict[str, int]) -> dict[str, int]:
    """What the default allocator of the GNU C library does not return when it is freed, of `saved_by_layer`."""
    return {name: count for name, count in saved.items() if _of_one(name, count) <= LARGEST_IN_THE_HEAP}


def _gradients_in(holes: dict[str, int], config: HfLongformerConfig, has_global: bool) -> int:
    """Bytes of the gradients of a layer's weights that are no larger than the largest hole."""
    largest = max((_of_one(name, count) for name, count in holes.items()), default=0)
    return sum(FULL * numbers for numbers in _matrices(config, has_global) if FULL * numbers <= largest)


def _of_one(name: str, count: int) -> int:
    """Bytes of one of the tensors that an entry of `saved_by_layer` consists of."""
    return count // TENSORS.get(name, 1)


def weight_copies(config: HfLongformerConfig, setting: Setting, has_global: bool = True) -> int:
    """Bytes of copies of a layer's weights that the backward pass reads: those that autocast makes in bfloat16."""
    size = setting.bytes_per_number
    return 0 if size == FULL else size * sum(_matrices(config, has_global))


def _matrices(config: HfLongformerConfig, has_global: bool) -> list[int]:
    """Numbers of every weight matrix of a layer that is used."""
    d, f = config.hidden_size, config.intermediate_size
    return [d * d] * (7 if has_global else 4) + [d * f] * 2


def _blocks(config: HfLongformerConfig, setting: Setting, size: int) -> int:
    """Bytes of what the attention works with: the weights of one block of rows, and as much again for each of three."""
    window = config.attention_windows[0]
    if setting.bytes_per_number == FULL:
        rows = FEWEST_ROWS if window <= 1024 else MOST_ROWS
    else:
        rows = min(max(window // 4 // FEWEST_ROWS * FEWEST_ROWS, FEWEST_ROWS), MOST_ROWS)
    reach = min(setting.length, window + rows)
    return 4 * setting.batch * config.num_attention_heads * min(setting.length, rows) * reach * size


def estimate_lines(name: str, setting: Setting, expected: dict[str, dict[str, int]]) -> list[str]:
    """An estimate as lines of text, in MiB."""
    how = ", gradient checkpointing" if setting.checkpointing else ""
    lines = [f"{name}, {setting.batch} × {setting.length:,} tokens, {setting.dtype}, on a CPU:"]
    for task, parts in expected.items():
        listed = ", ".join(
            f"{part} {parts[part] / 2**20:,.0f}"
            for part in ("weights", "optimizer", "gradients", "activations")
            if parts.get(part)
        )
        lines.append(f"  {task}{how if task == 'training' else ''}: {parts['peak'] / 2**20:,.0f} MiB ({listed})")
        held = (parts["peak"] + parts["kept"]) / 2**20
        lines.append(f"    with the default allocator of the GNU C library: {held:,.0f} MiB")
    lines.append("MALLOC_MMAP_THRESHOLD_=131072 in the environment gives back what the default allocator keeps.")
    return lines
