# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Who is measured: encoders of one size with random weights, since speed does not depend on them."""

import copy
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    BartConfig,
    BartForConditionalGeneration,
    BigBirdConfig,
    BigBirdModel,
    GPT2Config,
    GPT2Model,
    LEDConfig,
    LEDModel,
    LongformerModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
)

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerEncoderDecoderModel,
    HfLongformerForConditionalGeneration,
    HfLongformerModel,
)
from hf_longformer.conversion import export
from hf_longformer.conversion.plan import extend_positions

from .window_kernels import FLASH, MODERNBERT, VARLEN, attention_of_modernbert

CHUNK = 512  # tokens that a RoBERTa reads
OPERATOR = ("hf-longformer", "roles", "dense", "eager", FLASH, VARLEN)
INFERENCE = (
    *("hf-longformer", "compiled", "graphs", "stock", "roberta", "chunks", "bigbird", "modernbert"),
    *MODERNBERT,
)
# What `torch.compile` makes of others, beside whom "compiled" is ours; of BigBird, whose blocks NumPy draws, nothing.
COMPILED = {f"{name}-compiled": name for name in INFERENCE[3:] if name != "bigbird"}
INFERENCE += tuple(COMPILED)
TRAINING = ("hf-longformer", "compiled", "graphs", "checkpointing", *INFERENCE[3:])
ON_GPUS = ("compiled", "graphs", "roles", FLASH, VARLEN, *MODERNBERT, *COMPILED)  # unless they are asked for
PADDING = ("padded", "unpadded")
CAUSAL = ("causal", "gpt2")
SEQ2SEQ, WRITERS = ("encoder-decoder", "led"), ("encoder-decoder", "bart")
WRITTEN = 128  # tokens of what is written
TITLES = {
    "hf-longformer": "hf-longformer",
    "compiled": "hf-longformer, compiled",
    "roles": "hf-longformer, roles given",
    "graphs": "hf-longformer, CUDA graphs",
    "checkpointing": "hf-longformer, checkpointing",
    "stock": "stock Longformer",
    "roberta": "RoBERTa, dense",
    "chunks": f"RoBERTa, {CHUNK}-token chunks",
    "bigbird": "BigBird",
    "modernbert": "ModernBERT",
    "modernbert-flash": "ModernBERT, FlashAttention-4",
    "modernbert-varlen": "ModernBERT, varlen_attn",
    FLASH: "FlashAttention-4, the window alone",
    VARLEN: "varlen_attn, the window alone",
    "dense": "dense SDPA",
    "eager": "the definition (eager)",
    "padded": "hf-longformer, padded",
    "unpadded": "hf-longformer, one by one",
    "causal": "hf-longformer, causal",
    "gpt2": "GPT-2, dense",
    "bert": "dense BERT",
    "encoder-decoder": "hf-longformer, encoder-decoder",
    "led": "stock LED",
    "bart": "BART's decoder",
    "inference": "inference",
    "training": "training",
    "training-checkpointing": "training, checkpointing",
}
TITLES |= {name: f"{TITLES[source]}, compiled" for name, source in COMPILED.items()}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    # That of `model_cards/characters-tiny-en`.
    "characters": {"hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 512},
    "small": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
VOCABULARY, FIRST_ID = 50265, 5  # RoBERTa's; ids below are special
SMALLER_VOCABULARIES = {"tiny": 1000, "characters": 260}


@dataclass(frozen=True)
class Peer:
    """An encoder, and how it reads.

    Args:
        model: The encoder.
        chunk: Tokens that it reads at once; all if None.
        has_global: Whether the first token gets global attention.
    """

    model: PreTrainedModel
    chunk: int | None = None
    has_global: bool = False

    def inputs(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Arguments of the model for `(batch, S)` tokens."""
        if self.chunk is not None:
            rest = -input_ids.shape[1] % self.chunk if input_ids.shape[1] > self.chunk else 0
            whole = torch.nn.functional.pad(input_ids, (0, rest), value=FIRST_ID)
            return {"input_ids": whole.reshape(-1, min(self.chunk, whole.shape[1]))}
        inputs = {"input_ids": input_ids}
        if self.has_global:
            inputs["global_attention_mask"] = torch.zeros_like(input_ids)
            inputs["global_attention_mask"][:, 0] = 1
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
        return inputs

    def hidden_states(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The last ones, `(batch, S, hidden_size)`."""
        if isinstance(self.model, BigBirdModel):  # which changes for good to dense attention after a short text
            length, config = inputs["input_ids"].shape[1], self.model.config
            sparse = length > (5 + 2 * config.num_random_blocks) * config.block_size
            self.model.set_attention_type("block_sparse" if sparse else "original_full")
        return self.model(**inputs).last_hidden_state


class Seq2SeqPeer(Peer):
    """An encoder-decoder, which reads `WRITTEN` more tokens in its decoder."""

    def inputs(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Arguments of the model for `(batch, S)` tokens."""
        written = input_ids[:, :1].expand(-1, WRITTEN).contiguous()
        return {**super().inputs(input_ids, attention_mask), "decoder_input_ids": written}

    def hidden_states(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Those of the encoder and of the decoder, `(batch, S + T, hidden_size)`."""
        outputs = self.model(**inputs)
        return torch.cat([outputs.encoder_last_hidden_state, outputs.last_hidden_state], dim=1)


def our_config(size: str, longest: int, attention_window: int, attention_dilation: int = 1) -> HfLongformerConfig:
    """Our encoder of a size, in RoBERTa's dress."""
    return HfLongformerConfig(
        **SIZES[size],
        vocab_size=_vocabulary(size),
        type_vocab_size=1,
        max_position_embeddings=longest + 2,
        attention_window=attention_window,
        attention_dilation=attention_dilation,
        architectures=["HfLongformerModel"],
    )


def make_peers(
    names: Iterable[str], size: str, longest: int, attention_window: int, attention_dilation: int = 1
) -> dict[str, Peer]:
    """Encoders in float32, with dropout where they are trained with it.

    Args:
        names: Of `INFERENCE`, `TRAINING` or `PADDING`.
        size: One of `SIZES`; ModernBERT has its own proportions.
        longest: Tokens that they can read.
        attention_window: Of Longformers.
        attention_dilation: Of ours.
    """
    torch.manual_seed(0)
    asked, sizes = set(names), SIZES[size]
    names = {COMPILED.get(name, name) for name in asked}
    common: dict[str, Any] = {
        "vocab_size": _vocabulary(size),
        "max_position_embeddings": longest + 2,
        "pad_token_id": 1,
    }
    peers: dict[str, Peer] = {}
    ours = HfLongformerModel(our_config(size, longest, attention_window, attention_dilation))
    for name in names & {"hf-longformer", "checkpointing", *PADDING}:
        peers[name] = Peer(ours, has_global=True)
    if "compiled" in names:
        compiled: Any = torch.compile(ours, dynamic=False)
        peers["compiled"] = Peer(compiled, has_global=True)
    if "graphs" in names:  # a mask would be counted on the host: this one knows its global token by itself
        alone = copy.deepcopy(ours)
        alone.config.global_attention = "cls"
        peers["graphs"] = Peer(torch.compile(alone, mode="reduce-overhead", dynamic=False))  # type: ignore[arg-type]
    if "stock" in names:
        with tempfile.TemporaryDirectory() as folder:  # the same weights, as a user would get them
            ours.save_pretrained(f"{folder}/ours")
            export(f"{folder}/ours", f"{folder}/stock")
            peers["stock"] = Peer(LongformerModel.from_pretrained(f"{folder}/stock"), has_global=True)
    if names & {"roberta", "chunks"}:
        roberta = RobertaModel(RobertaConfig(**sizes, **common, type_vocab_size=1), add_pooling_layer=False)
        peers |= {"roberta": Peer(roberta), "chunks": Peer(roberta, chunk=CHUNK)}
    if "bigbird" in names:
        positions = {"max_position_embeddings": longest + BigBirdConfig().block_size}  # it pads to whole blocks
        config = BigBirdConfig(**sizes | common | positions, attention_type="block_sparse")
        peers["bigbird"] = Peer(BigBirdModel(config, add_pooling_layer=False))
    for name in names & {"modernbert", *MODERNBERT}:  # base: 22 layers of 768, feed-forward gated of 1152, as published
        own = {"num_hidden_layers": round(sizes["num_hidden_layers"] * 22 / 12)}
        own |= {"intermediate_size": sizes["hidden_size"] * 3 // 2}
        own |= {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
        if name in MODERNBERT:
            own["attn_implementation"] = attention_of_modernbert(name)
        peers[name] = Peer(ModernBertModel(ModernBertConfig(**sizes | common | own)))
    for name in asked & {*COMPILED}:
        peer = peers[COMPILED[name]]
        peers[name] = replace(peer, model=torch.compile(peer.model, dynamic=False))  # type: ignore[arg-type]
    return {name: peers[name] for name in (*TRAINING, *PADDING) if name in asked}


def make_causal_peers(size: str, longest: int, attention_window: int, attention_dilation: int = 1) -> dict[str, Peer]:
    """A dense causal model and ours with its weights, neither with dropout of attention weights.

    Args:
        size: One of `SIZES`.
        longest: Tokens that they can read.
        attention_window: Of ours; a token sees the half before it.
        attention_dilation: Of ours.
    """
    torch.manual_seed(0)
    sizes = dict(SIZES[size])
    common: dict[str, Any] = {"vocab_size": _vocabulary(size), "max_position_embeddings": longest, "use_cache": False}
    common |= {"bos_token_id": 0, "eos_token_id": 2}
    ours = HfLongformerConfig(
        **sizes | common,
        type_vocab_size=1,
        pad_token_id=None,
        is_decoder=True,
        norm_style="pre",
        layer_norm_eps=1e-5,
        attention_probs_dropout_prob=0.0,
        attention_window=attention_window,
        attention_dilation=attention_dilation,
    )
    # On a CPU the approximation by tanh that is GPT-2's own costs more than the exact GELU.
    same = {"n_inner": sizes.pop("intermediate_size"), "activation_function": ours.hidden_act, "attn_pdrop": 0.0}
    dense = GPT2Config(**sizes, **common, **same)
    model, gpt2 = HfLongformerModel(ours, add_pooling_layer=False), GPT2Model(dense)
    model.load_state_dict(model.state_dict() | _weights_of_gpt2(gpt2.state_dict(), sizes["num_hidden_layers"]))
    torch.nn.init.zeros_(model.embeddings.token_type_embeddings.weight)
    return {"causal": Peer(model), "gpt2": Peer(gpt2)}


def make_seq2seq_peers(names: Iterable[str], size: str, longest: int, attention_window: int) -> dict[str, Peer]:
    """Encoder-decoders with the same weights, half of the layers on either side, as in BART-base.

    Args:
        names: Of `SEQ2SEQ` or `WRITERS`.
        size: One of `SIZES`.
        longest: Tokens that the encoder can read.
        attention_window: Of both encoders. Stock pads texts to a multiple of it.
    """
    torch.manual_seed(0)
    sizes, of_decoder = SIZES[size], max(WRITTEN, 1024)
    layers, heads, wide = sizes["num_hidden_layers"] // 2, sizes["num_attention_heads"], sizes["intermediate_size"]
    common: dict[str, Any] = {"vocab_size": _vocabulary(size), "d_model": sizes["hidden_size"]}
    for half in ("encoder", "decoder"):
        common |= {f"{half}_layers": layers, f"{half}_attention_heads": heads, f"{half}_ffn_dim": wide}
    led = LEDConfig(
        **common,
        attention_dropout=0.1,
        activation_dropout=0.1,
        attention_window=attention_window,
        max_encoder_position_embeddings=-(-longest // attention_window) * attention_window,
        max_decoder_position_embeddings=of_decoder,
    )
    peers: dict[str, Peer] = {}
    with tempfile.TemporaryDirectory() as folder:
        stock = LEDModel(led)
        stock.save_pretrained(folder)
        ours = HfLongformerEncoderDecoderModel.from_pretrained(folder)
        peers |= {"led": Seq2SeqPeer(stock, has_global=True), "encoder-decoder": Seq2SeqPeer(ours, has_global=True)}
    if "bart" in names:
        own: dict[str, Any] = {"encoder_layers": 1, "max_position_embeddings": of_decoder, "forced_eos_token_id": None}
        writers: dict[str, Any] = {
            "encoder-decoder": HfLongformerForConditionalGeneration(ours.config),
            "bart": BartForConditionalGeneration(BartConfig(**common | own)),
        }
        state = ours.decoder.state_dict()
        writers["encoder-decoder"].model.decoder.load_state_dict(state)
        positions = state.pop("embed_positions.weight")
        writers["bart"].model.decoder.load_state_dict(state, strict=False)
        writers["bart"].model.decoder.embed_positions.weight.data[2:] = positions
        writers["encoder-decoder"].tie_weights()
        peers = {name: Seq2SeqPeer(model, has_global=name != "bart") for name, model in writers.items()}
    return {name: peers[name] for name in peers if name in names}


def _weights_of_gpt2(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Under our names; its linear layers are stored the other way round, query, key and value in one."""
    ours = {"embeddings.word_embeddings.weight": state["wte.weight"]}
    ours["embeddings.position_embeddings.weight"] = state["wpe.weight"]
    names = {
        "attn.c_attn": ["attention.self.query", "attention.self.key", "attention.self.value"],
        "attn.c_proj": ["attention.output.dense"],
        "mlp.c_fc": ["intermediate.dense"],
        "mlp.c_proj": ["output.dense"],
        "ln_1": ["attention.output.LayerNorm"],
        "ln_2": ["output.LayerNorm"],
    }
    for kind in ("weight", "bias"):
        ours[f"encoder.LayerNorm.{kind}"] = state[f"ln_f.{kind}"]
        for layer in range(layers):
            for theirs, wanted in names.items():
                parts = state[f"h.{layer}.{theirs}.{kind}"].transpose(0, -1).chunk(len(wanted))
                ours |= {f"encoder.layer.{layer}.{n}.{kind}": part for n, part in zip(wanted, parts, strict=True)}
    return ours


def make_dense_peer(source: str | Path, folder: Path, max_length: int) -> None:
    """Writes a BERT or RoBERTa encoder whose positions are repeated up to `max_length`, with its own dense attention.

    Args:
        source: A folder with such an encoder.
        folder: The folder to write.
        max_length: Tokens.
    """
    model = AutoModel.from_pretrained(source, local_files_only=True)
    first = model.config.pad_token_id + 1 if model.config.model_type == "roberta" else 0
    config = AutoConfig.from_pretrained(source, local_files_only=True, max_position_embeddings=first + max_length)
    state = model.state_dict()
    name = "embeddings.position_embeddings.weight"
    state[name] = extend_positions(state[name], first, first, max_length)
    longer = AutoModel.from_config(config, dtype=model.dtype)
    longer.load_state_dict(state)
    longer.save_pretrained(folder)


def random_ids(size: str, batch: int, length: int) -> torch.Tensor:
    """`(batch, length)` tokens, the same ones every time."""
    generator = torch.Generator().manual_seed(length)
    return torch.randint(FIRST_ID, _vocabulary(size), (batch, length), generator=generator)


def floor_flops(suite: str, size: str, length: int, batch: int, window: int, dilation: int = 1) -> int:
    """Floating-point operations that exact attention in this window cannot do without, and the rest of the encoder.

    Multiplications and additions of the matrix products, nothing recomputed. An encoder has one global token per text,
    whose row is reassociated, a causal model none. A backward pass has twice the products of linear layers and, in
    attention, 2.5 times.
    """
    hidden, layers = SIZES[size]["hidden_size"], SIZES[size]["num_hidden_layers"]
    w, pairs, is_causal = window // 2, 0, suite.startswith("causal")
    for phase in range(min(dilation, length)):
        n = len(range(phase, length, dilation))
        both_sides = n * (2 * w + 1) - w * (w + 1) if n > w else n * n
        pairs += (both_sides + n) // 2 if is_causal else both_sides
    attention = batch * 4 * hidden * pairs
    if suite.startswith("operator"):
        return round(attention * (3.5 if suite.endswith("backward") else 1))
    linear = batch * length * (8 * hidden**2 + 4 * hidden * SIZES[size]["intermediate_size"])
    if not is_causal:
        linear += batch * 4 * length * hidden * SIZES[size]["num_attention_heads"]  # the global row
    return round(layers * (3 * linear + 3.5 * attention if suite.endswith("training") else linear + attention))


def gemm_shapes(size: str, batch: int, length: int) -> list[tuple[int, int, int]]:
    """The products of a layer, `(m, k, n)`: a projection, and both halves of the feed-forward."""
    hidden, wide = SIZES[size]["hidden_size"], SIZES[size]["intermediate_size"]
    tokens = batch * length
    return [(tokens, hidden, hidden), (tokens, hidden, wide), (tokens, wide, hidden)]


def _vocabulary(size: str) -> int:
    return SMALLER_VOCABULARIES.get(size, VOCABULARY)
