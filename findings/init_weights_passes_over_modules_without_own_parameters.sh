#!/usr/bin/env bash
# Transformers 5.23.0: _init_weights of a model whose class is not in the package transformers is never called for a module
# that has no parameter of its own, only modules with such. So `if isinstance(module, Head): module.out.bias…` is skipped
# without a word; the same class with one more parameter of its own is initialised, and so is the same code in a module of
# transformers. All parameters that a module has itself must be known as initialised for it to be passed over, and of none
# all are.
# Expected by most: that _init_weights is called for every module, as with 4.x and `apply`.
# Seen with torch 2.13.0 on a CPU:
#   own class, no parameter of its own: bias 0.0
#   own class, one parameter of its own: bias -5.0
#   class of transformers, no parameter of its own: bias -5.0
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


class Head(nn.Module):
    def __init__(self, has_own: bool) -> None:
        super().__init__()
        self.out = nn.Linear(3, 1)
        if has_own:
            self.scale = nn.Parameter(torch.ones(1))


class Model(PreTrainedModel):
    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig, has_own: bool) -> None:
        super().__init__(config)
        self.head = Head(has_own)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, Head):
            nn.init.constant_(module.out.bias, -5.0)


class InTransformers(Model):
    __module__ = "transformers.models.example"


def bias(model: type, has_own: bool) -> float:
    return model(PreTrainedConfig(), has_own).head.out.bias.item()


print("own class, no parameter of its own: bias", bias(Model, False))
print("own class, one parameter of its own: bias", bias(Model, True))
print("class of transformers, no parameter of its own: bias", bias(InTransformers, False))
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
own class, no parameter of its own: bias 0.0
own class, one parameter of its own: bias -5.0
class of transformers, no parameter of its own: bias -5.0
SEEN
