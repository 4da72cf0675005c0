"""Pictures of every kind: each is read as a person sees it, and the same face comes out of each."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from stages.core.images import alignment
from stages.core.metrics.features import Image
from stages.pictures import detect as faces


@pytest.fixture(scope="module")
def yunet(shared: Path) -> faces.YuNet:
    return faces.YuNet(shared / "models/yunet_n_640_640.onnx")


@pytest.fixture(scope="module")
def photo(faces: Path) -> Image:
    return cv2.imread(str(faces / "compare/img2.jpeg"))


def difference(one: Image, other: Image) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def landmark_shift(found: faces.Face, wanted: faces.Face, scale: float = 1.0) -> float:
    """The largest shift of a landmark, as a share of the face's width."""
    return float(np.abs(found.landmarks_52 / scale - wanted.landmarks_52).max() / wanted.box[2])


def write_png(path: Path, image: np.ndarray) -> Path:
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey_HW = np.arange(48, dtype=np.uint8).reshape(6, 8)
    image = faces.read_picture(write_png(tmp_path / "grey.png", grey_HW))
    assert np.array_equal(image, np.repeat(grey_HW[:, :, None], 3, axis=2))


def test_16_bit_becomes_8_bit(tmp_path: Path) -> None:
    deep = np.full((4, 5, 3), (0, 128 * 257, 65535), np.uint16)
    image = faces.read_picture(write_png(tmp_path / "deep.png", deep))
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.full((4, 5, 3), (0, 128, 255), np.uint8))


@pytest.mark.parametrize("full", [255, 65535])
def test_what_is_transparent_is_white_and_what_is_half_so_is_mixed(tmp_path: Path, full: int) -> None:
    kind = np.uint8 if full == 255 else np.uint16
    image = np.array([[[0, 0, full, full], [0, 0, full, 0], [0, 0, full, full // 2]]], kind)
    seen = faces.read_picture(write_png(tmp_path / "rgba.png", image))
    assert seen.tolist() == [[[0, 0, 255], [255, 255, 255], [128, 128, 255]]]


def test_a_rotation_noted_in_exif_is_carried_out(tmp_path: Path) -> None:
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:20] = 255
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise
    turned = PillowImage.fromarray(np.ascontiguousarray(np.rot90(upright)))
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert difference(faces.read_picture(tmp_path / "turned.jpg"), upright) < 5


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_has_transparency_is_turned_too(orientation: int, kind: str, tmp_path: Path) -> None:
    lying = np.random.default_rng(0).integers(0, 256, (6, 9, 4), np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    picture = PillowImage.fromarray(lying)
    path = tmp_path / f"turned.{kind}"
    picture.save(path, exif=exif, **({"lossless": True, "exact": True} if kind == "webp" else {}))
    upright = np.asarray(ImageOps.exif_transpose(PillowImage.open(path))).astype(np.float64)
    alpha = upright[:, :, 3:] / 255
    on_white = (upright[:, :, 2::-1] * alpha + 255 * (1 - alpha)).round()
    assert np.abs(faces.read_picture(path) - on_white).max() <= 1


def test_names_need_not_be_ascii(tmp_path: Path) -> None:
    path = write_png(tmp_path / "Zoë 李.png", np.zeros((4, 4, 3), np.uint8))
    assert faces.read_picture(path).shape == (4, 4, 3)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0 cut short", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.jpg is not a readable picture: give JPEG, PNG"):
        faces.read_picture(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError, match=r"y.jpg does not exist"):
        faces.read_picture(tmp_path / "y.jpg")


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.5, 2.0, 5.0, 20.0])
def test_a_face_is_found_where_it_is_at_any_size(yunet: faces.YuNet, photo: Image, scale: float) -> None:
    (wanted,) = yunet(photo)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    # 20 times is 20 megapixels, of which the face is more than YuNet knows; a tenth is a face of 9 pixels
    (found,) = yunet(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=method))
    assert found.aligned_HW3.shape == (112, 112, 3)
    assert landmark_shift(found, wanted, scale) < 0.15


