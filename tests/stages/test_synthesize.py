"""Stage `synthesize`: the same bytes from any number of processes, in the layouts that the real sets have."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.io
import yaml

from stages import synthesize
from stages.datasets import ijb, ijbs, insightface_rec, pair_list, scface, tinyface, truth, verification_bin
from stages.runtime import program
from stages.synthesis import plan
from stages.synthesis.config import Config
from stages.synthesis.rendering import draw_all

TINY = {
    "seed": 5,
    "train": {"identities": 6, "images_per_identity": 4, "low_quality_share": 0.25},
    "eval": {"identities": 6, "pairs": 20, "ijb_templates": 14, "tinyface_distractors": 3},
}

MORE = {"ijbc_templates": 8, "ijbs_subjects": 5, "adience_images": 10, "xqlfw_pairs": 20, "more_pairs": 20}

ALIGNED_OR_LOOSE = {
    "IJBB": "loose_crop/*.jpg", "tinyface": "aligned_pad_0.1_pad_high/*/*.jpg", "scface": "aligned/*.jpg",
}  # fmt: skip


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, object], *options: str) -> int:
    """Run the stage in ``folder``; its handlers stay out of the test process."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    resolved = folder / "resolved" / "synthetic"
    resolved.mkdir(parents=True, exist_ok=True)
    (resolved / "tiny.yaml").write_text(yaml.safe_dump({"synthesize": spec}))
    return program.run(synthesize.main, synthesize.parser(), ["tiny", *options])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set drawn by one process: data/tiny."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run(folder, monkeypatch, TINY, "--processes", "1") == 0
    return folder / "data" / "tiny"


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with every set there is."""
    folder = tmp_path_factory.mktemp("more")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run(folder, monkeypatch, {**TINY, "eval": {**TINY["eval"], **MORE}}, "--processes", "2") == 0
    return folder / "data" / "tiny"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shape_of_name(path: Path, folder: Path) -> str:
    return re.sub(r"\d+", "N", str(path.relative_to(folder)).replace("\\", "/"))


def shape_of_line(line: str) -> str:
    return re.sub(r"-?\d+", "N", line)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_from_any_number_of_processes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert run(tmp_path, monkeypatch, TINY, "--processes", "3") == 0
    once, again = contents(tiny), contents(tmp_path / "data" / "tiny")
    assert set(once) == set(again)
    assert [name for name in once if once[name] != again[name]] == []


def test_another_seed_gives_other_people(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert run(tmp_path, monkeypatch, {**TINY, "seed": 6}, "--processes", "1") == 0
    once, other = contents(tiny), contents(tmp_path / "data" / "tiny")
    assert once["train/train.rec"] != other["train/train.rec"]
    assert once["eval/lfw.bin"] != other["eval/lfw.bin"]


def test_every_file_is_read_by_the_loader_of_its_layout(tiny: Path):
    train = insightface_rec.TrainSet.open(tiny / "train")
    assert len(train) == 24
    assert train.num_classes == 6
    assert train.labels.tolist() == sorted(list(range(6)) * 4)
    for name in plan.PAIR_SETS:
        pairs = verification_bin.load(tiny / "eval" / f"{name}.bin")
        assert pairs.is_same.tolist() == [True, False] * 10
        assert all(verification_bin.decode(image).shape == (112, 112, 3) for image in pairs.images)
    for loaded in (
        ijb.load(tiny / "eval" / "ijb", "IJBB"),
        tinyface.load(tiny / "eval" / "tinyface"),
        scface.load(tiny / "eval" / "scface"),
    ):
        images = list(loaded.images())
        assert len(images) == len(loaded.names)
        assert all(isinstance(image, np.ndarray) and image.shape == (112, 112, 3) for image in images)


def test_the_truth_tells_quality_identity_and_pose_of_every_image(tiny: Path):
    table = pd.read_parquet(tiny / "eval" / "truth.parquet")
    assert {"set", "image", "identity", "quality", "yaw_deg"} <= set(table.columns)
    assert not table.duplicated(["set", "image"]).any()
    assert table["quality"].between(0, 1).all()
    for name in plan.PAIR_SETS:
        assert truth.load(tiny / "eval" / "truth.parquet", name, 40) is not None
    for name, folder in (("IJBB", "ijb/IJBB"), ("tinyface", "tinyface"), ("scface", "scface")):
        images = table[table["set"] == name]["image"]
        assert all((tiny / "eval" / folder / image).is_file() for image in images)
        assert len(images) == len(list((tiny / "eval" / folder).rglob(ALIGNED_OR_LOOSE[name])))
    train = pd.read_parquet(tiny / "train" / "truth.parquet")
    assert train["key"].tolist() == list(range(1, 25))
    labels = insightface_rec.TrainSet.open(tiny / "train").labels
    assert train["identity"].tolist() == labels.tolist()
    assert not set(train["identity"]) & set(table["identity"])
    sets_of = table.groupby("identity")["set"].nunique()
    assert sets_of.max() == 1  # each set has people of its own


def test_truth_and_protocol_agree_on_who_is_who(tiny: Path):
    table = pd.read_parquet(tiny / "eval" / "truth.parquet").set_index(["set", "image"])["identity"]
    for name in plan.PAIR_SETS:
        same = verification_bin.load(tiny / "eval" / f"{name}.bin").is_same
        for k, answer in enumerate(same):
            assert (table[name, str(2 * k)] == table[name, str(2 * k + 1)]) == answer
    faces = ijb.load(tiny / "eval" / "ijb", "IJBB")
    person = {t: table["IJBB", f"loose_crop/{n}"] for t, n in zip(faces.template_N, faces.names, strict=True)}
    for first, second, answer in zip(faces.first_P, faces.second_P, faces.is_same_P, strict=True):
        assert (person[first] == person[second]) == answer


def test_landmarks_of_loose_crops_lie_in_them_at_varied_places_scales_and_turns(tiny: Path):
    faces = ijb.load(tiny / "eval" / "ijb", "IJBB")
    eyes_N2 = faces.landmarks_N52[:, 1] - faces.landmarks_N52[:, 0]
    angles = np.rad2deg(np.arctan2(eyes_N2[:, 1], eyes_N2[:, 0]))
    sizes = np.hypot(*eyes_N2.T)
    assert angles.std() > 3
    assert sizes.max() > 2.5 * sizes.min()
    for name, marks_52 in zip(faces.names, faces.landmarks_N52, strict=True):
        height, width = cv2.imread(str(faces.crops / name)).shape[:2]
        assert ((marks_52 > 0) & (marks_52 < (width, height))).all()


def test_layouts_have_the_names_of_the_real_sets(tiny: Path, faces: Path):
    for part in ("tinyface", "scface", "ijb"):
        ours, real = (
            Counter(shape_of_name(path, root) for path in (root / part).rglob("*") if path.is_file())
            for root in (tiny / "eval", faces / "eval")
        )
        assert set(ours) == set(real)
    assert {path.name for path in (faces / "train").iterdir()} <= {
        path.name for path in (tiny / "train").iterdir()
    }


@pytest.mark.parametrize(
    "name",
    [
        "eval/scface/all.txt",
        "eval/ijb/IJBB/meta/ijbb_name_5pts_score.txt",
        "eval/ijb/IJBB/meta/ijbb_face_tid_mid.txt",
        "eval/ijb/IJBB/meta/ijbb_template_pair_label.txt",
        "eval/ijb/IJBB/meta/ijbb_1N_gallery_S1.csv",
        "eval/ijb/IJBB/meta/ijbb_1N_gallery_S2.csv",
        "eval/ijb/IJBB/meta/ijbb_1N_probe_mixed.csv",
        "train/train.lst",
        "train/train.idx",
        "train/property",
    ],
)
def test_lists_have_the_lines_of_the_real_sets(tiny: Path, faces: Path, name: str):
    ours, real = (
        {re.sub(r"[A-Za-z_\-]+/[\w\-]+\.jpg|N/N\.jpg", "PATH", shape_of_line(line))
         for line in (root / name).read_bytes().decode().splitlines(keepends=True)}
        for root in (tiny, faces)
    )  # fmt: skip
    assert ours <= real


def test_matlab_lists_have_the_variables_of_the_real_ones(tiny: Path, faces: Path):
    for file in ("gallery_match_img_ID_pairs.mat", "probe_img_ID_pairs.mat"):
        ours, real = (
            scipy.io.loadmat(root / "eval" / "tinyface" / "tinyface" / "Testing_Set" / file)
            for root in (tiny, faces)
        )
        variables = {key for key in real if not key.startswith("__")}
        assert {key for key in ours if not key.startswith("__")} == variables
        for key in variables:
            assert ours[key].dtype == real[key].dtype
            assert ours[key].shape[1:] == real[key].shape[1:] == (1,)
        first = next(key for key in variables if key.endswith("_set"))
        assert ours[first][0, 0].dtype.kind == real[first][0, 0].dtype.kind == "U"


def test_pictures_have_the_sizes_of_the_real_ones(tiny: Path):
    aligned = (tiny / "eval" / "tinyface" / "aligned_pad_0.1_pad_high").rglob("*.jpg")
    assert {cv2.imread(str(path)).shape for path in aligned} == {(112, 112, 3)}
    for path in (tiny / "eval" / "tinyface" / "tinyface").rglob("*.jpg"):
        height, width, _ = cv2.imread(str(path)).shape
        assert height == width
        assert 14 <= height <= 28


def test_a_killed_drawing_leaves_no_half_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(synthesize.verification_bin, "write", stop)
    assert run(tmp_path, monkeypatch, TINY, "--processes", "1") == 2
    assert (tmp_path / "data" / "tiny" / "train" / "train.rec").is_file()
    assert not (tmp_path / "data" / "tiny" / "eval").exists()


def test_fewer_than_one_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(tmp_path, monkeypatch, TINY, "--processes", "-2") == 2
    assert "at least one process, got -2" in capsys.readouterr().err


def test_drawing_goes_on_in_order_whatever_process_is_first():
    sittings = [plan.Sitting(plan.STREAMS["sheet"], k, (plan.Picture(k, 0.5),)) for k in range(6)]
    slots = [one.slot for drawn in draw_all(1, sittings, 2) for one in drawn]
    assert slots == list(range(6))


@pytest.mark.slow
def test_further_sets_leave_every_byte_of_the_others_as_it_was(tiny: Path, more: Path):
    once, grown = contents(tiny), contents(more)
    assert [name for name in once if grown[name] != once[name]] == ["eval/truth.parquet"]
    before, after = (pd.read_parquet(root / "eval" / "truth.parquet") for root in (tiny, more))
    pd.testing.assert_frame_equal(after[: len(before)], before)


def test_further_sets_are_read_by_the_loaders_of_their_layouts(more: Path):
    folder = more / "eval"
    faces_s, searched = ijbs.load(folder / "ijbs"), ijb.load_search(folder / "ijb", "IJBC")
    assert set(searched.probe_subject_P) == set(searched.gallery_subject_G)
    assert {len(faces_s.gallery1[protocol]) for protocol in ijbs.PROTOCOLS} == {2}
    empty = set(range(len(faces_s.subject_T))) - set(faces_s.frame_template[1].tolist())
    assert [faces_s.template_name_T[row] for row in empty] == ["2:videos/10.mp4"]
    assert faces_s.num_unused == 3  # stills of the one who is not enrolled
    sets = {name: pair_list.load(folder / name) for name in ("adience", "xqlfw")}
    assert [sets["adience"].is_same_P.size, int(sets["adience"].is_same_P.sum())] == [45, 29]
    assert sets["xqlfw"].is_same_P.tolist() == [True, False] * 10
    for loaded in (ijb.load(folder / "ijb", "IJBC"), faces_s, *sets.values()):
        images = list(loaded.images())
        assert len(images) == len(loaded.names) > 0
        assert all(isinstance(image, np.ndarray) and image.shape == (112, 112, 3) for image in images)
    for name in plan.MORE_PAIR_SETS:
        assert len(verification_bin.load(folder / f"{name}.bin").images) == 40


def test_truth_covers_the_further_sets(more: Path):
    path, folder = more / "eval" / "truth.parquet", more / "eval"
    for name in ("adience", "xqlfw"):
        pairs = pair_list.load(folder / name)
        quality_N = truth.load_named(path, name, pairs.names)
        assert quality_N is not None
        assert quality_N.shape == (len(pairs.names),)
    table = pd.read_parquet(path)
    person = table.set_index(["set", "image"])["identity"]
    found = ijbs.load(folder / "ijbs")
    assert {f"{int(name.split('/')[0]) - 1}" for name in found.names} == {
        str(person["ijbs", name] % 1_000_000) for name in found.names
    }
    assert all((folder / "ijb/IJBC" / image).is_file() for image in table[table["set"] == "IJBC"]["image"])
    for name, count in (("cfp_ff", 40), ("vgg2_fp", 40)):
        assert truth.load(path, name, count) is not None
    assert table.groupby("identity")["set"].nunique().max() == 1


def test_low_variance_identities_are_near_duplicates_and_every_other_byte_stays(tiny: Path, tmp_path: Path):
    low_variance = {"share": 0.34, "quality": "mixed", "jitter": 0.5}
    tree = {**TINY, "train": {**TINY["train"], "low_variance": low_variance}}
    synthesize.Studio(Config.model_validate(tree), 1).write_train(tmp_path)
    table = pd.read_parquet(tmp_path / "truth.parquet")
    few = set(table[table["low_variance"]]["identity"])
    assert len(few) == 2
    assert "low_variance" not in pd.read_parquet(tiny / "train" / "truth.parquet")
    before, after = (insightface_rec.TrainSet.open(folder).reader for folder in (tiny / "train", tmp_path))
    for key, identity in zip(table["key"], table["identity"], strict=True):
        assert (before.entry(key)[1] == after.entry(key)[1]) == (identity not in few)
    spread = table.groupby("low_variance")[["yaw_deg", "pitch_deg", "age"]].std()
    within = table.groupby("identity")[["yaw_deg", "pitch_deg", "age"]].std()
    assert (within.loc[sorted(few)] < 2).all(axis=None)
    assert spread["yaw_deg"][False] > 5
    assert table[table["low_variance"]]["quality"].std() > 0.15
