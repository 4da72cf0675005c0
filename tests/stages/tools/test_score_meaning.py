"""`facet score --discard` and `--fnmr`: the cut, what it does on a set, and each face's place on the scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from torch import nn

from stages.core.metrics import features, rates
from stages.core.metrics.quality_scale import Scale
from stages.embedding.embedder import Embedder
from stages.models import export
from stages.pictures import meaning
from stages.protocols import verification
from stages.tools import _meaning
from stages.tools import export as export_tool
from stages.tools import score as tool
from tests.stages import small_sets
from tests.stages.embedding.test_embedder import write_model
from tests.stages.small_sets import face
from tests.stages.small_suites import images_of


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meaning")
    (path / "models").mkdir()
    write_model(path / "models/small")
    small_sets.write_bin(path / "data/mine/eval/lfw.bin", num_pairs=400)
    (path / "pictures").mkdir()
    for n in range(12):
        cv2.imwrite(str(path / f"pictures/{n}.png"), face(n))
    return path


def call(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("FACET_HOME", str(project / ".facet"))
        tool.main(tool.parser().parse_args(["pictures", "--model", "small", "--aligned", *words]))
    return capsys.readouterr().err


def by_hand(project: Path, share: float) -> tuple[float, float, float]:
    """Return the cut, and FNMR at FMR .01 with all images and with those above it, from the scores alone."""
    found = Embedder.load(project / "models/small")(images_of(project / "data/mine/eval/lfw.bin"))
    cosine_P = verification.cosines(
        features.normalise(features.fuse(found, "pre_norm_sum")), np.ones(len(found.feature_ND), np.bool_)
    )
    norm_N, is_same_P = found.feature_norm_N.astype(np.float64), np.arange(400) % 2 == 0
    threshold = rates.threshold_at_fmr(cosine_P[~is_same_P], 0.01)
    cut = np.sort(norm_N)[int(share * norm_N.size)]
    kept_P = is_same_P & (norm_N[0::2] >= cut) & (norm_N[1::2] >= cut)
    return float(cut), *(float(np.mean(cosine_P[which] < threshold)) for which in (is_same_P, kept_P))


def test_a_cut_is_measured_and_said_of_each_face(project: Path, capsys) -> None:
    words = ("--dataset", "mine", "--discard", "25%@fmr=1e-2", "--sheet", "sheet.png")
    told = call(project, capsys, *words, "--out", "q.json")
    tree = json.loads((project / "q.json").read_text())
    cut, before, after = by_hand(project, 0.25)
    assert tree["cut"]["after"]["cut"] == pytest.approx(cut)
    assert (tree["cut"]["before"]["fnmr"], tree["cut"]["after"]["fnmr"]) == pytest.approx((before, after))
    assert tree["cut"]["after"]["images_dropped"] == 0.25
    assert f"FNMR at FMR 0.01 is {before:.2%}" in told
    assert "drops 25.0% of the images of lfw" in told
    # in a .bin file nobody is named
    assert "(95 % over 200 pairs, at the threshold" in told
    # sqrt(ln(40) / 1600), since nobody knows the people
    scale = "feature_norm from 0 to 100: percentage of the 800 images of lfw that score lower, known to within 4.8 points"
    assert tree["cut"]["scale"] == f"{scale} (95 % over 800 images)"
    assert tree["cut"]["scale"] in told
    for one in tree["faces"]:
        assert one["kept"] == (one["feature_norm"] >= cut)
        assert (one["percent"] < 25) == (not one["kept"])
    assert f"{sum(not one['kept'] for one in tree['faces'])} of the 12 faces are below it" in told
    assert (project / "sheet.png").stat().st_size > 10_000
    # an imported model keeps what was measured in its folder: it need not be measured again
    again = call(project, capsys, "--discard", "25%@fmr=1e-2", "--out", "q.csv")
    assert again.splitlines()[-3:] == told.splitlines()[-3:]
    assert "fiqa lfw" in told
    assert "fiqa lfw" not in again
    table = pd.read_csv(project / "q.csv")
    assert table["kept"].tolist() == [one["kept"] for one in tree["faces"]]


def test_what_the_set_cannot_resolve_is_said(project: Path, capsys) -> None:
    call(project, capsys, "--dataset", "mine", "--discard", "5%", "--out", "q.csv")
    with pytest.raises(ValueError, match=r"lfw does not resolve it: FMR 0.001 needs 1000 impostor scores, got 200"):
        call(project, capsys, "--discard", "5%@fmr=1e-3", "--out", "q.csv")
    # few pairs without an error are left: that is not an FNMR of 0
    assert "not resolved: the band after the cut reaches" in call(project, capsys, "--fnmr", "0", "--out", "q.csv")
    with pytest.raises(LookupError, match="has no set 'calfw': there are lfw"):
        call(project, capsys, "--discard", "5%", "--set", "calfw", "--out", "q.csv")
    with pytest.raises(LookupError, match="no scores by 'sharpness' on lfw: there are feature_norm"):
        call(project, capsys, "--discard", "5%", "--method", "sharpness", "--out", "q.csv")
    with pytest.raises(ValueError, match="--discard should be a share below 1"):
        call(project, capsys, "--discard", "much", "--out", "q.csv")


SCALE = Scale(np.array([1.0, 9.0]), np.array([0.0, 100.0]), 40, None, 21.0)


def table(fnmr: list[float], high: list[float], less_low: list[float]) -> pd.DataFrame:
    """Cuts at 0, 10, 20, ... percent, after the whole set."""
    rows = [
        {"set": "s", "method": "m", "fmr": 0.01, "percent": 10.0 * max(k - 1, 0), "cut": float(k) if k else np.nan,
         "images_dropped": max(k - 1, 0) / 10, "genuine_dropped": 0.0, "fnmr": fnmr[k], "low": 0.0, "high": high[k],
         "less": fnmr[0] - fnmr[k], "less_low": less_low[k], "less_high": 1.0, "people_left": 9, "fmr_left": 0.01}
        for k in range(len(fnmr))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_mildest_cut_that_reaches_an_fnmr_and_its_doubts() -> None:
    cuts = table([0.3, 0.3, 0.2, 0.1, 0.05], [0.4, 0.4, 0.25, 0.2, 0.05], [0, 0, -0.01, 0.05, 0.1])
    asked = meaning.parse("fnmr", "0.2")
    found = meaning.of_table(cuts, SCALE, ("s", "m"), 0.01, asked)
    assert (found.cut.cut, found.cut.images_dropped) == (2.0, 0.1)
    assert [text.partition(":")[2].split(",")[0] for text in found.doubts] == [
        " the band of the difference includes 0", " the band after the cut reaches 25.00%",
    ]  # fmt: skip
    worse = meaning.of_table(cuts.assign(less_high=-0.01), SCALE, ("s", "m"), 0.01, meaning.parse("discard", "10%"))
    assert worse.doubts == ("this cut makes it worse: FNMR of the pairs that are left is higher, and the band excludes 0",)
    with pytest.raises(ValueError, match=r"brings FNMR at FMR 0.01 on s to 1.00%: the lowest is 5.00%, dropping 30% of"):
        meaning.of_table(cuts, SCALE, ("s", "m"), 0.01, meaning.parse("fnmr", "1%"))
    sure = meaning.of_table(cuts, SCALE, ("s", "m"), 0.01, meaning.parse("fnmr", "6%"))
    assert (sure.cut.cut, sure.doubts) == (4.0, ())


def scored_and_exported(project: Path, capsys, *options: str) -> list[dict[str, Any]]:
    """Score the project's pictures and export its model; return the faces."""
    call(project, capsys, "--dataset", "mine", "--discard", "5%", "--out", "q.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        export_tool.main(export_tool.parser().parse_args(["small", "--format", "onnx", *options]))
    faces: list[dict[str, Any]] = json.loads((project / "q.json").read_text())["faces"]
    return faces


@pytest.mark.slow
def test_an_exported_file_gives_the_scale_that_the_command_gives(project: Path, capsys) -> None:
    faces = scored_and_exported(project, capsys, "--scale", "lfw")
    image_N3HW = torch.from_numpy(
        np.stack([cv2.imread(str(project / "pictures" / one["file"]))[:, :, ::-1].transpose(2, 0, 1) for one in faces])
    ).float()
    _, norm_N, percent_N = export.run_onnx(project / "small.onnx", image_N3HW)
    assert norm_N == pytest.approx([one["feature_norm"] for one in faces], rel=1e-3)
    assert percent_N == pytest.approx([one["percent"] for one in faces], abs=0.2)
    assert np.ptp(percent_N) > 0


@pytest.mark.slow
def test_the_metadata_of_an_exported_file_turn_its_score_into_the_scale(project: Path, capsys) -> None:
    faces = scored_and_exported(project, capsys, "--output", "plain.onnx")
    said = {item.key: json.loads(item.value) for item in onnx.load(project / "plain.onnx").metadata_props}
    scale = said["facet.quality_scales"]["lfw"]
    assert said["facet.quality_method"] == "feature_norm"
    assert scale["meaning"].startswith("feature_norm from 0 to 100: percentage of the 800 images of lfw that score lower")
    percent_N = np.interp([one["feature_norm"] for one in faces], scale["score"], scale["percent"], left=0, right=100)
    assert percent_N == pytest.approx([one["percent"] for one in faces])


def test_the_module_of_a_scale_equals_the_scale_beyond_its_ends_and_between() -> None:
    scale = Scale(np.array([1.0, 2.0, 4.0]), np.array([10.0, 50.0, 97.0]), 9, None, 1.0)
    score_N = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0])
    made = _meaning.OnScale(nn.Identity(), scale)(torch.from_numpy(score_N).float())
    assert made.numpy() == pytest.approx(scale.percent(score_N))
    assert scale.percent(score_N).tolist() == [0, 10, 30, 50, 73.5, 97, 100]
