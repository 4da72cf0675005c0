"""Face recognition under blur: compares models face by face and as a curve.

After the comparison of AdaFace and ArcFace in the AdaFace README's video: original, blur+ and blur++.

Shapes: N probes, G gallery faces, L levels of blur, M models, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from stages.core.errors import InputError
from stages.core.metrics.features import Embed, Floats, Fusion, Image, fuse, normalise
from stages.datasets import verification_bin
from stages.pictures.detect import Detect, read_picture


@dataclass(frozen=True)
class Gallery:
    """One aligned face of each person."""

    names: list[str]
    images: list[Image]


@dataclass(frozen=True)
class Probe:
    """A face to be recognised, and its person, if known."""

    image: Image
    name: str | None


@dataclass(frozen=True)
class Match:
    """The nearest gallery face of one probe."""

    index: int
    cosine: float
    correct: bool | None
    """Whether it is the right person; None if the person is not known."""


class Matcher:
    """One model and the gallery, embedded by it."""

    def __init__(self, embed: Embed, gallery: Gallery, fusion: Fusion = "pre_norm_sum") -> None:
        self.embed, self.gallery, self.fusion = embed, gallery, fusion
        self.embedding_GD = self._embeddings(gallery.images)

    def __call__(self, probes: Sequence[Probe]) -> list[Match]:
        """Return the nearest gallery face of each probe; the first of equal cosines."""
        if not probes:
            return []
        cosine_NG = self._embeddings([probe.image for probe in probes]) @ self.embedding_GD.T
        nearest_N = cosine_NG.argmax(axis=1)
        return [
            Match(int(g), float(cosine_NG[n, g]), None if probe.name is None else self.gallery.names[g] == probe.name)
            for n, (g, probe) in enumerate(zip(nearest_N, probes, strict=True))
        ]

    def _embeddings(self, images: Sequence[Image]) -> Floats:
        return normalise(fuse(self.embed(images), self.fusion))


def blurred(image_HW3: Image, sigma: float) -> Image:
    """Return an aligned face under a Gaussian blur of ``sigma`` pixels (of 112)."""
    if sigma == 0:
        return image_HW3
    made: Image = cv2.GaussianBlur(image_HW3, (0, 0), sigma)
    return made


def true_match_rates(
    matchers: Mapping[str, Matcher], probes: Sequence[Probe], sigmas: Sequence[float]
) -> dict[str, list[float]]:
    """Return each model's share of probes whose nearest gallery face is the right person, at each blur.

    Raises:
        ValueError: a probe's person is not known.
    """
    if not probes or any(probe.name is None for probe in probes):
        raise InputError("the rate of true matches needs probes of known people; there are none, or some are unknown")
    return {
        name: [
            float(np.mean([match.correct for match in matcher([_with_blur(probe, sigma) for probe in probes])]))
            for sigma in sigmas
        ]
        for name, matcher in matchers.items()
    }


def _with_blur(probe: Probe, sigma: float) -> Probe:
    return Probe(blurred(probe.image, sigma), probe.name)


def match_frames(
    matchers: Mapping[str, Matcher], probes: Iterable[Probe], sigmas: Sequence[float], batch_size: int = 16
) -> Iterator[tuple[Probe, dict[str, list[Match]]]]:
    """Yield each probe with every model's matches, one for each blur level."""
    for batch in _batches(probes, batch_size):
        found: dict[str, list[list[Match]]] = {
            name: [matcher([_with_blur(probe, sigma) for probe in batch]) for sigma in sigmas]
            for name, matcher in matchers.items()
        }
        for n, probe in enumerate(batch):
            yield probe, {name: [by_level[n] for by_level in levels] for name, levels in found.items()}


def _batches(probes: Iterable[Probe], size: int) -> Iterator[list[Probe]]:
    batch: list[Probe] = []
    for probe in probes:
        batch.append(probe)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def synthetic(eval_folder: Path, set_name: str = "lfw") -> tuple[Gallery, list[Probe]]:
    """Return each person's best picture of a synthetic test set as gallery, and the next best as probe.

    Raises:
        FileNotFoundError: the set or its truth is missing.
        ValueError: nobody is on two different images.
    """
    path = eval_folder / "truth.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: only synthetic sets have known identities; use --video instead")
    table = pd.read_parquet(path)
    table = table[table["set"] == set_name].astype({"image": int}).sort_values("quality", ascending=False)
    encoded = verification_bin.load(eval_folder / f"{set_name}.bin").images
    gallery = Gallery([], [])
    probes: list[Probe] = []
    for person, rows in table.groupby("identity", sort=True):
        # the same picture may stand in several pairs
        different = list(dict.fromkeys(bytes(encoded[row]) for row in rows["image"]))
        if len(different) < 2:
            continue
        best, other = (verification_bin.decode(np.frombuffer(each, np.uint8)) for each in different[:2])
        gallery.names.append(str(person))
        gallery.images.append(best)
        probes.append(Probe(other, str(person)))
    if len(probes) < 2:
        raise InputError(f"{path}: wanted people with two pictures in {set_name}, there are {len(probes)}")
    return gallery, probes


def gallery_of(folder: Path, detect: Detect) -> Gallery:
    """Return the largest face of every picture in a folder, named by its file.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a picture holds no face, or there are fewer than two.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    gallery = Gallery([], [])
    for path in sorted(folder.iterdir()):
        faces = detect(read_picture(path))
        if not faces:
            raise InputError(f"no face found in {path}: a gallery needs one picture per person")
        gallery.names.append(path.stem)
        gallery.images.append(faces[0].aligned_HW3)
    if len(gallery.names) < 2:
        raise InputError(f"{folder} should have pictures of at least two people, one each, got {len(gallery.names)}")
    return gallery


def video_probes(source: str, detect: Detect, name: str | None, limit: int) -> Iterator[Probe]:
    """Yield the largest face of each frame of a video file, or of a camera given by its number.

    Raises:
        ValueError: it cannot be opened.
    """
    video = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not video.isOpened():
        raise InputError(f"{source} cannot be opened as a video: give a file that OpenCV reads, or a camera's number")
    try:
        for _ in range(limit):
            more, frame_HW3 = video.read()
            if not more:
                return
            if faces := detect(frame_HW3):
                yield Probe(faces[0].aligned_HW3, name)
    finally:
        video.release()
