# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer draw`, `demo` and `bench`: what the attention looks like, what it does, and how fast."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import quiet, refusal

OF_BOTH = {"what", "lengths", "threads", "output", "anew"}
OWN_OPTIONS = {  # of what `bench` measures by other means than the others
    "needle": {"books", "checkpoint", "depths", "seeds"},
    "retrieval": {"books", "checkpoint", "seeds", "source", "questions", "distractors"},
    "overhead": {"passes"},
}
OF_OTHERS_TOO = {"passes"}  # which what is measured by the same means takes as well
What = Annotated[
    str,
    typer.Argument(
        help="operator, inference, training, causal, padding, encoder-decoder or memory; all: all but the last two; "
        "or needle: from how far away a name is found in text of 4,096 to 1,048,576 tokens; "
        "or retrieval: whether a vector of a long text finds it, beside vectors of its chunks; "
        "or overhead: what short texts cost beside RoBERTa, in time and in operators."
    ),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        help="Tokens per text, separated by commas: 512,2048; of needle: 4096 and its fourfolds to 1048576; "
        "of retrieval: 512 and its doubles to 32768; of overhead: 64,512."
    ),
]
Estimated = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Only say what a checkpoint, or a size, is expected to take.")
]
Books = Annotated[
    Path | None,
    typer.Option(help="Of needle, retrieval: a folder with novels, .txt files; a story that is here, again and again."),
]
Asked = Annotated[
    list[Path] | None,
    typer.Option(
        help="Of needle: a masked language model of this package, asked as it is. "
        "Of retrieval: a long sentence encoder; may be repeated."
    ),
]
Depths = Annotated[
    str | None, typer.Option(help="Of needle: where the name is said, in per cent of the text: 0,25,50,75,100.")
]
Seeds = Annotated[str | None, typer.Option(help="Of needle, of training and texts: 0,1,2; of retrieval, of texts: 0.")]
Source = Annotated[
    Path | None,
    typer.Option(help="Of retrieval: a short sentence encoder, whose chunks are measured: all-MiniLM-L6-v2."),
]
Questions = Annotated[
    list[Path] | None,
    typer.Option(help="Of retrieval: a JSON file in SQuAD's form, whose contexts are documents; may be repeated."),
]

Distractors = Annotated[
    list[Path] | None, typer.Option(help="Of retrieval: the same, whose questions are not asked; may be repeated.")
]


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
    from hf_longformer.drawing import draw_patterns, figure_2_panels

    positions = [0] if global_positions is None else global_positions
    try:
        panels = figure_2_panels(length, attention_window, attention_dilation, positions, causal)
        draw_patterns(panels, length, output)
    except (ValueError, OSError) as error:
        raise refusal(f"{output}: {error.strerror}" if isinstance(error, OSError) else str(error)) from error
    typer.echo(f"drew {len(panels)} patterns of {length} tokens in {output}")


def demo(
    source: Annotated[
        str, typer.Option(help="tiny, a small RoBERTa that is here already, or minilm, a real encoder.")
    ] = "tiny",
    output: Annotated[Path, typer.Option(help="The folder for the converted models and the pictures.")] = Path(
        "demo-output"
    ),
) -> None:
    """Convert an encoder, read long documents with it, and compare: a minute or two on two CPU cores."""
    from hf_longformer.benchmarks.demo import run_demo

    quiet()
    run_demo(source, output, typer.echo)


