# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""An export as the encoder of a `SentenceTransformer`, whose other modules are the library's own. Its `backend="onnx"`
needs a package that cannot be installed beside Transformers 5.
"""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from sentence_transformers.util import import_from_string

from hf_longformer import HfLongformerModel
from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import one_line
from hf_longformer.conversion.files import read_json
from hf_longformer.conversion.sentence_modules import ENCODER_SETTINGS, SETTINGS, read_modules
from hf_longformer.conversion.source import load_tokenizer

from .runtime import ExportedModel, load_exported

OF_MODEL = ("prompts", "default_prompt_name", "similarity_fn_name")


class ExportedEncoder(InputModule):
    """Token embeddings by an exported encoder.

    Args:
        model: What `load_exported` gives.
        tokenizer: Its tokenizer.
        max_seq_length: In tokens: what is longer is cut, as by sentence-transformers.
        do_lower_case: Whether texts are made lower-case first.
    """

    save_in_root = True

    def __init__(self, model: ExportedModel, tokenizer: Any, max_seq_length: int, do_lower_case: bool = False) -> None:
        super().__init__()
        self.exported: ExportedModel = model
        self.tokenizer: Any = tokenizer
        self.max_seq_length, self.do_lower_case = max_seq_length, do_lower_case

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Ids and masks of texts, padded: `(batch, length)`."""
        texts = [f"{prompt or ''}{one}".strip() for one in inputs]
        texts = [one.lower() for one in texts] if self.do_lower_case else texts
        cut: dict[str, Any] = {"truncation": True, "max_length": self.max_seq_length}
        return dict(self.tokenizer(texts, padding=True, return_tensors="pt", **cut))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds `token_embeddings` `(batch, length, hidden_size)`."""
        given = {name: features[name] for name in self.tokenizer.model_input_names if name in features}
        return {**features, "token_embeddings": self.exported(**given)["last_hidden_state"]}

    def get_embedding_dimension(self) -> int:
        """Of the token embeddings."""
        return self.exported.config.hidden_size

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Not supported: the folder that was loaded is the saved form."""
        raise NotImplementedError(f"an export is saved already, in {self.exported.name_or_path}: copy that folder")


def load_sentence_encoder(folder: str | Path, backend: str = "onnx", threads: int | None = None) -> SentenceTransformer:
    """A `SentenceTransformer` whose encoder is an export, on a CPU.

    Args:
        folder: What `hf-longformer export` made of a sentence-transformers folder.
        backend: `"onnx"` or `"openvino"`.
        threads: To compute with; PyTorch's number if left out.

    Raises:
        InputError: If the folder holds no such export.
        ImportError: If the runtime is not installed.
    """
    folder = Path(folder)
    modules, tokenizer = read_modules(folder), load_tokenizer(folder)
    if not modules or tokenizer is None:
        raise InputError(f"{folder} must be made of a sentence-transformers folder, got no modules.json or tokenizer")
    model = load_exported(folder, backend, threads)
    if model.model_class is not HfLongformerModel:
        raise InputError(f"{folder} must hold an encoder without a head, got {model.model_class.__name__}")
    settings = read_json(folder / ENCODER_SETTINGS)
    length = min(settings.get("max_seq_length") or model.config.max_length_tokens, model.config.max_length_tokens)
    parts: list[torch.nn.Module] = [ExportedEncoder(model, tokenizer, length, bool(settings.get("do_lower_case")))]
    try:
        for module in modules[1:]:
            kind: Any = import_from_string(module["type"])
            parts.append(kind.load(str(folder), subfolder=module["path"]))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:  # a module that is not there, for one
        raise InputError(f"{folder} cannot be used by sentence-transformers: {one_line(error)}") from error
    saved = read_json(folder / SETTINGS[0]) if (folder / SETTINGS[0]).is_file() else {}
    chosen = {name: saved[name] for name in OF_MODEL if saved.get(name) is not None}
    return SentenceTransformer(modules=parts, device="cpu", **chosen)


__all__ = ["ExportedEncoder", "load_sentence_encoder"]
