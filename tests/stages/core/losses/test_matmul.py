"""Products against torch's own in double precision."""

from __future__ import annotations

import pytest
import torch

from stages.core.losses import matmul


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (64, 130, 33), (0, 4, 4), (4, 0, 4), (4, 4, 0)])
def test_a_product_is_right_whatever_lies_behind_it(
    shape: tuple[int, int, int], onednn: bool, monkeypatch: pytest.MonkeyPatch
):
    if onednn and not matmul._ONEDNN:
        pytest.skip("no faster library on this processor")
    monkeypatch.setattr(matmul, "_ONEDNN", onednn)
    rows, summed, columns = shape
    generator = torch.Generator().manual_seed(0)
    left_MK, right_NK = torch.randn(rows, summed, generator=generator), torch.randn(columns, summed, generator=generator)
    wanted_MN = left_MK.double() @ right_NK.double().T
    for left, right in (
        (left_MK, right_NK),
        (left_MK.T.contiguous().T, right_NK),
        (left_MK, right_NK.T.contiguous().T),
        (left_MK.T.contiguous().T, right_NK.T.contiguous().T),
    ):
        made_MN = matmul.product(left, right)
        assert made_MN.shape == (rows, columns)
        assert (made_MN.double() - wanted_MN).norm() <= 1e-6 * wanted_MN.norm()
    assert torch.equal(matmul.product(left_MK.double(), right_NK.double()), wanted_MN)
