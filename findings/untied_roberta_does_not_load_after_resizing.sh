#!/usr/bin/env bash
# Transformers 5.23.0: a RobertaForMaskedLM with tie_word_embeddings=False whose vocabulary was resized saves a checkpoint
# that from_pretrained refuses: the bias of the head stands twice (lm_head.bias, lm_head.decoder.bias), and without tying
# resize_token_embeddings changes one of the two. Tied models, and untied ones of the old size, load.
# Expected by most: that what save_pretrained wrote, from_pretrained reads.
# Seen with torch 2.13.0 on a CPU:
#   tied: (104,) (104,) loads
#   untied: (99,) (104,) RuntimeError
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
from transformers import RobertaConfig, RobertaForMaskedLM

SIZES = {"vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
for name, tied in (("tied", True), ("untied", False)):
    model = RobertaForMaskedLM(RobertaConfig(**SIZES, tie_word_embeddings=tied))
    model.resize_token_embeddings(104)
    model.save_pretrained(name)
    try:
        RobertaForMaskedLM.from_pretrained(name)
        result = "loads"
    except Exception as error:
        result = type(error).__name__
    head = model.lm_head
    print(f"{name}:", tuple(head.bias.shape), tuple(head.decoder.bias.shape), result)
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
tied: (104,) (104,) loads
untied: (99,) (104,) RuntimeError
SEEN
