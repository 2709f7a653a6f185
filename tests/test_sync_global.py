# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.conversion.sync_global`."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sources import make_source

import hf_longformer
from hf_longformer.conversion import InputError, convert, export, sync_global


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A converted language model, trained a little without global tokens: the local projections moved."""
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "trained", max_length=260, attention_window=16)
    model = hf_longformer.HfLongformerForMaskedLM.from_pretrained(tmp_path / "trained")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    input_ids = torch.arange(5, 105)[None]
    model(input_ids, labels=input_ids).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


def pairs(folder: Path, shards: str = "model.safetensors") -> list[tuple[torch.Tensor, torch.Tensor]]:
    weights = {name: weight for file in folder.glob(shards) for name, weight in load_file(file).items()}
    return [(weights[name], weights[name.replace("_global.", ".")]) for name in weights if "_global." in name]


@pytest.mark.parametrize("in_place", [True, False])
def test_projections_are_copied_and_recorded(in_place: bool, trained: Path, tmp_path: Path) -> None:
    before = load_file(trained / "model.safetensors")
    assert not all(torch.equal(one, other) for one, other in pairs(trained))
    output = trained if in_place else tmp_path / "synced"
    report = sync_global(trained, None if in_place else output)
    assert report["weights"] == 12
    assert report["changed"] > 0
    assert all(torch.equal(one, other) for one, other in pairs(output))
    after = load_file(output / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if "_global." not in name)
    assert hf_longformer.HfLongformerConfig.from_pretrained(output).global_projections == "synced"
    assert "| global projections | synced" in (output / "README.md").read_text()
    assert json.loads((output / "conversion_report.json").read_text())["global_projections"] == "synced"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"source", "trained", output.name})
    assert sync_global(output)["changed"] == 0


def test_sharded_checkpoint(trained: Path) -> None:
    model = hf_longformer.HfLongformerForMaskedLM.from_pretrained(trained)
    (trained / "model.safetensors").unlink()
    model.save_pretrained(trained, max_shard_size="20KB")
    sync_global(trained)
    assert len(pairs(trained, "model-*.safetensors")) == 12
    assert all(torch.equal(one, other) for one, other in pairs(trained, "model-*.safetensors"))
    hf_longformer.HfLongformerForMaskedLM.from_pretrained(trained)


def test_card_of_another_make_gets_the_line(trained: Path) -> None:
    (trained / "README.md").write_text("# My model\n")
    sync_global(trained)
    assert "| global projections | synced" in (trained / "README.md").read_text()


def test_record_is_kept_by_a_further_conversion_and_not_asked_of_stock(trained: Path, tmp_path: Path) -> None:
    sync_global(trained)
    convert(trained, tmp_path / "longer", max_length=520)
    assert hf_longformer.HfLongformerConfig.from_pretrained(tmp_path / "longer").global_projections == "synced"
    assert "| global projections | synced" in (tmp_path / "longer" / "README.md").read_text()
    assert export(trained, tmp_path / "stock")["largest_difference"] <= 1e-5


def test_what_is_no_checkpoint_of_ours_is_refused(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    with pytest.raises(InputError, match="must hold a converted checkpoint"):
        sync_global(tmp_path / "source")
    with pytest.raises(InputError, match="must be a folder"):
        sync_global(tmp_path / "nowhere")
