# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Small source checkpoints with awkward sizes, made on the spot."""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import BertConfig, BertTokenizer, PreTrainedModel, RobertaConfig, RobertaTokenizer

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
    if family == "roberta":
        tokenizer = roberta_tokenizer(folder)
        config = RobertaConfig(
            vocab_size=301, max_position_embeddings=positions + 2, type_vocab_size=1, layer_norm_eps=1e-5, **SIZES
        )
    else:
        tokenizer = bert_tokenizer(folder)
        config = BertConfig(
            vocab_size=97, max_position_embeddings=positions, type_vocab_size=2, layer_norm_eps=1e-12, **SIZES
        )
    for name, value in overrides.items():
        setattr(config, name, value)
    model = getattr(transformers, ("Roberta" if family == "roberta" else "Bert") + head)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "LayerNorm.weight" in name else 0.0, 0.2)
    model.to(dtype).save_pretrained(folder)
    if with_tokenizer:
        tokenizer.save_pretrained(folder)
    return model.eval()


def edit_json(file: Path, **changes: object) -> None:
    """Changes entries of a JSON object on disk; None removes one."""
    content = json.loads(file.read_text())
    content.update({name: value for name, value in changes.items() if value is not None})
    for name in [name for name, value in changes.items() if value is None]:
        content.pop(name, None)
    file.write_text(json.dumps(content))
