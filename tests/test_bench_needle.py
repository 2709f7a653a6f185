# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer bench needle`: its texts, what readers can know, and its file of results."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import randomise
from transformers import AutoTokenizer

from hf_longformer import HfLongformerConfig, HfLongformerForMaskedLM
from hf_longformer.benchmarks import needle
from hf_longformer.benchmarks.demo_names import train_on_masks
from hf_longformer.benchmarks.needle import READERS, Cell, Training, ask, measure_cell, reach, run_needle
from hf_longformer.benchmarks.needle_report import by_seed, draw, table
from hf_longformer.benchmarks.needle_texts import NAMES, NeedleText, NeedleTexts, read_fillers
from hf_longformer.conversion import InputError
from hf_longformer.model_cards import embedded_model

LENGTH = 700
GLOBAL, WINDOWS, CUT = READERS
SHORT = {"lengths": (LENGTH, 1400), "depths": (0, 100), "seeds": (0,)}
FEW = {"global": Training((128, 200), 1, 2, True), "windows": Training((128,), 1, 2, False)}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(embedded_model("roberta-tiny-en"))


@pytest.fixture(scope="module")
def texts(tokenizer: Any) -> NeedleTexts:
    return NeedleTexts(tokenizer, read_fillers(tokenizer, None)[1], asked=True)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = HfLongformerConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=66, attention_window=[16, 8], attention_dilation=[1, 2], repeat_positions=True,
        type_vocab_size=1, global_scaling_length=64,
    )  # fmt: skip
    return randomise(HfLongformerForMaskedLM(config)).eval()


