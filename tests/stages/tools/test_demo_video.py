"""`facet demo-video` as a program: a film, a GIF, a curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

from stages.core.errors import OperationError
from stages.datasets import verification_bin
from stages.tools import demo_video
from tests.stages.embedding.test_embedder import write_model
from tests.stages.small_sets import encoded, face
from tests.stages.tools.test_compare import call


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("project")
    (path / "models").mkdir()
    write_model(path / "models/one")
    write_model(path / "models/two", color_order="RGB")
    folder = path / "data/demo/eval"
    folder.mkdir(parents=True)
    verification_bin.write(folder / "lfw.bin", [encoded(n % 4, n) for n in range(16)], [True] * 8)
    rows = [("lfw", str(n), n % 4, 1 - n / 20) for n in range(16)]
    pd.DataFrame(rows, columns=["set", "image", "identity", "quality"]).to_parquet(folder / "truth.parquet")
    return path


def test_embedded_people_are_shown_counted_and_drawn(project: Path) -> None:
    answer = call(project, "demo_video", "--models", "one", "two", "--out", "blur.mp4", "--plot", "blur.png")
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert first.startswith("one: true matches of 4: original ")
    assert second.startswith("two: true matches of 4: original ")
    video = cv2.VideoCapture(str(project / "blur.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    found, frame = video.read()
    assert found
    # the probe, the person of the synthetic set, stands top left
    shown = cv2.resize(frame[32:184, 126:278], (112, 112), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(shown - face(0, 4)).mean() < 25
    assert cv2.imread(str(project / "blur.png")).shape[1] > 400
    assert not list(project.glob("*.partial*"))


def test_a_gif_has_a_picture_for_each_face(project: Path) -> None:
    answer = call(project, "demo_video", "--models", "one", "--out", "blur.gif", "--limit", "3", "--blur", "2")
    assert answer.returncode == 0, answer.stderr
    with PillowImage.open(project / "blur.gif") as picture:
        assert picture.n_frames == 3


class Losing:
    """A writer of films on a full disk: it says nothing, and the film ends early."""

    made = cv2.VideoWriter
    fourcc = staticmethod(cv2.VideoWriter.fourcc)

    def __init__(self, path: str, *arguments: Any) -> None:
        self.path, self.film = Path(path), Losing.made(path, *arguments)
        self.isOpened, self.write = self.film.isOpened, self.film.write

    def release(self) -> None:
        self.film.release()
        self.path.write_bytes(self.path.read_bytes()[: self.path.stat().st_size // 2])


def test_a_film_that_did_not_arrive_on_the_disk_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "film.mp4"
    frames = [face(number) for number in range(3)]
    demo_video.write_video(out, iter(frames), 2.0)
    before = out.read_bytes()
    assert demo_video.num_frames(out) == 3
    monkeypatch.setattr(cv2, "VideoWriter", Losing)
    with pytest.raises(OperationError, match="0 of 3 frames arrived on the disk"):
        demo_video.write_video(out, iter(frames), 2.0)
    assert [out.read_bytes(), *tmp_path.iterdir()] == [before, out]


def test_wrong_words_are_refused_in_one_sentence(project: Path) -> None:
    answer = call(project, "demo_video", "--models", "one", "--out", "blur.mov")
    assert answer.stderr == "error: --out should end in .mp4 or .gif, got blur.mov\n"
    answer = call(project, "demo_video", "--models", "one", "--video", "x.mp4")
    assert answer.stderr == "error: --video needs a --gallery: a folder with one picture per person\n"
    answer = call(project, "demo_video", "--models", "one", "--dataset", "faces")
    assert answer.stderr.startswith("error: data/faces/eval/truth.parquet is missing: only synthetic sets have known identities")
