#!/usr/bin/env bash
# Transformers 5.23.0: Trainer takes every argument of `forward` whose name contains "label" for a label, whatever its
# type and default. A setting such as `label_weight: float = 1.0` becomes one, no batch brings it, and Trainer holds the
# model for unlabelled: evaluate() gives no loss and never calls compute_metrics, without a word; training works.
# Expected by most: that labels are what batches hold, or arguments without a default.
# Seen with torch 2.13.0 on a CPU:
#   plain: ['labels'] ['eval_loss', 'eval_seen']
#   with a setting: ['labels', 'label_weight'] []
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
import torch
from transformers import RobertaConfig, RobertaForMaskedLM, Trainer, TrainingArguments

SIZES = {"vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


class WithSetting(RobertaForMaskedLM):
    def forward(self, input_ids=None, labels=None, label_weight: float = 1.0):
        found = super().forward(input_ids, labels=labels)
        found["loss"] = found["loss"] * label_weight
        return found


texts = [{"input_ids": row, "labels": row} for row in torch.randint(5, 99, (4, 9))]
for name, kind in (("plain", RobertaForMaskedLM), ("with a setting", WithSetting)):
    arguments = TrainingArguments(output_dir="out", use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = Trainer(
        kind(RobertaConfig(**SIZES)), arguments, eval_dataset=texts, compute_metrics=lambda found: {"seen": 1}
    )
    measured = trainer.evaluate()
    print(f"{name}:", trainer.label_names, sorted(key for key in measured if key in ("eval_loss", "eval_seen")))
PYTHON
grep -v "^{" "$place/seen" > "$place/lines"
cat "$place/lines"
diff "$place/lines" - <<'SEEN'
plain: ['labels'] ['eval_loss', 'eval_seen']
with a setting: ['labels', 'label_weight'] []
SEEN
