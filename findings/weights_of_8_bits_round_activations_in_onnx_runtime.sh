#!/usr/bin/env bash
# ONNX Runtime 1.32.0, CPU: a file whose weights alone have 8 bits (int8 with a scale per column, DequantizeLinear, MatMul in
# float32) is computed with activations rounded to 8 bits, too: the two operators become MatMulNBits with accuracy_level 4.
# The error is 16,000 times that of the file as it is written. Expected by most: float32 products of dequantized weights, as
# with graph_optimization_level=ORT_ENABLE_BASIC, or with session.qdq_matmulnbits_accuracy_level "0" or "1".
# The file is valid (onnx.checker), and nothing is said.
# Seen with onnx 1.23.2, numpy 2.4.6, on an x86 CPU with AVX2:
#   as it comes: error 2e-02, MatMulNBits accuracy_level 4
#   ORT_ENABLE_BASIC: error 1e-06, DequantizeLinear MatMul
#   accuracy level 0: error 1e-06, MatMulNBits accuracy_level 0
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > seen <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

generator = np.random.default_rng(0)
weight = generator.standard_normal((384, 1536)).astype(np.float32)
scale = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
stored = np.rint(weight / scale).astype(np.int8)
graph = helper.make_graph(
    [
        helper.make_node("DequantizeLinear", ["stored", "scale"], ["weight"], axis=1),
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
    ],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 384])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1536])],
    [numpy_helper.from_array(stored, "stored"), numpy_helper.from_array(scale, "scale")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
x = generator.standard_normal((64, 384)).astype(np.float32)
exact = x.astype(np.float64) @ (stored.astype(np.float64) * scale)
for name, level, accuracy in (
    ("as it comes", "ORT_ENABLE_ALL", None),
    ("ORT_ENABLE_BASIC", "ORT_ENABLE_BASIC", None),
    ("accuracy level 0", "ORT_ENABLE_ALL", "0"),
):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = "optimized.onnx"
    if accuracy is not None:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", accuracy)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    error = np.abs(session.run(None, {"x": x})[0] - exact).max() / exact.std()
    found = []
    for node in onnx.load("optimized.onnx").graph.node:
        found.append(node.op_type)
        found += [f"{one.name} {one.i}" for one in node.attribute if one.name == "accuracy_level"]
    print(f"{name}: error {error:.0e}, {' '.join(found)}")
PYTHON
cat seen
diff seen - <<'SEEN'
as it comes: error 2e-02, MatMulNBits accuracy_level 4
ORT_ENABLE_BASIC: error 1e-06, DequantizeLinear MatMul
accuracy level 0: error 1e-06, MatMulNBits accuracy_level 0
SEEN
