#!/usr/bin/env bash
# Transformers 5.24.0: whether a model can generate is decided by the text of its direct bases. A class that inherits
# GenerationMixin through a mixin of one's own has `generate`, and `can_generate()` is False: no generation config is made
# (a warning is logged) and `generate` refuses, unless the own mixin happens to have "GenerationMixin" in its name.
# Expected by most: that issubclass decides.
# Seen with torch 2.13.0 on a CPU:
#   issubclass True can_generate False generation_config None
#   issubclass True can_generate True generation_config GenerationConfig
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 2>/dev/null
"$place/venv/bin/python" - > "$place/seen" <<'PYTHON'
from transformers import GenerationMixin, GPT2Config, GPT2PreTrainedModel


class Checks(GenerationMixin):
    """Any mixin that adds to generation."""


class MyGenerationMixin(GenerationMixin):
    """The same under another name."""


def model(mixin):
    class Model(GPT2PreTrainedModel, mixin):
        pass

    return Model(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9))


for mixin in (Checks, MyGenerationMixin):
    one = model(mixin)
    config = getattr(one, "generation_config", None)
    print(
        "issubclass", isinstance(one, GenerationMixin), "can_generate", one.can_generate(),
        "generation_config", type(config).__name__ if config is not None else None,
    )
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
issubclass True can_generate False generation_config None
issubclass True can_generate True generation_config GenerationConfig
SEEN
