#!/usr/bin/env bash
# typer 0.29.2: `context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE`, Click's documented way to
# tell an option that was given from its default, is False for an option that was given. Nothing is said.
# Expected by most: True, since a `typer.Context` was a `click.Context`; Typer now brings a copy of Click of its own, whose
# enumeration has the same names and other members, also where Click is installed.
# Seen with click 8.5.1:
#   a click.Context: False
#   the source of --size 3: COMMANDLINE
#   is it Click's COMMANDLINE: False, equal: False, of the same name: True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet typer==0.29.2 click==8.5.1 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
import click
import typer
from click.core import ParameterSource

app = typer.Typer()


@app.command()
def show(context: typer.Context, size: int = 1) -> None:
    source = context.get_parameter_source("size")
    print("a click.Context:", isinstance(context, click.Context))
    print("the source of --size 3:", source.name)
    same = source is ParameterSource.COMMANDLINE, source == ParameterSource.COMMANDLINE, source.name == "COMMANDLINE"
    print(f"is it Click's COMMANDLINE: {same[0]}, equal: {same[1]}, of the same name: {same[2]}")


app(["--size", "3"])
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
a click.Context: False
the source of --size 3: COMMANDLINE
is it Click's COMMANDLINE: False, equal: False, of the same name: True
SEEN
