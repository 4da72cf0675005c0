"""The head of an imported checkpoint: class centres, from the checkpoint or files of their own, and their names.

Shapes: C classes, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from stages.core.errors import InputError
from stages.core.networks.checkpoint_keys import Recognised
from stages.io import class_centres, class_names


class Centres(nn.Module):
    """The class centres of a checkpoint and the head's statistics, under the keys of our own heads."""

    def __init__(self, weight_CD: Tensor, statistics: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_CD, requires_grad=False)
        for name, value in statistics.items():
            self.register_buffer(name, value)


@dataclass(frozen=True)
class Head:
    """What is kept of a head, and how many classes the checkpoint is known to have."""

    kept: nn.Module
    """Without tensors where nothing is kept."""
    num_classes: int | None
    names: list[str] | None


def find(recognised: Recognised, feature_dim: int, files: Sequence[Path], classes: Path | None, *, keep: bool) -> Head:
    """Return the head of a checkpoint.

    Args:
        recognised: the checkpoint.
        feature_dim: D of its backbone.
        files: of the class centres: one, or one for each GPU; none: they are in the checkpoint, if anywhere.
        classes: file with the names of the classes; None: they are not known.
        keep: whether to keep centres that are in the checkpoint.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: files do not fit one another or the backbone, or there are names without centres.
    """
    centre_CD = class_centres.read(files, feature_dim) if files else recognised.head_CD
    if centre_CD is None or not (files or keep):
        if classes is not None:
            raise InputError(
                f"{classes}: names of classes are for class centres, of which none are kept: give their files after "
                "--head, or --keep-head where the checkpoint has them"
            )
        return Head(nn.Module(), None if centre_CD is None else len(centre_CD), None)
    if centre_CD.shape[1] != feature_dim:
        raise InputError(
            f"the checkpoint has class centres of {centre_CD.shape[1]} dimensions, and features of {feature_dim}"
        )
    names = None if classes is None else class_names.read(classes, len(centre_CD))
    # statistics go with the centres that they were trained with
    return Head(Centres(centre_CD, {} if files else recognised.statistics), len(centre_CD), names)