def bench(
    context: typer.Context,
    what: What = "all",
    size: Annotated[str, typer.Option(help="Of the encoders: tiny, small (6 layers of 384) or base.")] = "small",
    lengths: Lengths = None,
    windows: Annotated[str, typer.Option(help="Total widths of the window, separated by commas.")] = "512",
    dilations: Annotated[str, typer.Option(help="Distances between keys, separated by commas.")] = "1",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16; several separated by commas.")] = "float32",
    allocator: Annotated[
        str,
        typer.Option(help="What the C library does with freed pages: default, keeps or returns."),
    ] = "default",
    peers: Annotated[str | None, typer.Option(help="Who takes part, separated by commas: all.")] = None,
    batch: Annotated[str, typer.Option(help="Texts at once, separated by commas.")] = "1",
    passes: Annotated[int | None, typer.Option(help="Timed rounds; medians count: 3, of overhead 9.", min=1)] = None,
    longest: Annotated[
        float, typer.Option(help="Steps of more seconds are timed once, and not tried at greater lengths.", min=0)
    ] = 120.0,
    threads: Annotated[int | None, typer.Option(help="Threads: PyTorch's own choice; of overhead one.", min=1)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[Path, typer.Option(help="The JSON file; what it holds is kept. Plots go beside it.")] = Path(
        "benchmarks.json"
    ),
    anew: Annotated[bool, typer.Option("--anew", help="Measure again what OUTPUT holds.")] = False,
    estimate_memory: Estimated = None,
    length: Annotated[int, typer.Option(help="Tokens per text, for --estimate-memory.", min=3)] = 4096,
    checkpointing: Annotated[bool, typer.Option(help="Gradient checkpointing, for --estimate-memory.")] = False,
    books: Books = None,
    checkpoint: Asked = None,
    depths: Depths = None,
    seeds: Seeds = None,
    source: Source = None,
    questions: Questions = None,
    distractors: Distractors = None,
) -> None:
    """Measure time and memory beside other encoders, after proving results right; or find what texts say."""
    from hf_longformer.benchmarks.command import estimate_command, measure_command, overhead_command

    quiet()
    refuse_foreign_options(what, context)
    if what == "overhead":
        rounds = {} if passes is None else {"passes": passes}
        lines = overhead_command(output, lengths, threads=threads, anew=anew, **rounds)
    elif what in OWN_OPTIONS:
        given: dict[str, Any] = {"output": output, "lengths": lengths, "seeds": seeds, "depths": depths, "books": books}
        given |= {"threads": threads, "anew": anew, "checkpoint": checkpoint, "source": source}
        lines = _searched(what, given | {"questions": questions, "distractors": distractors})
    elif estimate_memory is not None:
        lines = estimate_command(estimate_memory, length, batch, dtype, checkpointing)
    else:
        choices: dict[str, Any] = {"size": size, "lengths": lengths or "512,2048", "windows": windows}
        choices |= {"dilations": dilations, "dtypes": dtype, "allocators": allocator}
        choices |= {"peers": peers, "batch": batch, "device": device}
        settings = {"passes": passes or 3, "longest": longest, "threads": threads, "anew": anew}
        lines = measure_command(what, output, choices, settings)
    for line in lines:
        typer.echo(line)


def _searched(what: str, given: dict[str, Any]) -> list[str]:
    """What `bench needle` and `bench retrieval` find, as lines of text."""
    from hf_longformer.benchmarks.command import needle_command, retrieval_command

    output, checkpoints = given["output"], given["checkpoint"] or []
    numbers = {"lengths": given["lengths"], "seeds": given["seeds"]}
    both = {name: given[name] for name in ("books", "threads", "anew")}
    if what == "retrieval":
        files = {name: given[name] or [] for name in ("questions", "distractors")}
        return retrieval_command(output, numbers, **both, source=given["source"], checkpoints=checkpoints, **files)
    if len(checkpoints) > 1:
        raise refusal(f"`bench needle` takes one --checkpoint, got {len(checkpoints)}")
    checkpoint = checkpoints[0] if checkpoints else None
    return needle_command(output, numbers | {"depths": given["depths"]}, **both, checkpoint=checkpoint)


def refuse_foreign_options(what: str, context: typer.Context) -> None:
    """Refuses options that what is measured would not look at."""
    # By its name: Typer may bring a copy of Click, whose members are others than Click's.
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    of_others = set().union(*OWN_OPTIONS.values()) - OF_OTHERS_TOO
    foreign = given - OF_BOTH - OWN_OPTIONS[what] if what in OWN_OPTIONS else given & of_others
    if foreign:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(foreign))
        raise refusal(f"`bench {what}` does not take {names}: leave it out, or measure something else")
