# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of sentence encoders on queries and long documents."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from hf_longformer import HfLongformerModel
from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json, write_json

from .. import flow
from ..checkpoints import load_checkpoint
from ..data import SPLITS
from ..training import sync_projections
from .batches import PairCollator
from .documents import make_pairs
from .evaluation import BEST, MEASURES, evaluator_of
from .loss import make_loss
from .mining import KEPT, mine, with_negatives
from .pairs import DOCUMENT, QUERY, Texts, keys_of, read_texts
from .positions import FIELD, NewPositions, source_length
from .predictor import Embedder, check_encoder, load_modules
from .segments import SegmentCutter
from .teacher import FOLDER, Teacher, make_teacher
from .trainer import EmbeddingTrainer, EmbeddingTrainingArguments

logger = logging.get_logger(__name__)
PROMPTS = {QUERY: ("query",), DOCUMENT: ("document", "passage", "corpus")}  # names that sentence-transformers looks for
AT_ONCE = 100  # texts that are tokenised
LONGEST_CHUNK = 512  # tokens, where nobody knows how many the source reads


@dataclass
class DataArguments:
    """What is trained on, and how."""

    train_files: list[str] = field(
        default_factory=list,
        metadata={
            "help": "CSV, TSV, JSON lines or Parquet, with the columns anchor, query or question; positive, document, "
            "passage, answer or text; negative, negative_1 and so on, where there are any. Or documents alone, in "
            "text, with a title perhaps: see --pairs."
        },
    )
    validation_files: list[str] = field(
        default_factory=list,
        metadata={"help": "The same, never trained on: every query is to find its document among all of these."},
    )
    test_files: list[str] = field(default_factory=list, metadata={"help": "The same, measured once, at the end."})
    pairs: Literal["titles", "inverse-cloze", "neighbouring-sections"] | None = field(
        default=None,
        metadata={
            "help": "What asks for a document where files have documents alone: its title, a sentence, a section."
        },
    )
    queries_per_document: int = field(default=1, metadata={"help": "So many are drawn with --pairs, but for titles."})
    queries_at_once: int = field(
        default=1,
        metadata={
            "help": "So many queries of one document at most are trained on at once, for which it is read once: what a "
            "step costs is the documents."
        },
    )
    keep_passage: float = field(
        default=0.1, metadata={"help": "Share of the sentences of inverse-cloze that stay in their documents."}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Tokens of the longest document; the model's limit if left out."}
    )
    query_prompt: str | None = field(
        default=None, metadata={"help": "What stands in front of every query, if not the checkpoint's own."}
    )
    document_prompt: str | None = field(default=None, metadata={"help": "The same for documents."})
    temperature: float = field(default=0.05, metadata={"help": "What similarities are divided by."})
    mini_batch_tokens: int = field(
        default=8192,
        metadata={
            "help": "Tokens at once: memory depends on this, and not on the batch. Larger batches are read twice."
        },
    )
    mini_batch_size: int | None = field(default=None, metadata={"help": "So many texts at once, instead."})
    matryoshka_dims: list[int] = field(
        default_factory=list, metadata={"help": "Numbers to which embeddings are to be cut, such as 384 128 64."}
    )
    hard_negatives: int = field(
        default=0, metadata={"help": "So many documents of others that are like the query, found before training."}
    )
    hard_negatives_margin: float = field(
        default=0.05,
        metadata={"help": "They are less like the query than its document, by this share of that similarity at least."},
    )
    teacher: Literal["none", "chunk-maximum", "late-interaction"] = field(
        default="none",
        metadata={
            "help": "Whose ranking of the batch is learned, too: the model's own before training, by the nearest chunk "
            "of every document, or by the nearest token of every chunk for every token of the query."
        },
    )
    teacher_weight: float = field(
        default=0.5, metadata={"help": "Of the teacher in the loss; 1: no labels but the teacher's."}
    )
    teacher_temperature: float = field(default=0.05, metadata={"help": "What the teacher's scores are divided by."})
    chunk_size: int | None = field(
        default=None, metadata={"help": "Tokens of a chunk of the teacher; as many as the source reads, if left out."}
    )
    train: Literal["all", "new-positions"] = field(
        default="all",
        metadata={
            "help": "What is trained: everything, or the positions alone that the conversion added, so that texts that "
            "the source could read are embedded as before, bit by bit."
        },
    )
    segments: int | None = field(
        default=None,
        metadata={"help": "Train on segments of documents, so many tokens in all, that keep their positions."},
    )


