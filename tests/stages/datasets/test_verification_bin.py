from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.core.formats.verification_pickle import PickleError
from stages.datasets import verification_bin

GOLDEN = Path(__file__).parents[2] / "golden" / "recordio"


def test_a_real_set_of_arrays_is_read():
    found = verification_bin.load(GOLDEN / "small_lfw.bin")
    assert len(found.images) == 20
    assert found.is_same.tolist() == [True] * 10
    decoded = [verification_bin.decode(image) for image in found.images]
    assert {(image.shape, image.dtype.name) for image in decoded} == {((112, 112, 3), "uint8")}


@pytest.mark.parametrize("name", ["eval/lfw.bin", "lfw_official/lfw.bin"])
def test_real_sets_of_bytes_are_read_as_pickle_reads_them(faces: Path, name: str):
    found = verification_bin.load(faces / name)
    with (faces / name).open("rb") as stream:
        images, is_same = pickle.load(stream)
    assert found.images == images
    assert found.is_same.tolist() == is_same


def test_writing_a_real_set_again_gives_the_same_bytes(faces: Path, tmp_path: Path):
    found = verification_bin.load(faces / "eval" / "lfw.bin")
    verification_bin.write(tmp_path / "lfw.bin", found.images, found.is_same)
    assert (tmp_path / "lfw.bin").read_bytes() == (faces / "eval" / "lfw.bin").read_bytes()


def test_what_is_written_is_what_pickle_loads(tmp_path: Path):
    images = [b"\xff\xd8a", b"\xff\xd8b", b"c\x00\xff", b"d"]
    verification_bin.write(tmp_path / "a.bin", images, np.array([True, False]))
    assert pickle.loads((tmp_path / "a.bin").read_bytes()) == (images, [True, False])
    found = verification_bin.load(tmp_path / "a.bin")
    assert (found.images, found.is_same.tolist()) == (images, [True, False])


def test_a_set_needs_two_images_to_an_answer(tmp_path: Path):
    for images, is_same in (([b"a"], [True]), ([b"a", b"b"], []), ([b"a", b"b", b"c"], [True])):
        with pytest.raises(ValueError, match="wanted two images to an answer"):
            verification_bin.write(tmp_path / "a.bin", images, is_same)


def test_a_damaged_file_is_named(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes((GOLDEN / "small_lfw.bin").read_bytes()[:1000])
    with pytest.raises(PickleError, match=r"a\.bin: after byte "):
        verification_bin.load(tmp_path / "a.bin")


def test_an_image_keeps_its_colours_in_the_order_blue_green_red():
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 2] = 255
    decoded = verification_bin.decode(cv2.imencode(".png", red)[1])
    assert np.array_equal(decoded, red)


def test_a_grey_image_gets_three_channels():
    assert verification_bin.decode(cv2.imencode(".png", np.full((112, 112), 7, np.uint8))[1]).shape == (
        112,
        112,
        3,
    )


@pytest.mark.parametrize("size", [56, 111, 160, 224])
def test_a_square_image_of_another_size_is_resized(size: int):
    flat = np.full((size, size, 3), 77, np.uint8)
    assert (verification_bin.decode(cv2.imencode(".png", flat)[1].tobytes()) == 77).all()


@pytest.mark.parametrize("shape", [(112, 96), (96, 112), (250, 112)])
def test_an_image_that_is_not_square_is_refused(shape: tuple[int, int]):
    encoded = cv2.imencode(".png", np.zeros((*shape, 3), np.uint8))[1]
    with pytest.raises(
        ValueError, match=f"wanted a square image, preferably 112 x 112, got {shape[1]} x {shape[0]}"
    ):
        verification_bin.decode(encoded)


@pytest.mark.parametrize("data", [b"", b"GIF?", b"\xff\xd8\xff\xe0 nothing"])
def test_bytes_that_are_no_image_are_refused(data: bytes):
    with pytest.raises(ValueError, match="are not an image"):
        verification_bin.decode(data)
