# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Small source checkpoints with awkward sizes, made on the spot."""

import json
import re
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
from transformers import BertTokenizer, PreTrainedModel, PreTrainedTokenizerBase, RobertaTokenizer

HEADS = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForQuestionAnswering",
    "ForTokenClassification",
    "ForMultipleChoice",
)
CORPUS = ["the quick brown fox jumps over the lazy dog", "long documents need long encoders and longer windows"] * 9
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "initializer_range": 0.2,
}


def roberta_tokenizer(folder: Path) -> RobertaTokenizer:
    """A byte-level BPE tokenizer with RoBERTa's special tokens, limited to 128 tokens."""
    trainer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer.train_from_iterator(CORPUS, vocab_size=300, special_tokens=special)
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_model(str(folder))
    tokenizer = RobertaTokenizer.from_pretrained(folder, model_max_length=128)
    for file in ("vocab.json", "merges.txt"):
        (folder / file).unlink()
    return tokenizer


def bert_tokenizer(folder: Path) -> BertTokenizer:
    """A WordPiece tokenizer with BERT's special tokens, limited to 130 tokens."""
    words = sorted({word for line in CORPUS for word in line.split()})
    letters = [chr(code) for code in range(97, 123)]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    entries += [word for word in words if word not in entries]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n")
    tokenizer = BertTokenizer.from_pretrained(folder, model_max_length=130)
    (folder / "vocab.txt").unlink()
    return tokenizer


def sentencepiece_tokenizer(folder: Path, kind: str) -> PreTrainedTokenizerBase:
    """A Unigram tokenizer with the special tokens, and their places, of XLM-RoBERTa or CamemBERT; for 128 tokens."""
    trainer = SentencePieceUnigramTokenizer()
    trainer.train_from_iterator(CORPUS, vocab_size=80, show_progress=False)
    pieces = [tuple(piece) for piece in json.loads(trainer.to_str())["model"]["vocab"] if piece[0] != "<unk>"]
    first = {
        "XLMRoberta": ["<s>", "<pad>", "</s>", "<unk>"],
        "Camembert": ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"],
    }[kind]
    vocab = [*((piece, 0.0) for piece in first), *pieces, ("<mask>", 0.0)]
    return getattr(transformers, f"{kind}Tokenizer")(vocab=vocab, model_max_length=128)


# model_type: prefix of its classes, maker of a tokenizer, rows in front of the positions, and fields of its config
FAMILIES = {
    "roberta": ("Roberta", roberta_tokenizer, 2, {"vocab_size": 301, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": (
        "XLMRoberta",
        lambda folder: sentencepiece_tokenizer(folder, "XLMRoberta"),
        2,
        {"vocab_size": 143, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ),
    "camembert": (
        "Camembert",
        lambda folder: sentencepiece_tokenizer(folder, "Camembert"),
        2,
        {"vocab_size": 143, "type_vocab_size": 1, "bos_token_id": 5, "eos_token_id": 6},
    ),
    "data2vec-text": ("Data2VecText", roberta_tokenizer, 2, {"vocab_size": 301, "type_vocab_size": 1}),
    "bert": ("Bert", bert_tokenizer, 0, {"vocab_size": 97, "type_vocab_size": 2, "layer_norm_eps": 1e-12}),
    "distilbert": ("DistilBert", bert_tokenizer, 0, {"vocab_size": 97}),
    "electra": ("Electra", bert_tokenizer, 0, {"vocab_size": 97, "type_vocab_size": 2, "embedding_size": 11}),
    "longformer": (
        "Longformer",
        roberta_tokenizer,
        2,
        {"vocab_size": 301, "type_vocab_size": 1, "attention_window": [8, 16], "sep_token_id": 2, "pad_token_id": 1},
    ),
}
# Encoder-decoders have heads of their own: `make_source` makes them, too.
ENCODER_DECODER_HEADS = ("Model", "ForConditionalGeneration")
ENCODER_DECODERS = {
    "bart": ("Bart", roberta_tokenizer, 0, {"vocab_size": 301}),
    "led": ("LED", roberta_tokenizer, 0, {"vocab_size": 301, "attention_window": [8, 16]}),
}
ENCODER_DECODER_SIZES = {
    **{"d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 37},
    **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 31, "init_std": 0.2},
}
DISTILBERT_SIZES = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 37, "initializer_range": 0.2}


def make_source(
    folder: Path,
    family: str = "roberta",
    head: str = "ForMaskedLM",
    *,
    positions: int = 130,
    dtype: torch.dtype = torch.float32,
    with_tokenizer: bool = True,
    **overrides: object,
) -> PreTrainedModel:
    """Writes a checkpoint with random weights for `positions` tokens and returns the model.

    Every weight is random, also those that a new model would have at 0 or 1: a weight that conversion forgot shows.
    """
    torch.manual_seed(7)
    prefix, make_tokenizer, special_rows, fields = (FAMILIES | ENCODER_DECODERS)[family]
    sizes = {"max_position_embeddings": positions + special_rows}
    if family == "led":
        sizes = {"max_encoder_position_embeddings": positions, "max_decoder_position_embeddings": 41}
    sizes |= (
        DISTILBERT_SIZES if family == "distilbert" else ENCODER_DECODER_SIZES if family in ENCODER_DECODERS else SIZES
    )
    config = getattr(transformers, f"{prefix}Config")(**sizes, **fields)
    for name, value in overrides.items():
        setattr(config, name, value)
    model = getattr(transformers, prefix + head)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = re.search(r"(LayerNorm|layer_norm|layernorm_embedding)\.weight", name)
            parameter.normal_(1.0 if is_norm else 0.0, 0.2)
        if family in ENCODER_DECODERS and head == "ForConditionalGeneration":
            model.final_logits_bias.normal_(0.0, 0.2)
    model.to(dtype).save_pretrained(folder)
    if with_tokenizer:
        make_tokenizer(folder).save_pretrained(folder)
    return model.eval()


def edit_json(file: Path, **changes: object) -> None:
    """Changes entries of a JSON object on disk; None removes one."""
    content = json.loads(file.read_text())
    content.update({name: value for name, value in changes.items() if value is not None})
    for name in [name for name, value in changes.items() if value is None]:
        content.pop(name, None)
    file.write_text(json.dumps(content))
