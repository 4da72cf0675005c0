"""Class centres in files of their own: insightface's, one for each GPU, merged as its training split them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.io import class_centres

DIM = 16


def centres(num_classes: int = 7) -> Tensor:
    return torch.randn(num_classes, DIM, generator=torch.Generator().manual_seed(3))


def split(centre_CD: Tensor, world_size: int) -> list[Tensor]:
    """Return each rank's centres, from insightface's two formulas: num_local, class_start."""
    parts = []
    for rank in range(world_size):
        num_local = len(centre_CD) // world_size + int(rank < len(centre_CD) % world_size)
        class_start = len(centre_CD) // world_size * rank + min(rank, len(centre_CD) % world_size)
        parts.append(centre_CD[class_start : class_start + num_local].clone())
    return parts


LAYOUTS = {
    "rank_{}_softmax_weight.pt": lambda part: part,
    "rank:{}_softmax_weight.pt": lambda part: part,
    "softmax_fc_gpu_{}.pt": lambda part: {"weight": part},
    "checkpoint_gpu_{}.pt": lambda part: {
        "epoch": 20, "state_dict_backbone": {"fc.weight": torch.zeros(DIM, 9)}, "state_dict_softmax_fc": {"weight": part}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("world_size", [1, 3, 8])
def test_the_shards_of_every_rank_are_the_whole_head_in_whatever_order_they_are_given(
    name: str, world_size: int, tmp_path: Path
):
    paths = []
    for rank, part in enumerate(split(centres(), world_size)):
        paths.append(tmp_path / name.format(rank))
        torch.save(LAYOUTS[name](part), paths[-1])
    assert torch.equal(class_centres.read(paths[::-1], DIM), centres())


@pytest.mark.parametrize("key", ["kernel", "head.kernel", "module.kernel", "fc.weight"])
def test_centres_in_columns_are_turned(key: str, tmp_path: Path):
    torch.save({key: centres().T.contiguous(), "t": torch.zeros(1)}, tmp_path / "header.pth")
    assert torch.equal(class_centres.read([tmp_path / "header.pth"], DIM), centres())


def write(folder: Path, files: dict[str, Any]) -> list[Path]:
    for name, tree in files.items():
        torch.save(tree, folder / name)
    return [folder / name for name in files]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"softmax_fc_gpu_0.pt": {"weight": centres(3)}, "softmax_fc_gpu_2.pt": {"weight": centres(3)}},
         r"files of rank 1 are missing beside .*softmax_fc_gpu_2\.pt: their classes would shift"),
        ({"softmax_fc_gpu_0.pt": {"weight": centres(2)}, "softmax_fc_gpu_1.pt": {"weight": centres(5)}},
         r"and the others have 2, 5 classes: insightface's processes share them evenly"),
        ({"softmax_fc_gpu_0.pt": {"weight": centres()}, "rank_0_softmax_weight.pt": centres()}, "are both of rank 0"),
        ({"a.pt": centres(), "b.pt": centres()}, r"a\.pt has no rank in its name: wanted softmax_fc_gpu_R\.pt"),
        ({"rank_0_softmax_weight_mom.pt": centres()}, "holds the optimiser's momentum"),
        ({"softmax_fc_gpu_0.pt": {"bias": centres()}}, r"has no class centres: wanted a tensor, .*; got bias"),
        ({"softmax_fc_gpu_0.pt": {"weight": centres()[:, :9]}}, "has centres of 9 dimensions, and .* features have 16"),
        ({"softmax_fc_gpu_0.pt": {"weight": centres() / 0}}, "has centres that are not finite"),
    ],
)  # fmt: skip
def test_files_that_are_not_one_head_are_refused(files: dict[str, Any], problem: str, tmp_path: Path):
    with pytest.raises(ValueError, match=problem):
        class_centres.read(write(tmp_path, files), DIM)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*softmax_fc_gpu_0\.pt"):
        class_centres.read([tmp_path / "softmax_fc_gpu_0.pt"], DIM)
