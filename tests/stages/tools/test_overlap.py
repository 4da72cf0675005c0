"""`facet overlap` on planted overlaps: who is trained on is found, who is not is flagged as rarely as is stated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import unpack
from stages.config.evaluation import Hq
from stages.core.metrics import overlap
from stages.core.metrics.features import Features
from stages.datasets import insightface_rec, verification_bin
from stages.embedding.embedder import Embedder
from stages.runtime import artifacts
from stages.suites import _overlap, _pairs
from stages.tools import overlap as tool
from tests.stages.embedding.test_embedder import write_model

DIMENSIONS, TRAINED, EACH = 24, 150, 4
SHARES = (0.0, 0.1, 0.4)


def drawn(person: int, image: int) -> np.ndarray:
    """Return a picture whose pixels hold a vector of the person, and noise of the image, in its grey squares."""
    mean_D = np.random.default_rng((7, person)).normal(size=DIMENSIONS)
    value_D = mean_D + 0.5 * np.random.default_rng((8, person, image)).normal(size=DIMENSIONS)
    grey = np.clip(128 + 25 * np.append(value_D, np.zeros(1)).reshape(5, 5), 0, 255).astype(np.uint8)
    side = np.kron(grey, np.ones((22, 22), np.uint8))
    return cv2.copyMakeBorder(cv2.merge([side, side, side]), 0, 2, 0, 2, cv2.BORDER_CONSTANT, value=(128, 128, 128))


def read_squares(images: Iterable[np.ndarray]) -> Features:
    """A network that reads that vector."""
    feature_ND = np.array([image[11::22, 11::22, 0][:5, :5].ravel()[:DIMENSIONS] - 128.0 for image in images], np.float32)
    return Features(feature_ND, feature_ND)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def people_of_test(share: float, count: int = 200) -> list[int]:
    """Return people, a share of whom are among those trained on, the others not."""
    planted = int(share * count)
    return [*range(planted), *range(1000, 1000 + count - planted)]


def write_test_set(folder: Path, name: str, people: list[int]) -> None:
    """Write a genuine pair of each person, and as many impostor pairs, with identities in pairs.csv."""
    target = folder / name
    target.mkdir(parents=True)
    rows = []
    for place, person in enumerate(people):
        for image in (100, 101):
            (target / f"{person}_{image}.png").write_bytes(png(drawn(person, image)))
        other = people[(place + 1) % len(people)]
        rows.append((f"{person}_100.png", f"{person}_101.png", 1, place % 10, person, person))
        rows.append((f"{person}_100.png", f"{other}_101.png", 0, place % 10, person, other))
    columns = ["a", "b", "same", "fold", "identity_a", "identity_b"]
    pd.DataFrame(rows, columns=columns).to_csv(target / "pairs.csv", index=False)


def training_images() -> Iterator[tuple[bytes, int]]:
    for person in range(TRAINED):
        for image in range(EACH):
            yield png(drawn(person, image)), person
        if person == 9:
            # a near-duplicate of the first picture: one grey level brighter
            yield png(cv2.add(drawn(9, 0), (1, 1, 1, 0))), 9
    # planted: person 5 again under label 150, with one picture of hers as it is
    for image in (50, 51, 52):
        yield png(drawn(5, image)), TRAINED
    yield png(drawn(5, 0)), TRAINED


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlap")
    (path / "models").mkdir()
    write_model(path / "models/small")
    insightface_rec.write(path / "data/mine/train", list(training_images()), TRAINED + 1)
    for share in SHARES:
        write_test_set(path / "data/mine/eval", f"p{100 * share:.0f}", people_of_test(share))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        artifacts.write_yaml(Path("resolved/datasets/mine.yaml"), {"unpack": {"export": "none", "max_bad_records": 0}})
        unpack.main(unpack.parser().parse_args(["mine"]))
        patch.setattr(Embedder, "load", lambda *_, **__: read_squares)
        tool.main(tool.parser().parse_args(["mine", "--model", "small", "--false-alarm", "0.02"]))
    return path


@pytest.fixture(scope="module")
def found(project: Path) -> dict:
    return json.loads((project / "overlap/overlap.json").read_text())


@pytest.mark.parametrize("share", SHARES)
def test_planted_people_are_found_and_others_flagged_as_rarely_as_is_stated(found: dict, share: float) -> None:
    one = found["sets"][f"p{100 * share:.0f}"]
    people = people_of_test(share)
    assert (one["people"], one["people_known_by"]) == (200, "identities of its list")
    flagged = {int(person["images"][0].split("_")[0]): person["identity"] for person in one["found"]}
    planted = {person for person in people if person < TRAINED}
    hits = {person for person in planted if flagged.get(person) == person or (person, flagged.get(person)) == (5, TRAINED)}
    if planted:
        assert len(hits) / len(planted) >= one["recall_expected"] - 0.05 > 0.9
    strangers = set(people) - planted
    alarms = len(set(flagged) & strangers)
    # binomial: 2 % of at most 200 people; 12 and more have a probability below .001
    assert alarms <= 11
    assert one["false_alarms_expected"] == pytest.approx(200 * one["false_alarm"])
    assert one["false_alarm"] <= 0.02


def test_accuracy_is_given_with_and_without_the_pairs_of_flagged_people(found: dict) -> None:
    one = found["sets"]["p40"]
    flagged = {int(person["images"][0].split("_")[0]) for person in one["found"]}
    people = people_of_test(0.4)
    left = sum(person not in flagged for person in people)
    left += sum(not {person, people[(place + 1) % 200]} & flagged for place, person in enumerate(people))
    assert (one["pairs"], one["pairs_without"]) == (400, left)
    assert 0.5 < one["accuracy_without"] <= 1


def test_duplicates_and_two_labels_of_one_person_are_found_within_the_training_set(found: dict) -> None:
    inside = found["training"]
    assert [one["labels"] for one in inside["equal_pixels"]] == [[5, TRAINED]]
    assert [one["labels"] for one in inside["one_person_under_two_labels"]] == [[5, TRAINED]]
    assert [one["label"] for one in inside["near_duplicates"]] == [9]


def test_the_page_shows_each_flagged_person_beside_the_identity(project: Path, found: dict) -> None:
    page = (project / "overlap/index.html").read_text()
    assert page.count("training identity ") == sum(min(len(one["found"]), 60) for one in found["sets"].values())
    assert page.count("data:image/jpeg;base64,") > 100
    assert "p40" in page


def test_too_few_identities_for_a_false_alarm_rate_are_refused() -> None:
    embedding_ND, label_N = np.eye(6), np.array([0, 0, 1, 1, 2, 2])
    centre_CD = overlap.means(embedding_ND, label_N, 3)
    with pytest.raises(ValueError, match=r"rate of 0.01 needs 100 training identities of two images or more, got 3"):
        overlap.level(embedding_ND, label_N, centre_CD, np.array([1]), 0.01)


def test_people_of_a_bin_file_are_those_that_genuine_pairs_link(tmp_path: Path, monkeypatch) -> None:
    images = [png(drawn(person, image)) for person, image in ((1, 0), (1, 1), (2, 0), (3, 0))] * 5
    verification_bin.write(tmp_path / "lfw.bin", images, [True, False] * 5)
    pairs = _pairs.embed_pairs(tmp_path, "lfw", Hq(sets=("lfw",)), read_squares, "t")
    person_N, (known_by, people) = _overlap.people_of(pairs, tmp_path, "lfw")
    assert (known_by, people) == ("genuine pairs alone", 15)
    assert person_N[0] == person_N[1] != person_N[2] != person_N[3]
