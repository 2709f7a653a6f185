# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The shape of the source: who imports whom, and the rules of the house that a machine can check."""

import ast
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import transformers

import hf_longformer
from hf_longformer import transformers_internals
from hf_longformer.finetune.tasks import TASKS
from hf_longformer.transformers_internals import OVERRIDDEN, release

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "hf_longformer").glob("*.py"))
COMMAND_LINE = sorted((ROOT / "hf_longformer_cli").glob("*.py"))
FOLDERS = (
    "hf_longformer",
    "hf_longformer_cli",
    "conversion",
    "exporting",
    "finetune",
    "benchmarks",
    "model_cards",
    "retrieval",
    "serving",
)
SOURCES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
ROOMS = sorted(file.parent for file in (ROOT / "finetune").glob("*/task.py"))
INSTALLED_INSIDE = {"conversion", "exporting", "finetune", "benchmarks", "model_cards", "retrieval", "serving"}

# The floors of the package: a file may import those of lower floors only. Implementations of the attention never import
# one another; that with dropout is a part of the one on a CPU.
ATTENTIONS = {"attention_reference", "attention_blocked", "attention_cpu", "attention_triton", "attention_flex"}
FLOORS = (
    {"settings_hf_longformer"},
    {"version", "window_pattern", "configuration_hf_longformer", "transformers_internals", "operators", "byte_tokens"},
    {"plain_modules", "token_roles", "workspace", "kernels_triton_parts", "global_masks", "drawing"}
    | {"configuration_encoder_decoder_hf_longformer"},
    {"dense_attention", "blocks", "masks", "dropout_cpu", "cache_hf_longformer", "attention_layout", "kernels_triton"},
    {"global_rows", "gradients_cpu", "feed_forward", "attention_causal", "inputs_hf_longformer"},
    {"attention_cpu_dropout"},
    ATTENTIONS,
    {"kernel_proof"},
    {"dispatch"},
    {"collectives", "text_slices"},
    {"attention_hf_longformer", "slice_exchange", "text_segments", "unpadding_hf_longformer"},
    {"attention_decoder_hf_longformer"},
    {"neighbours_hf_longformer"},
    {"layers_hf_longformer"},
    {"modeling_hf_longformer"},
    {"modeling_heads_hf_longformer", "explain"},
    {"modeling_causal_hf_longformer", "modeling_coreference_hf_longformer", "modeling_evidence_hf_longformer"}
    | {"modeling_encoder_decoder_hf_longformer"},
    {"context_parallel", "stock"},
)
ALLOWED: dict[str, set[str]] = {}
for number, floor in enumerate(FLOORS):
    ALLOWED |= dict.fromkeys(floor, set().union(*FLOORS[:number]))
