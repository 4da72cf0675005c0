"""Decoding into an array: the pixels are OpenCV's, whatever kind of file it is."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image as Pil

from stages.core.images import decoding
from stages.datasets.insightface_rec import TrainSet


def picture(side: int = 112) -> np.ndarray:
    coarse = np.random.default_rng(5).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def saved(image: Pil.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **{"format": "JPEG", "quality": 90} | options)
    return stream.getvalue()


def turned() -> bytes:
    exif = Pil.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    return saved(Pil.fromarray(picture()), exif=exif)


RGB = Pil.fromarray(picture())
FILES = {
    "4:4:4": saved(RGB, subsampling=0),
    "4:2:2": saved(RGB, subsampling=1),
    "4:2:0": saved(RGB, subsampling=2),
    "quality 1": saved(RGB, quality=1),
    "quality 100": saved(RGB, quality=100),
    "progressive": saved(RGB, progressive=True),
    "optimised": saved(RGB, optimize=True),
    "with restart markers": saved(RGB, restart_marker_blocks=3),
    "stored as red, green, blue": saved(RGB, keep_rgb=True),
    "with a comment": saved(RGB, comment=b"hello"),
    "grey": saved(RGB.convert("L")),
    "four inks": saved(RGB.convert("CMYK")),
    "turned by EXIF": turned(),
    "PNG": saved(RGB, format="PNG"),
    "PNG with alpha": saved(RGB.convert("RGBA"), format="PNG"),
    "grey PNG": saved(RGB.convert("L"), format="PNG"),
    "BMP": saved(RGB, format="BMP"),
    "WebP": saved(RGB, format="WEBP"),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_equal_those_of_opencv(name: str):
    wanted = cv2.imdecode(np.frombuffer(FILES[name], np.uint8), cv2.IMREAD_COLOR)
    image = np.zeros((112, 112, 3), np.uint8)
    assert decoding.decode_into(image, memoryview(FILES[name])) == (112, 112)
    assert np.array_equal(image, wanted)


def test_a_plain_jpeg_does_not_go_through_opencv():
    with mock.patch.object(cv2, "imdecode", side_effect=AssertionError):
        decoding.decode_into(np.zeros((112, 112, 3), np.uint8), FILES["4:2:0"])


@pytest.mark.parametrize("side", [40, 111, 113, 250])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_of_another_size_says_which(side: int, kind: str):
    encoded = saved(Pil.fromarray(picture(side)), format=kind)
    assert decoding.decode_into(np.zeros((112, 112, 3), np.uint8), encoded) == (side, side)


def test_an_image_of_as_many_pixels_but_other_sides_says_which():
    encoded = saved(RGB.resize((56, 224)))
    assert decoding.decode_into(np.zeros((112, 112, 3), np.uint8), encoded) == (224, 56)


@pytest.mark.parametrize("encoded", [b"no image at all", FILES["4:2:0"][:300], b"\xff\xd8\xff"])
def test_bytes_that_are_no_image_say_so(encoded: bytes):
    wanted = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    size = decoding.decode_into(np.zeros((112, 112, 3), np.uint8), encoded)
    assert size == (None if wanted is None else wanted.shape[:2])


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_a_jpeg_cut_short_is_what_opencv_makes_of_it(kept: float, capfd: pytest.CaptureFixture[str]):
    encoded = FILES["4:2:0"][: int(kept * len(FILES["4:2:0"]))]
    wanted = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    image = np.zeros((112, 112, 3), np.uint8)
    size = decoding.decode_into(image, encoded)
    if wanted is None:
        assert size is None
    else:
        assert np.array_equal(image, wanted)


def test_pixels_of_real_faces_equal_those_of_opencv(faces: Path):
    train = TrainSet.open(faces / "train")
    image = np.empty((112, 112, 3), np.uint8)
    for key in train.keys.tolist():
        encoded = train.image_bytes(key)
        assert decoding.decode_into(image, encoded) == (112, 112)
        assert np.array_equal(image, cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)), key


def of_a_billion_pixels(name: str) -> bytes:
    """Return a file whose header says that it is 60,000 x 60,000."""
    data, side = bytearray(FILES[name]), 60_000
    if name == "PNG":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    else:
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


@pytest.mark.parametrize("name", ["PNG", "4:2:0"])
def test_what_announces_a_billion_pixels_is_no_image(name: str):
    encoded = of_a_billion_pixels(name)
    with pytest.raises(cv2.error):
        cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert decoding.decode(encoded) is None
    assert decoding.decode_into(np.empty((112, 112, 3), np.uint8), encoded) is None


def test_nothing_is_no_image():
    assert decoding.decode(b"") is None
