# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of the positions alone that a conversion added: what the source could read is embedded as before, bit by bit
(Zhu et al. 2024, arXiv 2404.12096, section 4.2).
"""

from typing import Any

import torch

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import read_json
from hf_longformer.transformers_internals import find_file

RECORDS = ("conversion_report.json", "results.json")  # of a conversion, and of a training of what was converted
FIELD = "source_max_length"


def source_length(checkpoint: str, **where: Any) -> int | None:
    """Tokens of the longest text of the model that a checkpoint was converted from; None if no file says so.

    Args:
        checkpoint: A folder or a Hub name.
        **where: `revision`, `local_files_only`.
    """
    for record in RECORDS:
        file = find_file(checkpoint, record, **where)
        known = None if file is None else read_json(file).get(FIELD)
        if isinstance(known, int):
            return known
    return None


class NewPositions:
    """Makes everything of a model constant but the rows of its position table behind the source's.

    Args:
        model: A `HfLongformerModel`, or what holds one; changed in place.
        config: Its configuration.
        length: Tokens that the source reads.

    Raises:
        InputError: If there are no such rows.
    """

    def __init__(self, model: torch.nn.Module, config: Any, length: int | None, name: str) -> None:
        if length is None:
            raise InputError(
                f"--train new-positions must know how long the texts of the source were, got no {FIELD} in "
                f"{' or '.join(RECORDS)} of {name}: convert it again"
            )
        if (
            config.repeat_positions
            or config.position_embedding_type != "absolute"
            or config.learned_positions <= length
        ):
            raise InputError(
                f"--train new-positions needs learned positions behind the source's {length:,}, got a model of "
                f"{'repeated positions' if config.repeat_positions else f'{config.learned_positions:,}'}"
            )
        self.rows = config.first_position + length
        found = dict(model.named_parameters())
        (name_of_table,) = (one for one in found if one.endswith("position_embeddings.weight"))
        for parameter in found.values():
            parameter.requires_grad = False
        self.table = found[name_of_table]
        self.table.requires_grad = True
        self.table.register_hook(self._without_kept_rows)

    def _without_kept_rows(self, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[: self.rows] = 0
        return gradient

    def guard(self, optimizer: torch.optim.Optimizer) -> None:
        """Puts the source's rows back after every step: weight decay, and whatever else an optimizer does to rows
        without a gradient, does not reach them.
        """
        kept = self.table.detach()[: self.rows].clone()

        def put_back(*_: Any) -> None:
            with torch.no_grad():
                self.table[: self.rows] = kept.to(self.table.device)

        optimizer.register_step_post_hook(put_back)
