# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Finding and opening a source checkpoint, with a sentence for everything that can be wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.configuration_utils import PreTrainedConfig

import hf_longformer
from hf_longformer import HfLongformerConfig, HfLongformerEncoderDecoderConfig

from .errors import InputError, first_line
from .families import SourceFamily, base_of, check_head, find_family, find_head
from .files import check_readable, read_json
from .sentence_modules import check_modules, encoder_folder
from .weights import Weights

TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "merges.txt", "*.model", "*.spm", "*.bpe", "*.codes"),
    "tokenizer_config.json",
)
# What Transformers reads besides, if it is there.
OTHER_FILES = (
    *("*config*.json", "vocab.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    "tekken.json",
)
WIDEST_WINDOW = 4096  # tokens, of sources for shorter texts
LARGEST_TOKEN_ID = 2**24  # libraries count up to it
# Data only: no code of a repository is ever fetched.
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.bpe", "*.codes", "README.md"]
NOT_NEEDED = ["onnx/*", "openvino/*", "checkpoint-*/*"]
# Fields that say how large something is: none can exceed the largest dimension of the weights.
SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "embedding_size", "num_labels"),
)
SIZES_OF_ENCODER_DECODERS = (
    *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "max_encoder_position_embeddings"),
    *("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "max_decoder_position_embeddings"),
)
POSITIONS = "embeddings.position_embeddings.weight"
GENERATION = "generation_config.json"
OWN_CONFIGS = {one.model_type: one for one in (HfLongformerConfig, HfLongformerEncoderDecoderConfig)}
OwnConfig = HfLongformerConfig | HfLongformerEncoderDecoderConfig


@dataclass
class Source:
    """A source checkpoint: what it says of itself, checked; no weight is read yet.

    Args:
        name: As the user gave it: a folder or a Hub name.
        revision: The commit of a Hub repository; None for a folder.
        root: The folder that was given or fetched.
        folder: Where the encoder's files are: `root`, or a folder inside it that `modules.json` names.
        family: Which family it belongs to.
        class_name: The class to load it with.
        head: Which of `families.HEADS` it has.
        config: Its configuration, of its own class.
        weights: Its weights.
        tokenizer: The tokenizer, or None if the source has none.
        allow_pickle: Whether pickled weights are accepted.
    """

    name: str
    revision: str | None
    root: Path
    folder: Path
    family: SourceFamily
    class_name: str
    head: str
    config: PreTrainedConfig
    weights: Weights
    tokenizer: PreTrainedTokenizerBase | None
    allow_pickle: bool = False

    @property
    def base(self) -> str:
        """What names of parameters outside the head begin with in our model."""
        return base_of(self.head)

    @property
    def base_of_encoder(self) -> str:
        """What names of the encoder's parameters begin with in our model."""
        return f"{self.base}encoder." if self.family.is_encoder_decoder else self.base

    @property
    def encoder_config(self) -> Any:
        """Its configuration, or the encoder's where that is one of its own."""
        return encoder_config(self.config)

    @cached_property
    def names(self) -> dict[str, str]:
        """Names that its weights have in our model, and names that they have in its files."""
        return {self.family.target_name(name, self.head): name for name in self.weights}

    @property
    def first_position(self) -> int:
        """Row of the source's position table that the first real token takes."""
        if isinstance(self.config, HfLongformerEncoderDecoderConfig):
            return self.encoder_config.first_position
        return int(self.config.pad_token_id or 0) + 1 if self.family.counts_from_padding else self.family.first_row

    @property
    def stated_rows(self) -> Any:
        """Rows of its position table by config.json."""
        name = "max_position_embeddings"
        return getattr(self.encoder_config, self.family.fields.get(name, name)) + self.family.first_row

    @property
    def position_table(self) -> str:
        """The name of its position table.

        Raises:
            InputError: If it has none, or one without a row for a token.
        """
        name = self.names.get(f"{self.base_of_encoder}{POSITIONS}")
        if name is None or len(self.weights[name].shape) != 2 or self.weights[name].shape[0] <= self.first_position:
            raise InputError(
                f"{self.name} must have a table of learned positions behind row {self.first_position}, "
                f"got {None if name is None else self.weights[name].shape}"
            )
        return name

    @property
    def max_length(self) -> int:
        """Longest input of the source in tokens, by its position table."""
        return self.weights[self.position_table].shape[0] - self.first_position

    @property
    def longest_input(self) -> int:
        """Longest input that it can be run on: of LED, which looks up positions of padding, whole windows."""
        windows = self.encoder_config.attention_window if self.family.pads_to_windows else 1
        largest = max(windows, default=1) if isinstance(windows, list) else windows
        return self.max_length // largest * largest or self.max_length

    @property
    def lacks_pooler(self) -> bool:
        """Whether it is an encoder without a pooler."""
        return self.head == "Model" and "pooler.dense.weight" not in self.names


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
            source,
            revision=revision,
            local_files_only=local_files_only,
            allow_patterns=patterns,
            ignore_patterns=NOT_NEEDED,
        )
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"no such folder, and no such repository within reach: got {source} ({first_line(error)})"
        ) from error
    return Path(fetched), Path(fetched).name


