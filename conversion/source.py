# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Finding and loading a source checkpoint, with a sentence for everything that can be wrong with it."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_longformer import HfLongformerConfig

from .errors import InputError
from .families import SourceFamily, find_family, find_head

SAFETENSORS, SAFETENSORS_INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model*.bin"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "merges.txt", "*.model", "*.spm", "*.bpe", "tokenizer_config.json")
# Data only: no code of a repository is ever fetched.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.bpe", "README.md"]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


@dataclass
class Source:
    """A source checkpoint, loaded.

    Args:
        name: As the user gave it: a folder or a Hub name.
        revision: The commit of a Hub repository; None for a folder.
        folder: Where its files are.
        family: Which family it belongs to.
        head: Which of `families.HEADS` it has.
        model: The model, in its own class and dtype.
        tokenizer: The tokenizer, or None if the source has none.
        dropped: Names of weights in the file that the model does not use.
        lacks_pooler: Whether the file has an encoder without its pooler.
    """

    name: str
    revision: str | None
    folder: Path
    family: SourceFamily
    head: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    dropped: list[str]
    lacks_pooler: bool

    @property
    def first_position(self) -> int:
        """Row of the source's position table that the first real token takes."""
        return int(self.model.config.pad_token_id) + 1 if self.family.counts_from_padding else 0

    @property
    def max_length(self) -> int:
        """Longest input of the source in tokens, by its position table."""
        embeddings: Any = getattr(self.model, self.model.base_model_prefix, self.model).embeddings
        return int(embeddings.position_embeddings.weight.shape[0]) - self.first_position


def find_folder(
    source: str, revision: str | None, local_files_only: bool, allow_pickle: bool
) -> tuple[Path, str | None]:
    """The folder with a source's files, fetched from the Hub if `source` is not a folder, and its commit there.

    Raises:
        InputError: If there is no such folder or repository.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder, None
    if folder.exists():
        raise InputError(f"SOURCE must be a folder or a Hub name, got the file {source}")
    patterns = HUB_FILES + (["*.bin"] if allow_pickle else [])
    try:
        fetched = snapshot_download(
            source, revision=revision, local_files_only=local_files_only, allow_patterns=patterns
        )
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"no such folder, and no such repository within reach: got {source} ({reason})") from error
    return Path(fetched), Path(fetched).name


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object.

    Raises:
        InputError: If it is missing or does not.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing in {path.parent}") from error
    except (OSError, ValueError) as error:  # not UTF-8 is a ValueError too
        raise InputError(f"{path.name} must be a readable JSON file, got one that is not: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold a JSON object, got {type(content).__name__}")
    return content


def load_converted_config(folder: Path) -> HfLongformerConfig:
    """The configuration of a checkpoint of ours.

    Raises:
        InputError: If the folder holds none.
    """
    content = read_json(folder / "config.json")
    if content.get("model_type") != HfLongformerConfig.model_type or not content.get("architectures"):
        raise InputError(
            f"{folder} must hold a converted checkpoint (model_type {HfLongformerConfig.model_type!r}), "
            f"got model_type {content.get('model_type')!r}, architectures {content.get('architectures')!r}"
        )
    try:
        return HfLongformerConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # strict dataclasses have exceptions of their own
        raise InputError(f"config.json of {folder} cannot be used: {_first_line(error)}") from error


def find_weights(folder: Path, allow_pickle: bool = False) -> tuple[list[Path], torch.dtype | None]:
    """The weight files of a folder, their headers checked, and the dtype that most of the numbers have.

    Raises:
        InputError: If there are none, one is missing or damaged, or they are pickled and that is not allowed.
    """
    if (folder / SAFETENSORS_INDEX).exists():
        shards = read_json(folder / SAFETENSORS_INDEX).get("weight_map", {})
        names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
        if any(Path(name).name != name for name in names):
            raise InputError(f"{SAFETENSORS_INDEX} must name files of its own folder, got {names}")
        files = [folder / name for name in names]
    elif (folder / SAFETENSORS).exists():
        files = [folder / SAFETENSORS]
    elif pickled := sorted(folder.glob(PICKLE)):
        if not allow_pickle:
            raise InputError(
                f"weights must be in safetensors, got only {pickled[0].name}, a pickle that can run code when loaded: "
                "--allow-pickle loads it with PyTorch's restricted loader"
            )
        return pickled, None
    else:
        raise InputError(f"no weights ({SAFETENSORS}) in {folder}")
    numbers: Counter[str] = Counter()
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    part = tensors.get_slice(name)
                    numbers[part.get_dtype()] += torch.Size(part.get_shape()).numel()
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{file.name} must be a whole safetensors file, got a damaged one: {error}") from error
    kept = [(number, name) for name, number in numbers.items() if name in DTYPES]
    if not kept:
        raise InputError(f"weights must be floating point ({', '.join(DTYPES)}), got {sorted(numbers)}")
    return files, DTYPES[max(kept)[1]]


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has tokenizer files."""
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder, or None if it has none.

    Raises:
        InputError: If its files cannot be loaded.
    """
    if not has_tokenizer(folder):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizer back ends raise bare Exceptions for damaged files
        raise InputError(f"the tokenizer of {folder} cannot be loaded: {_first_line(error)}") from error


def load_source(
    source: str,
    *,
    architecture: str = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
    allow_pickle: bool = False,
) -> Source:
    """Loads a checkpoint in its own class, refusing whatever would be randomly initialised.

    Args:
        source: A folder or a Hub name.
        architecture: `"auto"` or a class name, see `families.find_head`.
        revision: Branch, tag or commit of a Hub repository.
        local_files_only: Whether to stay off the network.
        allow_pickle: Whether to accept pickled weights, with PyTorch's restricted loader.

    Raises:
        InputError: If the source cannot be used.
    """
    folder, commit = find_folder(source, revision, local_files_only, allow_pickle)
    config = read_json(folder / "config.json")
    family = find_family(config)
    class_name, head = find_head(config, family, architecture)
    _, dtype = find_weights(folder, allow_pickle)
    source_class = getattr(transformers, class_name)
    try:
        model, info = source_class.from_pretrained(
            folder,
            dtype=dtype or "auto",
            local_files_only=True,
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            attn_implementation="sdpa",
        )
    except Exception as error:  # whatever the loader makes of a damaged checkpoint
        raise InputError(f"{source} cannot be loaded as {class_name}: {_first_line(error)}") from error
    missing = set(info["missing_keys"])
    pooler = {name for name in missing if ".pooler." in f".{name}"}
    lacks_pooler = head == "Model" and bool(pooler)
    if lost := missing - (pooler if lacks_pooler else set()):
        raise InputError(
            f"{class_name} needs weights that {source} does not have, got none for {', '.join(sorted(lost)[:3])}"
            f"{' …' * (len(lost) > 3)}: choose another head with --architecture"
        )
    tokenizer = load_tokenizer(folder)
    return Source(
        source, commit, folder, family, head, model.eval(), tokenizer, sorted(info["unexpected_keys"]), lacks_pooler
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
