"""`facet judge`: a file's scores give the curves and areas that the same scores give as a method of our own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import evaluate, train_quality
from stages.config import evaluation
from stages.core.metrics.quality import Learned
from stages.embedding import scoring_embedder
from stages.embedding.embedder import Embedder
from stages.quality import scores_file, sharpness
from stages.runtime import artifacts
from stages.tools import judge
from tests.stages import small_sets
from tests.stages.embedding.test_embedder import write_model
from tests.stages.small_suites import images_of


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and three sets of pictures: by number, by name, as templates."""
    path = tmp_path_factory.mktemp("judge")
    (path / "models").mkdir()
    write_model(path / "models/small")
    write_model(path / "models/other", "RGB")
    small_sets.write_bin(path / "eval/lfw.bin", num_pairs=100)
    small_sets.write_xqlfw(path / "eval/xqlfw")
    small_sets.write_ijb(path / "eval/ijb", "IJBC", num_templates=8)
    return path


def run(project: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("FACET_HOME", str(project / ".facet"))
        judge.main(judge.parser().parse_args(["--folder", "eval", *words]))
    return capsys.readouterr().out


def sharpness_of_lfw(project: Path) -> np.ndarray:
    return np.array([sharpness.Scorer().look(image) for image in images_of(project / "eval/lfw.bin")], np.float32)


def test_scores_in_a_file_are_judged_as_the_method_that_made_them(project: Path, capsys) -> None:
    score_N = sharpness_of_lfw(project)
    lines = [f"quality_data/lfw/images/{row:05d}.jpg {float(score)!r}" for row, score in enumerate(score_N)]
    (project / "sharp.txt").write_text("\n".join(lines) + "\n")
    told = run(project, capsys, "sharp.txt", "--set", "LFW", "--recognition", "small", "other", "--fmr", "0.1",
               "--method", "sharpness", "--out", "judged")  # fmt: skip
    for name in ("small", "other"):
        read = json.loads((project / "judged" / name / "metrics.json").read_text())
        for area in ("edc_auc", "iso_pauc"):
            assert read[f"lfw_sharp_{area}_fmr1e-01"] == read[f"lfw_sharpness_{area}_fmr1e-01"]
        bands = pd.read_csv(project / "judged" / name / "bands.csv").fillna(-1).set_index("method")
        assert bands.loc["sharp"].to_numpy().tolist() == bands.loc["sharpness"].to_numpy().tolist()
        assert "Scores of sharp.txt (text, score)" in (project / "judged" / name / "sharp.html").read_text()
    first = json.loads((project / "judged/small/metrics.json").read_text())["lfw_sharp_edc_auc_fmr1e-01"]
    assert told.splitlines()[1].split()[:4] == ["lfw", "small", "sharp", "0.1"]
    assert f"{first:.4f}" in told


def test_what_does_not_fit_is_counted_listed_and_refused_where_it_is_much(project: Path, capsys) -> None:
    score_N = sharpness_of_lfw(project)
    scores = {f"/faces/{row}.jpg": score for row, score in enumerate(score_N)}
    del scores["/faces/7.jpg"]
    scores["/faces/900.jpg"] = np.float32(1)
    (project / "froq.pkl").write_bytes(pickle.dumps(scores))
    words = ("froq.pkl", "--set", "lfw", "--recognition", "small", "--fmr", "0.1", "--out", "judged-froq")
    told = run(project, capsys, *words)
    assert "lfw, froq: 1 images of the set without a line in the file (discarded first): 7\n" in told
    assert "lfw, froq: 1 names in the file that the set does not have: /faces/900.jpg\n" in told
    tree = json.loads((project / "judged-froq/small/details.json").read_text())["sets"]["lfw"]["methods"]["froq"]
    assert tree["names"]["first_missing"] == ["7"]
    kept = pd.read_parquet(project / "judged-froq/small/scores.parquet").set_index("row")["froq"]
    assert kept.isna().to_numpy().nonzero()[0].tolist() == [7]
    with pytest.raises(ValueError, match=r"no score of 1 of the 200 images of lfw, more than 0.00%: the set has 7, the"):
        run(project, capsys, *words, "--max-missing", "0")


def test_sets_of_pictures_and_templates_are_known_by_their_names(project: Path, capsys) -> None:
    names = [f"x/{path.name},{number}" for number, path in enumerate(sorted((project / "eval").rglob("*_000?.jpg")))]
    names += [f"{path.name},{path.stem}" for path in (project / "eval/ijb/IJBC/loose_crop").iterdir()]
    (project / "any.csv").write_text("image,score\n" + "\n".join(names) + "\n")
    words = ("any.csv", "--recognition", "small", "--fmr", "0.5", "--out", "judged-any", "--json")
    found = json.loads(run(project, capsys, *words, "--set", "XQLFW", "--set", "ijbc"))["small"]
    assert set(found) == {"xqlfw", "IJBC"}
    assert [found[name]["methods"]["any"]["names"]["missing"] for name in found] == [0, 0]
    kept = pd.read_parquet(project / "judged-any/small/scores.parquet")
    crops = kept[kept["set"] == "IJBC"]
    assert (crops["any"] == crops["image"].str.extract(r"(\d+)", expand=False).astype(float)).all()
    with pytest.raises(LookupError, match="no test set 'calfw': there are lfw, xqlfw, IJBC"):
        run(project, capsys, *words, "--set", "calfw")


def test_a_run_may_have_its_scores_in_a_file_and_keeps_a_copy(project: Path, tmp_path: Path, monkeypatch) -> None:
    score_N = sharpness_of_lfw(project)
    path = tmp_path / "scores.txt"
    path.write_text("".join(f"{row}.jpg {float(score)!r}\n" for row, score in enumerate(score_N)))
    config = scores_file.Config(name="scores_file", path=str(path), sha256=artifacts.sha256(path))
    folder = tmp_path / "quality"
    folder.mkdir()
    scores_file.keep(config, folder, artifacts.sha256(path))
    artifacts.write_json(folder / "quality.json", config.model_dump(mode="json"))
    path.unlink()  # evaluations read the copy
    monkeypatch.setenv("FACET_HOME", str(tmp_path / ".facet"))
    switches = evaluation.Fiqa(sets=("lfw",), fmr=(0.1,), methods=("sharpness",))
    scorers = scoring_embedder.of_run(folder, switches.methods)
    embedder = Embedder.load(project / "models/small")
    measured = evaluate.measure(
        "fiqa", project / "eval", switches, scoring_embedder.watched(embedder, scorers),
        scoring_embedder.scores_of(scorers),
    )  # fmt: skip
    for area in ("edc_auc", "iso_pauc"):
        assert measured.metrics[f"lfw_scores_file_{area}_fmr1e-01"] == measured.metrics[f"lfw_sharpness_{area}_fmr1e-01"]
    with pytest.raises(ValueError, match=r"has the SHA-256 \w+, wanted 0: correct `quality.sha256`"):
        scores_file.keep(config.model_copy(update={"sha256": "0"}), folder, "f" * 64)
    # pictures of anybody have no names of a test set
    assert scoring_embedder.of_pictures(folder) == {}


def test_the_stage_keeps_the_scores_beside_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/r").mkdir(parents=True)
    write_model(tmp_path / "runs/r/backbone")
    (tmp_path / "s.txt").write_text("a.jpg 1\nb.jpg 2\n")
    (tmp_path / "kept").mkdir()
    config = scores_file.Config(name="scores_file", path="s.txt")
    train_quality.write_method(tmp_path / "kept", "r", config, Learned())
    frame = pd.read_parquet(tmp_path / "kept/scores.parquet")
    assert frame.to_numpy().tolist() == [["", "a.jpg", 1.0], ["", "b.jpg", 2.0]]
    assert json.loads((tmp_path / "kept/quality.json").read_text())["path"] == "s.txt"