def test_a_large_face_is_aligned_without_aliasing(photo: Image) -> None:
    # a checkerboard of pixels is grey from afar; sampled, it is anything
    height, width = 2240, 2240
    board = np.indices((height, width)).sum(axis=0)[:, :, None] % 2 * 255 * np.ones(3)
    aligned = faces.align(board.astype(np.uint8), alignment.TEMPLATE_52 * 20)
    assert np.abs(aligned[5:-5, 5:-5].astype(int) - 128).max() <= 2


def test_reducing_before_the_warp_moves_nothing(photo: Image, yunet: faces.YuNet) -> None:
    (face,) = yunet(photo)
    small = faces.align(photo, face.landmarks_52)
    large = cv2.resize(photo, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    # pixel centres keep their place: the same face, less the sharpness lost by enlarging
    assert difference(faces.align(large, (face.landmarks_52 + 0.5) * 8 - 0.5), small) < 3


def test_of_several_faces_the_largest_comes_first(yunet: faces.YuNet, photo: Image) -> None:
    small = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    beside = np.zeros((photo.shape[0], small.shape[1], 3), np.uint8)
    beside[: small.shape[0]] = small
    found = yunet(np.hstack([beside, photo]))
    assert len(found) == 2
    assert found[0].box[2] > 1.5 * found[1].box[2]
    assert found[0].box[0] > small.shape[1]


@pytest.mark.parametrize("shape", [(300, 400), (12, 12), (1, 1), (3, 5000), (5, 5)])
def test_where_nobody_is_nobody_is_found(yunet: faces.YuNet, shape: tuple[int, int]) -> None:
    assert yunet(np.full((*shape, 3), 90, np.uint8)) == []


def test_an_aligned_face_is_taken_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    (face,) = faces.as_aligned(image)
    assert face.aligned_HW3 is image
    assert faces.as_aligned(image[:12, :12])[0].aligned_HW3.shape == (112, 112, 3)


def test_without_a_model_the_error_says_where_it_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FACET_YUNET", raising=False)
    with pytest.raises(FileNotFoundError, match=r"get face_detection_yunet_2023mar.onnx from https.*--aligned"):
        faces.choose(None)
    with pytest.raises(FileNotFoundError, match=r"nowhere.onnx, given as the face detector's model, does not exist"):
        faces.choose("nowhere.onnx")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / faces.MODEL_FILES[0]).write_bytes(b"no model")
    assert faces.find_model() == Path("models") / faces.MODEL_FILES[0]
    with pytest.raises(ValueError, match=r"is not a model for cv2.FaceDetectorYN"):
        faces.choose(None)


def test_the_model_is_found_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "cache/facet" / faces.MODEL_FILES[1]
    path.parent.mkdir(parents=True)
    path.touch()
    assert faces.find_model() == path


def test_mtcnn_gives_its_points_and_is_missed_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(ValueError, match="needs the package facenet-pytorch"):
        faces.choose("mtcnn")

    class Stand:
        """What facenet-pytorch's MTCNN gives: boxes as corners, probabilities, points; None where nobody is."""

        def detect(self, image: Image, landmarks: bool) -> tuple[object, object, object]:
            assert landmarks
            if image[0, 0, 0] == 0:  # red first: a blue picture
                return None, [None], None
            return np.array([[0, 0, 10, 12], [0, 0, 112, 112]]), np.array([0.9, 0.8]), np.stack(
                [alignment.TEMPLATE_52 / 10, alignment.TEMPLATE_52]
            )

    monkeypatch.setitem(sys.modules, "facenet_pytorch", SimpleNamespace(MTCNN=lambda keep_all: Stand()))
    mtcnn = faces.choose("mtcnn")
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 2] = 200
    large, small = mtcnn(red)
    assert (large.box, large.score) == ((0, 0, 112, 112), 0.8)
    assert small.box == (0, 0, 10, 12)
    # least squares onto the template moves its own corner by a rounding of 1/32 pixel
    assert difference(large.aligned_HW3[1:-1, 1:-1], red[1:-1, 1:-1]) < 1
    assert mtcnn(red[:, :, ::-1]) == []
