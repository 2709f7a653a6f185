# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer finetune …` and `evaluate …`: words are handed on to the training scripts."""

from typing import Any

import typer

from .installed import read

finetune = typer.Typer(
    help="Train on long documents: `hf-longformer finetune qa --help` has the arguments, which can stand in a recipe.",
    no_args_is_help=True,
)
evaluate = typer.Typer(
    help="Measure a trained checkpoint on validation and test data: the arguments of `finetune`, without training.",
    no_args_is_help=True,
)
HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
WITHOUT_TRAINING = ("--do_train", "False")


def _add_script(name: str, summary: str) -> None:
    def run(words: list[str]) -> None:
        from hf_longformer.finetune.tasks import module_of

        show_scores(module_of(name).TASK.main(words))

    @finetune.command(name, help=summary, context_settings=HANDED_ON)
    def train(context: typer.Context) -> None:
        run(context.args)

    @evaluate.command(name, help=f"Measure what `finetune {name}` trained.", context_settings=HANDED_ON)
    def measure(context: typer.Context) -> None:
        run([*context.args, *WITHOUT_TRAINING])


for _name, _entry in read("finetune/tasks")["TASKS"].items():
    _add_script(_name, _entry.help)


def show_scores(results: dict[str, Any]) -> None:
    """Prints what was measured."""
    for name in ("before", "after"):
        if name in results:
            typer.echo(f"{name}: {results[name]['bits_per_character']:.3f} bits per character")
    for split, scores in results["scores"].items():
        numbers = [f"{name} {value:.4g}" for name, value in scores.items() if isinstance(value, float)]
        typer.echo(f"{split}: {', '.join(numbers)}")
        for row in scores.get("by_overlap", []):
            bits = "" if row["bits_per_token"] is None else f": {row['bits_per_token']:.4g} bits per token"
            typer.echo(
                f"  at most {row['overlap']:.1%} of a chunk stands in what was found for it: {row['chunks']:,} chunks, "
                f"{row['share']:.1%}{bits}"
            )
