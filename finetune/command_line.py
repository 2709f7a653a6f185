# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What the training scripts' command lines say: help that begins with their own arguments, one sentence for a wrong
one, and the recipes that come with the package.
"""

import dataclasses
import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser, TrainingArguments

from hf_longformer.conversion.errors import InputError, one_line

RECIPES = (".yaml", ".yml", ".json")
BUNDLED = Path(__file__).parent / "recipes"
HELP, HELP_ALL = ("-h", "--help"), "--help-all"


class Parser(HfArgumentParser):
    """`HfArgumentParser` that raises what is wrong as one sentence, and takes no abbreviations."""

    def __init__(self, types: Sequence[Any]) -> None:
        super().__init__(tuple(types), prog=program(), allow_abbrev=False)
        self.types = types

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{one_line(ValueError(message))}: `{self.prog} --help` lists all arguments")

    def read(self, words: Sequence[str]) -> tuple[Any, ...]:
        """One object per type from the words of the command line.

        Raises:
            InputError: If an argument is unknown, missing or wrong.
        """
        known = {name for one in self.types for name in _names(one)}
        for word in words:
            name = word[2:].split("=")[0].replace("-", "_")
            if word.startswith("--") and name not in known:
                raise InputError(f"there is no argument --{name}{did_you_mean(name, known, '--')}")
        try:
            *objects, rest = self.parse_args_into_dataclasses(list(words), return_remaining_strings=True)
        except (InputError, ImportError):
            raise
        except Exception as error:  # whatever Transformers says of values that do not go together
            raise InputError(f"the arguments cannot be used: {one_line(error)}") from error
        if rest:
            raise InputError(
                f"values must stand behind the argument that they are for, got {' '.join(rest)[:80]} alone"
            )
        return tuple(objects)


def program() -> str:
    """What the user has called: `hf-longformer finetune qa`, or a script."""
    words = sys.argv
    is_command = words[1:2] in (["finetune"], ["evaluate"])
    return " ".join(["hf-longformer", *words[1:3]]) if is_command else f"python {words[0]}"


def did_you_mean(name: str, known: Any, prefix: str = "") -> str:
    """A hint at the closest of the known names, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {prefix}{close[0]}?" if close else ""


def bundled_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(file.stem for file in BUNDLED.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """A recipe: a file, or the name of one that comes with the package, with or without its ending.

    Raises:
        InputError: If there is none.
    """
    file, names = Path(name), bundled_recipes()
    if file.suffix in RECIPES and file.exists():
        return file
    stem = name.removesuffix(".yaml")
    if stem in names:
        return BUNDLED / f"{stem}.yaml"
    hint = did_you_mean(stem, names) or f": those that come with the package are {', '.join(names)}"
    raise InputError(f"the recipe {name} cannot be read: there is no such file ending in {', '.join(RECIPES)}{hint}")


def help_text(types: Sequence[Any], everything: bool = False) -> str:
    """The help of a script: its own arguments with what they mean, then the names of Transformers' own.

    Args:
        types: Dataclasses of arguments.
        everything: Whether to say what Transformers' own mean, too.
    """
    width = min(100, shutil.get_terminal_size().columns)
    lines = [f"usage: {program()} [RECIPE] [--argument VALUE …]", ""]
    inherited: list[str] = []
    for one in types:
        own = set(_names(one))
        if issubclass(one, TrainingArguments):
            own = {
                name for part in one.__mro__ if part not in TrainingArguments.__mro__ for name in part.__annotations__
            }
        lines += [str(one.__doc__).splitlines()[0], ""]
        hints = get_type_hints(one)
        for field in dataclasses.fields(one):
            if field.name in own or everything:
                lines += _entry(field, hints[field.name], width)
            else:
                inherited.append(f"--{field.name}")
        lines.append("")
    if inherited:
        lines += [f"Arguments of Transformers' own TrainingArguments; {HELP_ALL} says what they mean:", ""]
        lines += [*_wrapped(", ".join(inherited), width, "  "), ""]
    lines += ["Recipes that come with the package:", "", *_wrapped(", ".join(bundled_recipes()), width, "  ")]
    return "\n".join(lines) + "\n"


def _names(one: Any) -> Iterator[str]:
    for field in dataclasses.fields(one):
        yield from (field.name, f"no_{field.name}")
        yield from (alias.lstrip("-").replace("-", "_") for alias in field.metadata.get("aliases") or ())


def _entry(field: Any, kind: Any, width: int) -> list[str]:
    choices = [str(one) for part in (kind, *get_args(kind)) if get_origin(part) is Literal for one in get_args(part)]
    value = f" {{{','.join(choices)}}}" if choices else ""
    text = " ".join(str(field.metadata.get("help", "")).split())
    missing = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    if missing:
        text = f"{text} Required."
    elif field.default not in (None, dataclasses.MISSING, ""):
        text = f"{text} [{field.default}]"
    return [f"  --{field.name}{value}", *_wrapped(text, width, " " * 6)]


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, **options)