def encoder_config(config: Any) -> Any:
    """A configuration of ours or of a source, or the encoder's where that is one of its own."""
    return config.encoder if isinstance(config, HfLongformerEncoderDecoderConfig) else config


def load_converted_config(folder: Path) -> OwnConfig:
    """The configuration of a checkpoint of ours.

    Raises:
        InputError: If the folder holds none.
    """
    content = read_json(folder / "config.json")
    kind, named = content.get("model_type"), content.get("architectures")
    if not isinstance(kind, str) or kind not in OWN_CONFIGS or not named:
        raise InputError(
            f"{folder} must hold a converted checkpoint (model_type {' or '.join(map(repr, OWN_CONFIGS))}), "
            f"got model_type {kind!r}, architectures {named!r}"
        )
    try:
        return OWN_CONFIGS[kind].from_pretrained(folder, local_files_only=True)
    except Exception as error:  # strict dataclasses have exceptions of their own
        raise InputError(f"config.json of {folder} cannot be used: {first_line(error)}") from error


def load_tokenizer(folder: Path, config: PreTrainedConfig | None = None) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder, or None if it has none; `config` says of which kind if the files do not.

    Raises:
        InputError: If its files cannot be loaded.
    """
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES):
        return None
    known = {} if config is None else {"config": config}
    with refusing(f"the tokenizer of {folder} cannot be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **known)
        largest = max(tokenizer.get_vocab().values(), default=0)
        if largest > LARGEST_TOKEN_ID:
            raise InputError(f"the tokenizer of {folder} must number its tokens one after the other, got {largest:,}")
        return tokenizer


@contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Turns whatever a tokenizer makes of damaged files into an `InputError` that begins with `sentence`."""
    try:
        yield
    except BaseException as error:  # the tokenizers library panics on some of them, past Exception
        if isinstance(error, (InputError, KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise InputError(f"{sentence}: {first_line(error)}") from error


def open_source(
    source: str,
    *,
    architecture: str = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
    allow_pickle: bool = False,
) -> Source:
    """Opens a checkpoint and refuses whatever cannot be converted, before a weight is read.

    Args:
        source: A folder or a Hub name.
        architecture: `"auto"` or a class name, see `families.find_head`.
        revision: Branch, tag or commit of a Hub repository.
        local_files_only: Whether to stay off the network.
        allow_pickle: Whether to accept pickled weights, with PyTorch's restricted loader.

    Raises:
        InputError: If the source cannot be used.
    """
    root, commit = find_folder(source, revision, local_files_only, allow_pickle)
    folder = encoder_folder(root)
    check_modules(root)
    check_readable(folder, (*TOKENIZER_FILES, *OTHER_FILES))
    content = read_json(folder / "config.json")
    family = find_family(content, architecture)
    content = family.prepare(content)
    class_name, head = find_head(content, family, architecture)
    weights = Weights(folder, allow_pickle)
    _check_sizes(content, family, weights)
    config = _load_config(content, class_name)
    check_head(config, family, head)
    tokenizer = load_tokenizer(folder, config)
    opened = Source(source, commit, root, folder, family, class_name, head, config, weights, tokenizer, allow_pickle)
    _check_windows(opened)
    _check_vocabulary(opened)
    return opened


def load_model(source: Source) -> PreTrainedModel:
    """The source in its own class, loaded by Transformers and not by our reading of its files.

    Raises:
        InputError: If it cannot be loaded, or something would be randomly initialised.
    """
    options: dict[str, Any] = {}
    if source.family.key_mapping is not None:
        options["key_mapping"] = dict(source.family.key_mapping)
    try:
        model, info = _class_of(source.class_name).from_pretrained(
            source.folder,
            config=source.config,
            dtype=source.weights.dtype,
            local_files_only=True,
            output_loading_info=True,
            use_safetensors=not source.allow_pickle or not source.weights.pickled,
            **options,
        )
    except Exception as error:  # whatever the loader makes of a damaged checkpoint
        raise InputError(f"{source.name} cannot be loaded as {source.class_name}: {first_line(error)}") from error
    missing = {name for name in info["missing_keys"] if not (source.lacks_pooler and "pooler." in name)}
    if source.family.is_encoder_decoder:
        missing -= _share_words(model, missing)
    if missing:
        raise InputError(missing_weights(source, missing))
    return model.eval()


def _share_words(model: Any, missing: set[str]) -> set[str]:
    """Files of Transformers 4 hold no embeddings of the halves by themselves, which are the shared ones there, whatever
    `tie_word_embeddings` says; today's Transformers makes them random. Returns the names of those that were mended.
    """
    mended, base = set(), base_model(model)
    shared = next((name for name in model.state_dict() if name.split(".")[-2:] == ["shared", "weight"]), None)
    for half in ("encoder", "decoder"):
        names = {name for name in missing if name.endswith(f"{half}.embed_tokens.weight")}
        if names and shared not in (None, *missing):
            getattr(base, half).embed_tokens.weight = model.get_input_embeddings().weight
            mended |= names
    return mended


def base_model(model: Any) -> Any:
    """A model without its head."""
    return getattr(model, model.base_model_prefix, model)


def embeddings_of(model: Any) -> Any:
    """The embeddings of one of our models, with a head or without; of an encoder-decoder, its encoder's."""
    base = base_model(model)
    return getattr(base, "encoder" if hasattr(base, "decoder") else "", base).embeddings


def generation_settings(source: Source) -> GenerationConfig | None:
    """How a source generates, from the file for it or, where there is none, from config.json; None if it does not.

    Raises:
        InputError: If the settings cannot be read.
    """
    if source.head != "ForConditionalGeneration":
        return None
    try:
        if (source.folder / GENERATION).exists():
            return GenerationConfig.from_pretrained(source.folder, local_files_only=True)
        return GenerationConfig.from_model_config(read_json(source.folder / "config.json"))
    except Exception as error:  # whatever comes of settings that nobody has ever had
        raise InputError(f"the generation settings of {source.name} cannot be used: {first_line(error)}") from error


def missing_weights(source: Source, names: set[str]) -> str:
    """The sentence for weights that the source's class needs and its files have not."""
    return (
        f"{source.class_name} needs weights that {source.name} does not have, got none for "
        f"{', '.join(sorted(names)[:3])}{' …' * (len(names) > 3)}: choose another head with --architecture"
    )


def _class_of(name: str) -> Any:
    return getattr(hf_longformer if name.startswith("HfLongformer") else transformers, name)


def _load_config(content: dict[str, Any], class_name: str) -> PreTrainedConfig:
    if content.get("quantization_config"):
        raise InputError("quantized weights cannot be converted, got a config.json with quantization_config")
    for name in ("id2label", "label2id"):
        if not isinstance(content.get(name, {}), dict):
            raise InputError(f"{name} of config.json must be an object with one entry per label, got {content[name]!r}")
    try:
        return _class_of(class_name).config_class.from_dict(content)
    except Exception as error:  # strict dataclasses have exceptions of their own
        raise InputError(f"config.json cannot be used: {first_line(error)}") from error


def _check_windows(source: Source) -> None:
    """Refuses windows that no text of the source can fill: stock Longformer pads every text to a whole window."""
    windows = getattr(source.encoder_config, "attention_window", 0) if source.family.is_long else 0
    largest = max(windows, default=0) if isinstance(windows, list) else windows
    limit = max(2 * source.max_length, WIDEST_WINDOW)
    if largest > limit:
        raise InputError(f"attention_window of config.json must be at most {limit} for this source, got {largest}")


def _check_vocabulary(source: Source) -> None:
    """Refuses a tokenizer with tokens that have no row in the table of embeddings; a table may have rows to spare."""
    rows = int(source.config.vocab_size)
    beyond = [] if source.tokenizer is None else [n for n in source.tokenizer.get_vocab().values() if n >= rows]
    if beyond:
        raise InputError(
            f"the tokenizer of {source.name} must have no more tokens than the {rows:,} that have embeddings, got "
            f"{len(beyond):,} more, up to number {max(beyond):,}: take the tokenizer that belongs to the weights, or "
            "give it rows with model.resize_token_embeddings and save the model"
        )


def _check_sizes(content: dict[str, Any], family: SourceFamily, weights: Weights) -> None:
    """Refuses sizes that the weights do not have, before anything of that size is made."""
    largest = max((max(weight.shape, default=1) for weight in weights.values()), default=1)
    parts = [content]
    if family.is_encoder_decoder:
        parts += [content[half] for half in ("encoder", "decoder") if isinstance(content.get(half), dict)]
    for field, part in product((*SIZES, *(SIZES_OF_ENCODER_DECODERS if family.is_encoder_decoder else ())), parts):
        name = family.fields.get(field, field)
        value = part.get(name)
        limit = max(len(weights), 2) if field.endswith("layers") else max(largest, 2)
        if isinstance(value, (int, float)) and not 0 <= value <= limit:
            raise InputError(f"{name} of config.json does not fit the weights: got {value}, at most {limit} is there")