ALLOWED["__init__"] = set(ALLOWED) - {"drawing"}


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def relative_imports(tree: ast.AST) -> set[str]:
    """First names of what is imported from the same folder."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found


def absolute_imports(tree: ast.AST) -> set[str]:
    """First names of what is imported from anywhere else."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def outside_functions(tree: ast.Module) -> ast.Module:
    """The tree without the bodies of functions."""

    class Emptied(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            node.body = [ast.Pass()]
            return node

    return Emptied().visit(deepcopy(tree))


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_files_and_functions_are_small(file: Path):
    """500 lines, 60 for a function without its docstring; a kernel is one function, compiled as a whole."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 500
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.FunctionDef) and file.name != "kernels_triton.py":
            first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
            signature = node.body[0].lineno - node.lineno
            assert node.end_lineno - first.lineno + 1 + signature <= 60, node.name


def test_floors_stand_in_the_contributors_guide():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = text[text.index("```text\n") :].split("```")[1].splitlines()[1:]
    assert [set(line.split()) for line in drawn if not line.startswith("──")] == [*reversed(FLOORS)]
    assert {file.stem for file in PACKAGE} - {"__init__"} == set().union(*FLOORS)


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_dependencies_point_one_way(file: Path):
    tree = parse(file)
    assert relative_imports(tree) <= ALLOWED[file.stem]
    assert "hf_longformer" not in absolute_imports(tree)
    assert not {*INSTALLED_INSIDE, "hf_longformer_cli", "tests"} & absolute_imports(tree)


@pytest.mark.parametrize("file", COMMAND_LINE, ids=name_of)
def test_the_command_line_imports_what_a_command_needs_inside_functions(file: Path):
    at_import = absolute_imports(outside_functions(parse(file)))
    assert at_import <= set(sys.stdlib_module_names) | {"typer"}


@pytest.mark.parametrize("file", [file for file in SOURCES if file not in COMMAND_LINE], ids=name_of)
def test_nothing_imports_the_command_line(file: Path):
    assert "hf_longformer_cli" not in absolute_imports(parse(file))


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_relative_imports_have_one_level(file: Path):
    """`register_for_auto_class` copies the files of a model into one flat folder."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, node.lineno
            assert node.module, f"line {node.lineno}: from . import"
            assert "." not in node.module, node.lineno
            assert all(alias.name != "*" for alias in node.names), node.lineno


@pytest.mark.parametrize("file", [file for file in SOURCES if file not in PACKAGE], ids=name_of)
def test_what_is_built_on_the_package_uses_its_public_names(file: Path):
    for node in ast.walk(parse(file)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("hf_longformer"):
            continue
        _, _, module = node.module.partition(".")
        if module.split(".")[0] in INSTALLED_INSIDE:
            continue
        public = public_names(module) if module else set(hf_longformer.__all__)
        assert {alias.name for alias in node.names} <= public | INSTALLED_INSIDE, node.lineno


def public_names(module: str) -> set[str]:
    """What a file lists in `__all__`; `drawing` is documented as a whole."""
    tree = parse(ROOT / "hf_longformer" / f"{module}.py")
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return {getattr(node, "name", "") for node in tree.body} if module == "drawing" else set()


def imported_from_finetune(file: Path) -> set[str]:
    """First names below `finetune` of what a file of it imports."""
    inside = file.parent != ROOT / "finetune"
    found = set()
    for node in ast.walk(parse(file)):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module or ""
        if node.level == 1 + inside:
            found |= {module.split(".")[0]} if module else {alias.name for alias in node.names}
        elif not node.level and module.startswith("hf_longformer.finetune"):
            found |= {module.split(".")[2]} if module.count(".") > 1 else {alias.name for alias in node.names}
    return found


def test_tasks_are_rooms():
    """A task imports what is shared and none of the others; what is shared knows tasks by the table alone."""
    rooms = {folder.name for folder in ROOMS}
    assert rooms == {name.replace("-", "_") for name in TASKS}
    for file in (ROOT / "finetune").rglob("*.py"):
        own = {file.parent.name} if file.parent in ROOMS else {file.stem.removeprefix("run_")}
        assert imported_from_finetune(file) & rooms <= own, file
    assert "hf_longformer" not in absolute_imports(parse(ROOT / "finetune" / "tasks.py"))


def test_importing_the_package_loads_neither_the_rest_nor_anything_heavy(imported):
    loaded = set(imported.stdout.split())
    assert "hf_longformer.modeling_hf_longformer" in loaded
    unwanted = {f"hf_longformer.{name}" for name in INSTALLED_INSIDE} | {"hf_longformer_cli", "typer", "matplotlib"}
    assert not unwanted & loaded


# Documented parts of Transformers below its top level. Everything else of it stands in `transformers_internals`.
DOCUMENTED = {
    "activations": {"ACT2FN", "GELUActivation", "gelu"},
    "configuration_utils": {"PreTrainedConfig"},
    "exporters": None,  # all of it
    "modeling_outputs": None,  # all of it
    "modeling_utils": {"AttentionInterface", "PreTrainedModel"},
    "pipelines": {"PIPELINE_REGISTRY"},
    "trainer_utils": {"IntervalStrategy", "SaveStrategy"},
    "utils": {"ModelOutput", "logging"},
}


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_private_names_of_transformers_stand_in_one_file(file: Path):
    if file.stem == "transformers_internals":
        return
    for node in ast.walk(parse(file)):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "transformers":
            continue
        names = {alias.name for alias in node.names}
        _, _, module = node.module.partition(".")
        if module:
            assert module in DOCUMENTED, f"line {node.lineno}: {node.module}"
            assert DOCUMENTED[module] is None or names <= DOCUMENTED[module], f"line {node.lineno}: {names}"
        else:
            assert names <= {name for name in dir(transformers) if not name.startswith("_")}, node.lineno


def test_overridden_members_of_transformers_are_listed():
    """A class of ours that sets or overrides a private member of theirs says so in `transformers_internals`."""
    found = set()
    names = ("modeling_hf_longformer", "modeling_heads_hf_longformer", "modeling_causal_hf_longformer")
    for module in (getattr(hf_longformer, name) for name in names):
        for owner in vars(module).values():
            if isinstance(owner, type) and owner.__module__ == module.__name__:
                found |= overridden(owner)
    assert found == set(OVERRIDDEN)


def overridden(owner: type) -> set[str]:
    """Members with a leading underscore that a class has from Transformers and sets anew."""
    theirs = [base for base in owner.__mro__ if base.__module__.startswith("transformers.")]
    own = {name for name in vars(owner) if name.startswith("_") and not name.startswith("__")}
    return {name for name in own if any(name in vars(base) for base in theirs)}


@pytest.fixture(scope="module")
def imported() -> subprocess.CompletedProcess:
    """A process of its own that imports the package where Transformers is newer than all that was tested."""
    lines = "import sys, transformers; transformers.__version__ = '5.99.1'; import hf_longformer; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)


def test_import_says_once_that_transformers_is_newer_than_what_was_tested(imported):
    said = [line for line in imported.stderr.splitlines() if "was tested with Transformers" in line]
    assert len(said) == 1
    assert "got 5.99.1" in said[0]


@pytest.mark.parametrize(("version", "is_newer"), [("5.17.0", False), ("5.24.7", False), ("5.25.0.dev0", True)])
def test_patches_of_a_tested_release_are_not_newer(version: str, is_newer: bool):
    assert (release(version) > release(transformers_internals.NEWEST)) == is_newer


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_no_assert_and_no_print(file: Path):
    for node in ast.walk(parse(file)):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"print in line {node.lineno}"


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_public_names_have_a_docstring(file: Path):
    tree = parse(file)
    definitions = (ast.FunctionDef, ast.ClassDef)
    assert ast.get_docstring(tree), "the file has none"
    public = [node for node in tree.body if isinstance(node, definitions) and not node.name.startswith("_")]
    exported = [node for node in public if isinstance(node, ast.ClassDef) and node.name in hf_longformer.__all__]
    for owner in exported:
        public += [node for node in owner.body if isinstance(node, definitions) and not node.name.startswith("_")]
    missing = [f"{node.name}, line {node.lineno}" for node in public if not ast.get_docstring(node)]
    assert not missing


@pytest.mark.parametrize("file", [*SOURCES, *sorted((ROOT / "tests").glob("*.py"))], ids=name_of)
def test_files_begin_with_the_licence(file: Path):
    first, second = file.read_text(encoding="utf-8").splitlines()[:2]
    assert first == "# Copyright 2026 The hf-longformer authors."
    assert second == "# SPDX-License-Identifier: Apache-2.0"


def test_all_names_exist_and_stand_in_order():
    assert hf_longformer.__all__ == sorted(hf_longformer.__all__)
    assert all(hasattr(hf_longformer, name) for name in hf_longformer.__all__)