@pytest.fixture(scope="module")
def checkpoint(model: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def measured(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = tmp_path_factory.mktemp("measured") / "r.json"
    run_needle(output, checkpoint=checkpoint, lengths=(LENGTH,), depths=(0,), seeds=(0,))
    return output.read_text()


def make(texts: NeedleTexts, depth: float | None = 0.5, seed: int = 0, length: int = LENGTH) -> NeedleText:
    return texts.make(length, depth, random.Random(seed))


class TestTexts:
    @pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
    def test_the_name_stands_where_it_is_said_and_nowhere_else(self, texts: NeedleTexts, depth: float):
        for seed in range(5):
            text = make(texts, depth, seed)
            assert len(text.ids) == LENGTH
            assert (text.ids == text.name).nonzero().tolist() == [[text.name_at]]
            assert (text.ids == texts.tokenizer.mask_token_id).nonzero().tolist() == [[text.mask_at]]
            assert abs(text.name_at - depth * LENGTH) < 80
            decoded = texts.tokenizer.decode(text.ids)
            name = texts.tokenizer.decode(text.name)
            assert f"The lighthouse keeper was called{name}." in decoded
            assert decoded.endswith("The lighthouse keeper was called<mask>.</s>")
            assert len(re.findall(r"The [a-z ]+ was called", decoded)) == 5

    def test_texts_differ_by_seed_and_are_the_same_for_one(self, texts: NeedleTexts):
        assert torch.equal(make(texts).ids, make(texts).ids)
        assert not torch.equal(make(texts).ids, make(texts, seed=1).ids)

    def test_names_are_not_those_of_the_training(self, tokenizer: Any, texts: NeedleTexts):
        others = NeedleTexts(tokenizer, texts.filler, asked=False).names
        assert len(set(texts.names)) == NAMES
        assert len(set(others)) > 10 * NAMES
        assert not set(others) & set(texts.names)

    def test_a_name_that_stands_in_the_text_by_itself_is_replaced_and_counted(self, texts: NeedleTexts):
        named = make(texts)
        of_names = replace(texts.filler, ids=texts.filler.ids * 0 + named.name)
        only = NeedleTexts(texts.tokenizer, of_names, asked=True)
        text = make(only)
        assert text.name == named.name
        assert text.replaced > 600
        assert int((text.ids == text.name).sum()) == 1

    def test_books_are_divided_and_limited(self, tokenizer: Any, tmp_path: Path):
        for name in "dabc":
            (tmp_path / f"{name}.txt").write_text(f"It was {name} book.\r\nA line\r\n\r\nand more.", encoding="utf-8")
        first, second = read_fillers(tokenizer, tmp_path)
        assert (first.books, second.books) == (("a", "c"), ("b", "d"))
        assert tokenizer.decode(second.ids).startswith("It was b book. A line\n\nand more.It was d")
        with pytest.raises(InputError, match=r"at most what the books hold \(b, d: 24 tokens\), got 700"):
            make(NeedleTexts(tokenizer, second, asked=True))

    def test_refused(self, tokenizer: Any, texts: NeedleTexts, tmp_path: Path):
        with pytest.raises(InputError, match=r"two or more \.txt files, got 0"):
            read_fillers(tokenizer, tmp_path)
        (tmp_path / "a.txt").write_bytes(b"caf\xe9")
        (tmp_path / "b.txt").write_bytes(b" \n")
        with pytest.raises(InputError, match=r"in UTF-8, got a\.txt"):
            read_fillers(tokenizer, tmp_path)
        (tmp_path / "a.txt").write_bytes(b"caf")
        with pytest.raises(InputError, match=r"nothing in b\.txt"):
            read_fillers(tokenizer, tmp_path)
        with pytest.raises(InputError, match="at least 128 tokens, got 127"):
            make(texts, length=127)


class TestReaders:
    def test_windows_alone_read_what_they_can_see(self, model: Any, texts: NeedleTexts):
        """The same as reading all of it; and no token more would do."""
        text = make(texts)
        inputs = {name: one[None] for name, one in text.row(is_global=False).items() if name != "labels"}
        with torch.no_grad():
            expected = model(**inputs).logits[0, text.mask_at]
            torch.testing.assert_close(ask(model, text, READERS[WINDOWS])[0], expected)
            assert reach(model.config) == 8 + 4 * 2
            farthest = text.mask_at - reach(model.config)
            for place, same in ((farthest, False), (farthest - 1, True)):
                ids = text.ids.clone()
                ids[place] = 77
                found = ask(model, replace(text, ids=ids), READERS[WINDOWS])[0]
                assert torch.equal(found, ask(model, text, READERS[WINDOWS])[0]) == same

    @pytest.mark.parametrize(("reader", "knows"), [(GLOBAL, True), (WINDOWS, False), (CUT, False)])
    def test_who_can_know_the_name(self, model: Any, texts: NeedleTexts, reader: str, knows: bool):
        text = make(texts, 0.1)
        other = replace(text, ids=torch.where(text.ids == text.name, texts.names[0], text.ids))
        assert text.name != texts.names[0]
        one, two = (ask(model, each, READERS[reader])[0] for each in (text, other))
        assert torch.equal(one, two) != knows

    def test_attention_on_the_name(self, model: Any, texts: NeedleTexts):
        """As the model's own weights say."""
        text = make(texts)
        layers = ask(model, text, READERS[GLOBAL])[1]
        inputs = {name: one[None] for name, one in text.row(is_global=True).items() if name != "labels"}
        with torch.no_grad():
            weights = model(**inputs, output_attentions=True).global_attentions
        assert [one["share"] for one in layers] == pytest.approx(
            [float(one[0, :, text.name_at, 0].max()) for one in weights], rel=1e-4
        )
        assert ask(model, make(texts, 0.1), READERS[CUT])[1] is None
        assert len(ask(model, make(texts, 1.0), READERS[CUT])[1]) == len(layers)

    def test_a_cell(self, model: Any, texts: NeedleTexts):
        cell = Cell(GLOBAL, LENGTH, 50, 0)
        read: list[int] = []
        found = measure_cell(model, texts, cell, read.append)
        assert read == [LENGTH] * cell.texts == [LENGTH] * 10
        assert found["right"] == sum(one == other for one, other in found["answers"])
        names = [measure_cell(model, texts, replace(cell, reader=reader))["answers"] for reader in (WINDOWS, CUT)]
        assert all([one for one, _ in each] == [one for one, _ in found["answers"]] for each in names)
        assert [Cell(GLOBAL, length, 0, 0).texts for length in (2**14, 2**16, 2**20)] == [10, 4, 1]

    def test_rows_of_several_lengths_train_as_they_would_alone(self, checkpoint: Path, texts, tmp_path: Path):
        rows = [make(texts, length=length).row(is_global=True) for length in (130, 300)]
        trained = train_on_masks(checkpoint, tmp_path, rows, 0, steps=1, hidden_dropout_prob=0.0)
        alone = [{name: one for name, one in row.items() if name != "attention_mask"} for row in rows]
        assert all(bool(one["labels"].ge(0).sum() == 1) for one in alone)
        assert all(bool(one.isfinite().all()) for one in trained.parameters())


class TestResults:
    def test_all_of_it_and_again(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        output = tmp_path / "needle.json"
        results = run_needle(output, checkpoint=checkpoint, **SHORT)
        assert json.loads(output.read_text()) == results
        assert len(results["cells"]) == 3 * 2 * 2
        assert results["training"] is None
        lines = table(results).splitlines()
        assert lines[0].startswith(f"| tokens | {GLOBAL} | {WINDOWS} | {CUT} | attention on the name")
        assert lines[2].startswith("| 700 | ")
        assert "of 20)" in lines[2]
        draw(results, tmp_path / "needle.png")
        assert (tmp_path / "needle.png").stat().st_size > 5000
        with monkeypatch.context() as patched:
            patched.setattr(needle, "measure_cell", lambda *_: pytest.fail("measured again"))
            assert run_needle(output, checkpoint=checkpoint, **SHORT) == results
        first = results["cells"].pop(0)
        output.write_text(json.dumps(results))
        again = run_needle(output, checkpoint=checkpoint, **SHORT)["cells"][-1]
        assert {name: again[name] for name in again if name != "seconds"} == {
            name: first[name] for name in first if name != "seconds"
        }

    def test_recall_is_a_mean_of_depths(self):
        cell = {"reader": GLOBAL, "length": 4096, "attention": [None]}
        cells = [
            {**cell, "depth": depth, "seed": seed, "texts": 4, "right": right}
            for depth, seed, right in ((0, 0, 4), (50, 0, 2), (0, 1, 1), (50, 1, 0))
        ]
        assert by_seed(cells) == [75.0, 12.5]
        assert table({"cells": cells}).splitlines()[2] == "| 4,096 | 44 % ± 44 (7 of 16) | – |"

    DAMAGES = {
        "no cells": lambda results: results.pop("cells"),
        "no seed": lambda results: results["cells"][0].pop("seed"),
        "a word for a number": lambda results: results["cells"][0].update(right="1"),
        "more right than texts": lambda results: results["cells"][0].update(right=99),
        "an unknown reader": lambda results: results["cells"][0].update(reader="nobody"),
        "answers that are missing": lambda results: results["cells"][0]["answers"].pop(),
        "no object": lambda results: results["cells"].append(3),
    }

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damaged_results_are_refused(self, damage: str, measured: str, checkpoint: Path, tmp_path: Path):
        results = json.loads(measured)
        self.DAMAGES[damage](results)
        (tmp_path / "r.json").write_text(json.dumps(results))
        with pytest.raises(InputError, match="must hold results of this command"):
            run_needle(tmp_path / "r.json", checkpoint=checkpoint, **SHORT)

    def test_results_of_other_settings_are_refused(self, measured: str, checkpoint: Path, tmp_path: Path):
        (tmp_path / "r.json").write_text(json.dumps({**json.loads(measured), "threads": 77}))
        with pytest.raises(InputError, match="with other threads, 77 instead of"):
            run_needle(tmp_path / "r.json", checkpoint=checkpoint, **SHORT)
        (tmp_path / "r.json").write_text("{")
        with pytest.raises(InputError, match=r"r\.json"):
            run_needle(tmp_path / "r.json", checkpoint=checkpoint, **SHORT)

    def test_training_is_kept(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(needle, "_embedded", lambda: checkpoint)
        output, settings = tmp_path / "r.json", {"lengths": (LENGTH,), "depths": (0,), "seeds": (3,)}
        results = run_needle(output, trainings=FEW, **settings)
        assert results["training"]["global"]["lengths"] == [128, 200]
        trained = HfLongformerConfig.from_pretrained(tmp_path / "r-models" / "global-3")
        assert (trained.repeat_positions, trained.global_scaling_length) == (True, 2048)
        assert sorted(one.name for one in (tmp_path / "r-models").iterdir()) == ["global-3", "windows-3"]
        output.unlink()
        with monkeypatch.context() as patched:
            patched.setattr(needle, "train_on_masks", lambda *_, **__: pytest.fail("trained again"))
            again = run_needle(output, trainings=FEW, **settings)
        assert [one["answers"] for one in again["cells"]] == [one["answers"] for one in results["cells"]]
        output.unlink()
        other = {**FEW, "global": FEW["global"]._replace(steps=2)}
        with pytest.raises(InputError, match="was trained otherwise or elsewhere"):
            run_needle(output, trainings=other, **settings)


class TestCommandLine:
    def test_table_picture_and_results(self, bench, checkpoint: Path, tmp_path: Path):
        words = ("--checkpoint", checkpoint, "--lengths", LENGTH, "--depths", "0,100", "--seeds", "1")
        code, out, error = bench("needle", *words, "--output", tmp_path / "r.json")
        assert (code, error) == (0, "")
        assert "| 700 |" in out
        assert f"picture in {tmp_path / 'r.png'}" in out
        assert (tmp_path / "r.png").exists()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["needle", "--windows", "8", "--peers", "stock"], "`bench needle` does not take --peers, --windows: "),
            (["operator", "--seeds", "1"], "`bench operator` does not take --seeds"),
            (["needle", "--depths", "0,101"], "--depths must be whole numbers from 0 to 100, in per cent, got 0, 101"),
            (["needle", "--seeds", "1,1"], "--seeds must name nothing twice, got 1, 1"),
            (["needle", "--seeds", "a"], "--seeds must be whole numbers separated by commas, got 'a'"),
            (["needle", "--lengths", "100"], "--lengths must be at least 128 tokens, got 100"),
            (["needle", "--books", "nowhere"], "--books must be a folder with two or more .txt files"),
            (["needle", "--checkpoint", "nowhere"], "config.json is missing in nowhere"),
            (["needle", "--output", "nowhere/r.json"], "--output must be a file in a folder that exists"),
        ],
    )
    def test_bad_input_is_one_sentence(self, bench, arguments: list[str], words: str, tmp_path: Path):
        code, out, error = bench(*arguments, *([] if "--output" in arguments else ["--output", tmp_path / "r.json"]))
        assert (code, out) == (2, "")
        assert words in error
        assert not list(tmp_path.iterdir())

    def test_a_checkpoint_that_cannot_be_asked(self, bench, checkpoint: Path, tmp_path: Path):
        output = ("--output", tmp_path / "r.json", "--checkpoint", tmp_path / "model")
        (tmp_path / "model").mkdir()
        content = json.loads((checkpoint / "config.json").read_text())
        for fields, words in (
            ({"repeat_positions": False}, "--lengths must be at most 64, which"),
            ({"architectures": ["HfLongformerModel"]}, "must be a masked language model of this package"),
        ):
            (tmp_path / "model" / "config.json").write_text(json.dumps({**content, **fields}))
            code, _, error = bench("needle", *output)
            assert code == 2
            assert words in error
