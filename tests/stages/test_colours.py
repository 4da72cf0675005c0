"""A pure red image reaches the network as its checkpoint declares, whatever it was stored in.

The checkpoint families' own files are imported and asked in test_importing.py; here every layout meets every
declaration those families make.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from stages.core.images import augment
from stages.core.images.pixels import ColorOrder, ValueRange, from_rows, to_network
from stages.core.networks.checkpoint_keys import FAMILIES
from stages.core.recordio.images import RecordImages
from stages.datasets import ijb, ijbs, insightface_rec, pair_list, scface, tinyface, verification_bin
from stages.embedding.embedder import Embedder
from stages.training import dataset
from stages.unpacking.check import write_once
from tests.stages import small_sets

CPU = torch.device("cpu")
DECLARED = sorted({(family.color_order, family.value_range) for family in FAMILIES.values()} | {("RGB", (0.0, 1.0))})


def red(kind: str) -> bytes:
    image = np.zeros((112, 112, 3), np.uint8)
    image[..., 2] = 255  # blue, green, red: as OpenCV has it in memory
    # without subsampling and at full quality a JPEG keeps pure red but for rounding
    options = [cv2.IMWRITE_JPEG_QUALITY, 100] if kind == ".jpg" else []
    return cv2.imencode(kind, image, options)[1].tobytes()


def repaint(folder: Path, encoded: bytes) -> None:
    for path in folder.rglob("*.jpg"):
        path.write_bytes(encoded)


def from_record(folder: Path, encoded: bytes, view: str = "training") -> np.ndarray:
    """As training reads it: out of train.rec, through the loader, unaugmented but for the flip."""
    insightface_rec.write(folder, [(encoded, 0)], 1)
    train = insightface_rec.TrainSet.open(folder)
    # what the manifest says of it
    offset_N, length_N = (np.array([one]) for one in (train.reader.offset(1), len(train.image_bytes(1))))
    images = RecordImages(folder / "train.rec", train.keys, offset_N, length_N)
    records = dataset.Records(images, train.keys, train.labels, 1, "")
    drawn = dataset.Samples(records, augment.Probabilities(crop=0, low_res=0, photometric=0), 0, (view,))
    image_VBHW3 = np.empty(drawn.shape(1), np.uint8)
    drawn.fill(image_VBHW3, [(0, 0)])
    return image_VBHW3[0, 0]


def from_exported_folder(folder: Path, encoded: bytes) -> np.ndarray:
    """As `unpack` exports a record and OpenCV reads it."""
    insightface_rec.write(folder / "train", [(encoded, 0)], 1)
    path = folder / "images/0/1.jpg"
    write_once(path, insightface_rec.TrainSet.open(folder / "train").image_bytes(1))
    return np.asarray(cv2.imread(str(path)), np.uint8)


def from_bin(folder: Path, encoded: bytes) -> np.ndarray:
    verification_bin.write(folder / "lfw.bin", [encoded] * 2, [True])
    return verification_bin.decode(verification_bin.load(folder / "lfw.bin").images[0])


def from_ijb(folder: Path, encoded: bytes) -> np.ndarray:
    small_sets.write_ijb(folder)
    repaint(folder, encoded)
    return np.asarray(ijb.load(folder, "IJBB").image(0))


def from_layout(write: Callable[[Path], object], load: Callable[[Path], object]) -> Callable[[Path, bytes], np.ndarray]:
    def read(folder: Path, encoded: bytes) -> np.ndarray:
        write(folder)
        repaint(folder, encoded)
        return np.asarray(load(folder).image(0))  # type: ignore[attr-defined]

    return read


def from_cr_fiqa(folder: Path, encoded: bytes) -> np.ndarray:
    """As CR-FIQA's scripts leave it: red and blue swapped in the file, which the reader is told."""
    small_sets.write_pair_list(folder)
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    repaint(folder, cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes())
    return np.asarray(pair_list.load(folder, swapped=True).image(0))


SOURCES: dict[str, Callable[[Path, bytes], np.ndarray]] = {
    "train.rec": from_record,
    "train.rec, clean view": partial(from_record, view="clean"),
    "exported folder": from_exported_folder,
    ".bin": from_bin,
    "IJB loose crop": from_ijb,
    "IJB-S": from_layout(small_sets.write_ijbs, ijbs.load),
    "TinyFace": from_layout(small_sets.write_tinyface, tinyface.load),
    "SCface": from_layout(small_sets.write_scface, scface.load),
    "Adience": from_layout(small_sets.write_pair_list, pair_list.load),
    "XQLFW": from_layout(small_sets.write_xqlfw, pair_list.load),
    "CR-FIQA's files": from_cr_fiqa,
}


class Seen(torch.nn.Module):
    """Gives the middle pixel that reached it as the feature."""

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        return image_B3HW[:, :, 56, 56]


@pytest.mark.parametrize("kind", [".png", ".jpg"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_pure_red_image_of_any_layout_reaches_the_network_as_declared(tmp_path: Path, source: str, kind: str):
    image_HW3 = SOURCES[source](tmp_path, red(kind))
    assert image_HW3.shape == (112, 112, 3)
    for color_order, value_range in DECLARED:
        low, high = value_range
        wanted = np.array([high, low, low] if color_order == "RGB" else [low, low, high])
        got = Embedder(Seen(), color_order, CPU, value_range=value_range)([image_HW3])
        # a JPEG's pure red is 254, 0, 0
        assert np.abs(got.feature_ND - wanted).max() <= (0 if kind == ".png" else 1.01 * (high - low) / 255)
        np.testing.assert_array_equal(got.feature_ND, got.flipped_ND)


@pytest.mark.parametrize(("color_order", "value_range"), DECLARED)
def test_training_gives_the_network_what_evaluation_gives_it(
    tmp_path: Path, color_order: ColorOrder, value_range: ValueRange
):
    image_HW3 = from_record(tmp_path, small_sets.encoded(1))
    trained = to_network(from_rows(torch.from_numpy(image_HW3[None])), color_order, value_range)
    evaluated = Embedder(Seen(), color_order, CPU, value_range=value_range)([small_sets.face(1)])
    assert trained[:, :, 56, 56].tolist() in (evaluated.feature_ND.tolist(), evaluated.flipped_ND.tolist())


def test_every_family_of_checkpoints_declares_an_order_and_a_range():
    assert {(name, family.color_order, family.value_range) for name, family in FAMILIES.items()} >= {
        ("adaface", "BGR", (-1.0, 1.0)), ("insightface", "RGB", (-1.0, 1.0)), ("magface", "BGR", (0.0, 1.0)),
        ("cr_fiqa", "RGB", (-1.0, 1.0)),
    }  # fmt: skip
