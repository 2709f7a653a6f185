#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export writes the floor division of a size as a division that truncates, so that the usual
# ceiling -(-n // 4) is one too small at every n that is no multiple of 4. torch.export, of whose program the file is
# made, is right; nothing is warned of.
# Expected by most: that an exported file computes what its program does.
# Seen with onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0 on a CPU; tokens: eager, torch.export, ONNX:
#   8: 2 2 2
#   9: 3 3 2
#   11: 3 3 2
#   12: 3 3 3
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/said" <<'PYTHON'
import onnxruntime
import torch


class Blocks(torch.nn.Module):
    def forward(self, tokens):
        return tokens.new_ones(-(-tokens.shape[0] // 4))


model, sizes = Blocks(), ({0: torch.export.Dim.DYNAMIC},)
exported = torch.export.export(model, (torch.zeros(9),), dynamic_shapes=sizes).module()
torch.onnx.export(model, (torch.zeros(9),), "blocks.onnx", dynamo=True, dynamic_shapes=sizes)
session = onnxruntime.InferenceSession("blocks.onnx")
for n in (8, 9, 11, 12):
    tokens = torch.zeros(n)
    in_onnx = session.run(None, {"tokens": tokens.numpy()})[0]
    print(f"{n}:", len(model(tokens)), len(exported(tokens)), len(in_onnx))
PYTHON
grep '^[0-9]*: ' "$place/said" > "$place/seen"
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
8: 2 2 2
9: 3 3 2
11: 3 3 2
12: 3 3 3
SEEN
