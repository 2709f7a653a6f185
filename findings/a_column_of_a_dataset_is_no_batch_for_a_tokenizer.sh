#!/usr/bin/env bash
# Transformers 5.24.0 with datasets 5.2.0: a tokenizer refuses `dataset["text"]`. The column equals the list of its texts,
# is a Sequence, and goes through len, iteration and slices; but it is no list, and a tokenizer asks for one by type. The
# error names lists of str, which is what it seems to have got. `dataset[:]["text"]` is taken, and so is the column by
# `encode_batch` of tokenizers, the library underneath.
# Expected by most: that what equals a list of texts, and comes from the library made for it, is a batch of texts.
# Seen, without torch:
#   equals a list: True, is a Sequence: True, is a list: False
#   the column: ValueError
#   its slice [:]: [[1, 1], [1]]
#   dataset[:]["text"]: [[1, 1], [1]]
#   encode_batch: [[1, 1], [1]]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet transformers==5.24.0 datasets==5.2.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
from collections.abc import Sequence

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

backend = Tokenizer(models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
texts = ["word word", "word"]
dataset = Dataset.from_dict({"text": texts})
column = dataset["text"]
kinds = f"is a Sequence: {isinstance(column, Sequence)}, is a list: {isinstance(column, list)}"
print(f"equals a list: {column == texts}, {kinds}")


def ids(batch):
    try:
        return tokenizer(batch)["input_ids"]
    except ValueError as error:
        return type(error).__name__


print("the column:", ids(column))
print("its slice [:]:", ids(column[:]))
print('dataset[:]["text"]:', ids(dataset[:]["text"]))
print("encode_batch:", [one.ids for one in backend.encode_batch(column)])
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
equals a list: True, is a Sequence: True, is a list: False
the column: ValueError
its slice [:]: [[1, 1], [1]]
dataset[:]["text"]: [[1, 1], [1]]
encode_batch: [[1, 1], [1]]
SEEN
