#!/usr/bin/env bash
# datasets 5.2.0: a column of JSON lines that holds strings and a single number comes back as numbers throughout, so that
# the different strings "01" and "1" become one value; without the number they stay as they are. Nothing is said.
# Expected by most: an error about mixed types, or strings.
# Seen with pyarrow 26.0.1 and pandas 3.1.1:
#   strings: ['01', '1', '2']
#   and one number: [1, 1, 1, 2]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 2>/dev/null
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
import json
from pathlib import Path

import datasets

for name, values in (("strings", ["01", "1", "2"]), ("and one number", ["01", "1", 1, "2"])):
    file = Path(f"{len(values)}.jsonl")
    file.write_text("\n".join(json.dumps({"label": value}) for value in values))
    print(f"{name}:", list(datasets.load_dataset("json", data_files=str(file), split="train", cache_dir="cache")["label"]))
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
strings: ['01', '1', '2']
and one number: [1, 1, 1, 2]
SEEN
