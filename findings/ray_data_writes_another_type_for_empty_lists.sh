#!/usr/bin/env bash
# ray 2.60.0: `write_parquet` takes the types of every file from the values that happen to be in it. A column of lists of
# objects whose lists are all empty in one block becomes list<null> there; whether pyarrow can read the folder then
# depends on which file comes first by name, which is the order in which blocks were finished. Nothing is said.
# Expected by most: one schema for a data set. Cure: batch_format="pyarrow" and a table with a schema from every batch.
# Seen with pyarrow 26.0.1 and pandas 3.1.1:
#   list<element: null>
#   list<element: struct<word: string, start: int64>>
#   ArrowNotImplementedError: Unsupported cast from struct<word: string, start: int64> to null using function cast_null
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet 'ray[data]==2.60.0' pyarrow==26.0.1 pandas==3.1.1 2>/dev/null
cd "$place"
RAY_USAGE_STATS_ENABLED=0 "$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
import ray
from pyarrow import dataset

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)


def entities(batch):
    return {"entities": [[{"word": name, "start": 0}] if name != "nobody" else [] for name in batch["name"]]}


rows = [{"name": "Ann"}, {"name": "nobody"}]
ray.data.from_items(rows, override_num_blocks=2).map_batches(entities).write_parquet("out")
files = {str(one.physical_schema.field("entities").type): one.path for one in dataset.dataset("out").get_fragments()}
print(*sorted(files), sep="\n")
try:
    dataset.dataset([files[kind] for kind in sorted(files)]).to_table()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
list<element: null>
list<element: struct<word: string, start: int64>>
ArrowNotImplementedError: Unsupported cast from struct<word: string, start: int64> to null using function cast_null
SEEN