class SentenceEmbeddings(flow.Task):
    """Documents to vectors near those of what asks for them."""

    name = "embeddings"
    arguments = DataArguments
    training_arguments = EmbeddingTrainingArguments
    model_class = HfLongformerModel
    best = BEST
    measures = MEASURES
    unit = "nats per query"
    smooths = False
    trainer_class = EmbeddingTrainer
    collator_needs_all = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.texts: dict[str, Texts] = {}
        self.keys: list[list[int]] = []
        self.new_positions: NewPositions | None = None
        self.source_length: int | None = None
        self.model_limit = 0

    def load_checkpoint(self, name: str, **options: Any) -> tuple[Any, Any, dict[str, list[str]]]:
        """The encoder inside its modules; one without modules gets mean pooling."""
        self.check()
        where = {key: options.pop(key) for key in ("revision", "local_files_only")}
        dtype = options.pop("dtype")
        options.pop("new")
        encoder, _, notes = load_checkpoint(HfLongformerModel, name, new=("pooler",), dtype=dtype, **where, **options)
        if encoder.config.is_decoder:
            raise InputError(f"{name} must be an encoder, got a causal model, which gives no embeddings")
        device = str(self.training.device)
        model = load_modules(name, device, dtype, config=options, **where)
        if model is None:
            logger.warning(
                f"{name} has no modules of sentence-transformers: the mean of the last hidden states is taken"
            )
            settings = {"dtype": dtype, "use_safetensors": True}
            model = SentenceTransformer(name, device=device, model_kwargs=settings, config_kwargs=options, **where)
            check_encoder(model, name)
        self.model_limit = model.max_seq_length or encoder.config.max_length_tokens
        self.source_length = source_length(name, **where)
        return model, model.tokenizer, {**notes, "new": []}  # whose pooler no module reads

    def check(self) -> None:
        """Refuses arguments that contradict each other, or what one process on one device cannot do."""
        data, training = self.data, self.training
        if training.world_size > 1 or training.n_gpu > 1:
            raise InputError(
                f"embeddings are trained by one process on one device, got {max(training.world_size, training.n_gpu)}: "
                "set CUDA_VISIBLE_DEVICES to one, and start without torchrun"
            )
        if training.tokens_per_batch is not None:
            raise InputError(
                "--tokens_per_batch would change how many documents a query is told from: leave it out; memory is "
                f"bounded by --mini_batch_tokens, got {training.tokens_per_batch}"
            )
        if training.train_sampling_strategy != "random":
            raise InputError(
                "--train_sampling_strategy must be random: documents of one length are no better negatives, and "
                f"padding costs nothing, got {training.train_sampling_strategy}"
            )
        if training.dataloader_drop_last:
            raise InputError("batches are of about one size, and no pair is left out: leave --dataloader_drop_last out")
        if data.pairs is None and data.queries_per_document != 1:
            raise InputError(f"--queries_per_document needs --pairs, got {data.queries_per_document}")

    def read(self) -> dict[str, Any]:
        """The pairs of every split, read or made."""
        data, trains = self.data, self.training.do_train
        if trains and not data.train_files:
            raise InputError("something to train on is needed: give --train_files, got none")
        if not trains and not (data.validation_files or data.test_files):
            raise InputError("something to measure on is needed: give --validation_files or --test_files, got neither")
        wanted = {"train": trains, "validation": self.training.do_eval, "test": self.training.do_predict}
        for split in SPLITS:
            files = getattr(data, f"{split}_files")
            if files and wanted[split]:
                self.texts[split] = self._pairs(files, split)
                self.skipped[split] = self.texts[split].skipped
        return {split: texts.dataset() for split, texts in self.texts.items()}

    def _pairs(self, files: list[str], split: str) -> Texts:
        data, texts = self.data, read_texts(files, split == "train")
        if not texts.has_queries:
            if data.pairs is None:
                raise InputError(
                    f"documents without queries need --pairs, which says what asks for them, got none for "
                    f"{', '.join(files)}"
                )
            return make_pairs(texts, data.pairs, self.training.seed, data.keep_passage, data.queries_per_document)
        if data.pairs is not None and split == "train":
            raise InputError(f"--pairs makes queries where there are none, got queries in {', '.join(files)}")
        return texts

    def prepare(self) -> None:
        """Prompts, and what is trained; a measurement before."""
        data, model = self.data, self.model
        for role, given in ((QUERY, data.query_prompt), (DOCUMENT, data.document_prompt)):
            if given is not None:
                model.prompts[PROMPTS[role][0]] = given
        if data.document_prompt:
            model.default_prompt_name = PROMPTS[DOCUMENT][0]  # of `encode`, and so of `hf-longformer predict`
        if strange := [size for size in data.matryoshka_dims if not 0 < size <= model.get_embedding_dimension()]:
            raise InputError(
                f"--matryoshka_dims must lie between 1 and {model.get_embedding_dimension()}, got {strange[0]}"
            )
        if not self.training.do_train:
            return
        if data.train == "new-positions":
            name = self.model_arguments.model_name_or_path
            self.new_positions = NewPositions(model, model.config, self.source_length, name)
        elif model.config.global_attention in ("auto", "none"):  # nothing is global, and nothing trains them
            for name, parameter in model.named_parameters():
                parameter.requires_grad = parameter.requires_grad and "_global." not in name
        self.training.eval_on_start = self.training.eval_on_start or "validation" in self.tables

    def prompt(self, role: str) -> str:
        """What `encode_query` and `encode_document` put in front."""
        prompts = self.model.prompts
        names = [name for name in (*PROMPTS[role], self.model.default_prompt_name) if name in prompts]
        return prompts[names[0]] if names else ""

    def windows_of(self, split: str, table: Dataset) -> Dataset:
        """Tokens of every text, and its number."""
        self.model.max_seq_length = self.length
        if split == "train":
            table = self._with_negatives(table)
            self.keys = keys_of(self.texts[split].rows, self.texts[split].columns)
        columns = self.texts[split].columns
        embedders = {name: self._embedder(name) for name in columns}
        cut: list[int] = []
        parts = []
        for start in range(0, len(table), AT_ONCE):
            batch, found = table[start : start + AT_ONCE], {}
            over = np.zeros(len(batch[QUERY]), dtype=int)
            for name in columns:
                rows, windows = embedders[name].prepare([{"text": one, "truncate": True} for one in batch[name]])
                found[name] = [window["input_ids"] for window in windows]
                over += [row["cut"] for row in rows]
            cut += over.tolist()
            parts.append(Dataset.from_dict(found))
        if any(cut):
            self.cut[split] = {"pairs": sum(map(bool, cut)), "tokens": sum(cut)}
        whole = concatenate_datasets(parts)
        return whole.add_column("keys", self.keys) if split == "train" else whole

    def _embedder(self, name: str) -> Embedder:
        found = Embedder(self.model, self.tokenizer, self.length)
        found.prompt = self.prompt(QUERY if name == QUERY else DOCUMENT)
        return found

    def _with_negatives(self, table: Dataset) -> Dataset:
        """The table with the documents of others that are like the queries, if they are asked for."""
        texts, at_once = self.texts["train"], self.data.queries_at_once
        if at_once > 1 and (self.data.hard_negatives or len(texts.columns) > 2):
            raise InputError(
                f"--queries_at_once must be 1 where queries have negatives of their own, got {at_once}: leave it out, "
                "or the negatives"
            )
        if not self.data.hard_negatives:
            return table
        if len(texts.columns) > 2:
            raise InputError(
                f"--hard_negatives must be 0 where rows have negatives, got {', '.join(texts.columns[2:])}"
            )
        kept = self.folder / KEPT
        if self._goes_on(kept):
            mined = read_json(kept, list)
        else:
            prompts = self.prompt(QUERY), self.prompt(DOCUMENT)
            mined = mine(texts, self.model, self.data.hard_negatives, self.data.hard_negatives_margin, prompts)
            self._claim()
            write_json(kept, mined)
        found = with_negatives(texts, mined)
        lost = len(texts.rows) - len(found)
        if lost:
            logger.warning(f"skipped {lost} of {len(texts.rows)} pairs with fewer hard negatives than asked for")
            self.skipped["train"] += lost
        texts.rows = found
        return texts.dataset()

    def _goes_on(self, kept: Path) -> bool:
        """Whether something was computed before, by this run."""
        return self.run is not None and kept.exists() and not self.run.removes

    def _claim(self) -> None:
        """Before what is computed once is kept in the run's folder."""
        if self.run is not None:
            self.run.claim()

    def trainer_options(self) -> dict[str, Any]:
        """Loss, evaluator and what makes batches."""
        data, training = self.data, self.training
        evaluated = self.texts.get("validation")
        evaluator = None if evaluated is None else evaluator_of(evaluated, training.per_device_eval_batch_size)
        if not training.do_train:
            return {
                "loss": torch.nn.Identity(),
                "evaluator": evaluator,
                "data_collator": PairCollator(self.tokenizer, []),
            }
        embedder = self._embedder(DOCUMENT)
        columns, cutter = self.texts["train"].columns, None
        if data.segments is not None and data.segments < self.length:
            around = len(embedder.first), len(embedder.last)
            cutter = SegmentCutter(data.segments, around, self.model.config.first_position, training.seed)
        lengths = {name: self._prompt_length(QUERY if name == QUERY else DOCUMENT) for name in columns}
        known = {name: length for name, length in lengths.items() if length is not None}
        teacher = None if data.teacher == "none" else self._teacher(embedder)
        return {
            "loss": make_loss(self.model, data),
            "evaluator": evaluator,
            "data_collator": PairCollator(
                self.tokenizer, columns, known, cutter, teacher, together=data.queries_at_once > 1
            ),
            "keys": self.keys,
            "new_positions": self.new_positions,
            "together": data.queries_at_once,
        }

    def _prompt_length(self, role: str) -> int | None:
        prompt = self.prompt(role)
        return self.model.preprocess(["a"], prompt=prompt).get("prompt_length") if prompt else None

    def _teacher(self, embedder: Embedder) -> Teacher:
        """The model before training; computed once, also where a run goes on."""
        place = self.folder / FOLDER
        if self._goes_on(place):
            return Teacher.load(place)
        texts, data = self.texts["train"], self.data
        queries: dict[int, str] = {}
        documents: dict[int, str] = {}
        for row, keys in zip(texts.rows, self.keys, strict=True):
            for name, key in zip(texts.columns, keys, strict=True):
                (queries if name == QUERY else documents)[key] = row[name]
        chunk = data.chunk_size or min(self.source_length or LONGEST_CHUNK, self.length)
        prompts = self.prompt(QUERY), self.prompt(DOCUMENT)
        made = make_teacher(embedder, data.teacher, queries, documents, prompts, chunk, data.mini_batch_tokens)
        self._claim()
        made.save(place)
        return Teacher.load(place)

    def measure(self, trainer: Any, results: dict[str, Any]) -> None:
        """Validation before and after training, and the test."""
        scores, best = results["scores"], trainer.state.best_model_checkpoint
        if self.training.do_train and self.training.load_best_model_at_end and best is not None:
            trainer.model.load_state_dict(trainer.weights_of(Path(best)))  # sentence-transformers only logs a failure
        before = next((entry for entry in trainer.state.log_history if f"eval_{BEST}" in entry), None)
        if before is not None and self.training.do_train:
            scores["validation before training"] = {name: before[f"eval_{name}"] for name in MEASURES}
        for split in SPLITS[1:]:
            if split in self.texts:
                evaluator = evaluator_of(self.texts[split], self.training.per_device_eval_batch_size)
                scores[split] = evaluator(self.model)

    def more_results(self) -> dict[str, Any]:
        """What was trained, and what the card says of it."""
        searched = {split: len(texts.only_searched) for split, texts in self.texts.items() if texts.only_searched}
        return {
            "train": self.data.train,
            FIELD: self.source_length,
            "model_class": HfLongformerModel.__name__,
            "sentence_transformers": True,
            **({"only searched": searched} if searched else {}),
        }

    def before_saving(self, results: dict[str, Any]) -> None:
        """What the folder says of the model is true of it again."""
        config: Any = self.model.config
        if self.data.train == "all" and config.global_attention in ("auto", "none"):
            sync_projections(self.model)
        if self.data.matryoshka_dims:
            config.matryoshka_dimensions = sorted({*self.data.matryoshka_dims, self.model.get_embedding_dimension()})
        self.model.max_seq_length = min(self.model_limit, config.max_length_tokens)
        unused = self.folder / "eval"  # which sentence-transformers makes for what is not written
        if unused.is_dir() and not any(unused.iterdir()):
            unused.rmdir()
