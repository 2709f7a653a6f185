#!/usr/bin/env bash
# transformers.js 4.3.2: with truncation: true, a text that is too long loses its closing special token ([SEP], </s>):
# the ids are cut behind the special tokens were added. The same files in Transformers for Python cut the text and keep it.
# Pipelines of transformers.js truncate so. Expected by most: the same ids from the same tokenizer.json.
# Seen with transformers 5.23.0 and Node 20.20.2:
#   python: [2, 5, 6, 7, 3]
#   javascript: [2, 5, 6, 7, 5]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet transformers==5.23.0 2>/dev/null
cd "$place"
npm install --silent --ignore-scripts --prefix "$place" @huggingface/transformers@4.3.2 > /dev/null 2>&1
"$place/venv/bin/python" - 2> /dev/null > seen <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]
tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
names = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=5, **names).save_pretrained("tokenizer")
print("python:", AutoTokenizer.from_pretrained("tokenizer")("one two three one two three", truncation=True)["input_ids"])
PYTHON
cat > read.mjs <<'JAVASCRIPT'
import { AutoTokenizer, env } from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "./";
const tokenizer = await AutoTokenizer.from_pretrained("tokenizer");
const { input_ids } = tokenizer("one two three one two three", { truncation: true, return_tensor: false });
console.log(`javascript: [${input_ids.join(", ")}]`);
JAVASCRIPT
node read.mjs 2> /dev/null >> seen
cat seen
diff seen - <<'SEEN'
python: [2, 5, 6, 7, 3]
javascript: [2, 5, 6, 7, 5]
SEEN
