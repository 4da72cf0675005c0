"""Converts pictures of any kind to aligned faces: read, detect, align to the ArcFace template.

Detector: YuNet (libfacedetection, ``cv2.FaceDetectorYN``), whose model file must be at hand; or MTCNN's five points
from facenet-pytorch, where that is installed.

Shapes: H, W rows and columns, 5 landmarks of 2 pixel coordinates.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.images import alignment, decoding

Image = NDArray[np.uint8]
MODEL_FILES = ("yunet_n_640_640.onnx", "face_detection_yunet_2023mar.onnx")
MODEL_ORIGIN = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
SIDES = (1280, 640, 320)
"""Longest side in pixels at which a picture is searched, in this order, until faces of a size that YuNet knows are
found."""
LARGEST_KNOWN = 300.0
"""YuNet is trained for faces of about 10 to 300 pixels; in larger ones it sees a face in an eye and a cheek."""
MIN_SCORE = 0.6
SMALLEST_SEARCHED = 160
"""A picture with a shorter side is enlarged to this before it is searched."""
FEWEST_PIXELS = 8
"""Pictures with a shorter side are not searched."""

TURNS: tuple[Callable[[Image], Image], ...] = (
    np.asarray, np.fliplr, np.flipud, lambda image: np.rot90(image, 2), lambda image: np.rot90(image, 1),
    lambda image: np.rot90(image, 3), lambda image: image.swapaxes(0, 1),
    lambda image: np.rot90(image, 2).swapaxes(0, 1),
)  # fmt: skip
"""The eight ways in which EXIF says that a picture lies."""


@dataclass(frozen=True)
class Face:
    """One face of a picture."""

    aligned_HW3: Image
    """uint8 (112, 112, 3), blue first."""
    box: tuple[float, float, float, float]
    """Left, top, width, height in pixels of the picture."""
    landmarks_52: NDArray[np.float64]
    score: float
    """The detector's score, 0 to 1."""


Detect = Callable[[Image], list[Face]]


def read_picture(path: Path) -> Image:
    """Return a picture as uint8 (H, W, 3), blue first.

    Grey becomes three equal channels, 16 bit becomes 8, what is transparent becomes white, and a rotation noted in
    EXIF is carried out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture that OpenCV reads.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    encoded = np.fromfile(path, np.uint8)
    # a JPEG has no transparency, and only IMREAD_COLOR carries out the rotation in EXIF
    whole = None if bytes(encoded[:2]) == b"\xff\xd8" else decoding.decode(encoded, cv2.IMREAD_UNCHANGED)
    if whole is not None and whole.ndim == 3 and whole.shape[2] == 4:
        return _turned(_on_white(whole), encoded)
    image_HW3 = decoding.decode(encoded, cv2.IMREAD_COLOR)
    if image_HW3 is None:
        raise InputError(f"{path} is not a readable picture: give JPEG, PNG, WebP, TIFF or BMP")
    return image_HW3


def _turned(image_HW3: Image, encoded: NDArray[np.uint8]) -> Image:
    """Return a picture that was decoded as it lies, turned as its EXIF says.

    Which turn that is shows from OpenCV's two ways of decoding: it carries out the rotation only where it drops alpha.
    """
    lying_HW3 = decoding.decode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    upright_HW3 = decoding.decode(encoded, cv2.IMREAD_COLOR)
    if lying_HW3 is None or upright_HW3 is None:
        return image_HW3
    turns = (turn for turn in TURNS if np.array_equal(turn(lying_HW3), upright_HW3))
    return np.ascontiguousarray(next(turns, np.asarray)(image_HW3))


def _on_white(image_HW4: NDArray[Any]) -> Image:
    full = np.iinfo(image_HW4.dtype).max
    alpha_HW1 = image_HW4[:, :, 3:].astype(np.float32) / full
    over_HW3 = image_HW4[:, :, :3].astype(np.float32) * (255 / full) * alpha_HW1 + 255 * (1 - alpha_HW1)
    return over_HW3.round().astype(np.uint8)


def find_model(given: Path | None = None) -> Path:
    """Return YuNet's model file: the given one, ``FACET_YUNET``, ``models/``, or the user's cache.

    Raises:
        FileNotFoundError: it is nowhere; the message says where it can be had and where it is looked for.
    """
    asked = given or (Path(os.environ["FACET_YUNET"]) if os.environ.get("FACET_YUNET") else None)
    if asked is not None:
        if not asked.is_file():
            raise FileNotFoundError(f"{asked}, given as the face detector's model, does not exist")
        return asked
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facet"
    for folder in (Path("models"), Path(__file__).resolve().parents[2] / "models", cache):
        for name in MODEL_FILES:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(
        f"no face-detector model: get {MODEL_FILES[1]} from {MODEL_ORIGIN} and put it into models/ or {cache}, "
        "or give it with --detector; aligned faces need no detector (--aligned)"
    )


class YuNet:
    """Detects and aligns faces; the largest comes first."""

    def __init__(self, model: Path, min_score: float = MIN_SCORE) -> None:
        # OpenCV 5 warns of a target that nobody asked for
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self.detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), min_score, 0.3, 5000)
        except cv2.error as error:
            raise InputError(f"{model} is not a model for cv2.FaceDetectorYN: {str(error).strip()}") from error

    def __call__(self, image_HW3: Image) -> list[Face]:
        """Return the faces of a picture, the largest first; an empty list if there are none."""
        best: list[Face] = []
        for scale in dict.fromkeys(_search_scale(image_HW3, side) for side in SIDES):
            if scale is None:
                continue
            found = sorted(self._search(image_HW3, scale), key=lambda face: -face.box[2] * face.box[3])
            best = found or best
            if found and max(found[0].box[2:]) * scale <= LARGEST_KNOWN:
                break
        return best

    def _search(self, image_HW3: Image, scale: float) -> list[Face]:
        small_HW3 = _resized(image_HW3, scale)
        self.detector.setInputSize((small_HW3.shape[1], small_HW3.shape[0]))
        _, rows = self.detector.detect(small_HW3)
        found = []
        for row in [] if rows is None else rows.astype(np.float64):
            # YuNet's order is the person's right eye, left eye, nose, right and left mouth corner: the template's
            landmarks_52 = row[4:14].reshape(5, 2) / scale
            left, top, width, height = (float(value) for value in row[:4] / scale)
            found.append(Face(align(image_HW3, landmarks_52), (left, top, width, height), landmarks_52, float(row[14])))
        return found


def _search_scale(image_HW3: Image, side: int) -> float | None:
    shortest, longest = (int(length) for length in sorted(image_HW3.shape[:2]))
    if shortest < FEWEST_PIXELS:
        return None
    if longest > side:
        return side / longest
    return max(1.0, SMALLEST_SEARCHED / shortest)


def _resized(image_HW3: Image, scale: float) -> Image:
    if scale == 1:
        return image_HW3
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = tuple(max(1, round(length * scale)) for length in image_HW3.shape[1::-1])
    resized: Image = cv2.resize(image_HW3, size, interpolation=method)
    return resized


def align(image_HW3: Image, landmarks_52: NDArray[np.float64]) -> Image:
    """Return the aligned face; a large one is first reduced by area averaging, because a warp would alias."""
    matrix_23 = alignment.similarity(landmarks_52)
    scale = float(np.hypot(matrix_23[0, 0], matrix_23[1, 0]))
    if scale >= 0.5:
        return alignment.align(image_HW3, landmarks_52)
    # only the face's surroundings: reducing 20 megapixels for each of many faces would take seconds
    reach = 2 * alignment.SIZE / scale
    low_2 = np.maximum(np.floor(landmarks_52.mean(axis=0) - reach), 0).astype(int)
    high_2 = np.ceil(landmarks_52.mean(axis=0) + reach).astype(int)
    part_HW3 = image_HW3[low_2[1] : high_2[1], low_2[0] : high_2[0]]
    small_HW3 = _resized(part_HW3, scale)
    ratio_2 = np.array(small_HW3.shape[1::-1]) / np.array(part_HW3.shape[1::-1])
    # pixel centres, not corners, keep their place when an image is resized
    return alignment.align(small_HW3, (landmarks_52 - low_2 + 0.5) * ratio_2 - 0.5)


class Mtcnn:
    """Optional detector: MTCNN's five points by facenet-pytorch (AdaFace's inference.py uses an older copy)."""

    def __init__(self) -> None:
        try:
            library = importlib.import_module("facenet_pytorch")
        except ImportError as error:
            raise InputError(
                f"--detector mtcnn needs the package facenet-pytorch, which cannot be imported ({error}): "
                "install facenet-pytorch in a separate environment with its own torch, or use YuNet"
            ) from error
        self.detector = library.MTCNN(keep_all=True)

    def __call__(self, image_HW3: Image) -> list[Face]:
        """Return the faces of a picture, the largest first."""
        boxes, scores, points = self.detector.detect(np.ascontiguousarray(image_HW3[:, :, ::-1]), landmarks=True)
        if boxes is None:
            return []
        found = []
        for (left, top, right, bottom), score, landmarks_52 in zip(boxes, scores, points, strict=True):
            landmarks_52 = np.asarray(landmarks_52, np.float64)
            box = (float(left), float(top), float(right - left), float(bottom - top))
            found.append(Face(align(image_HW3, landmarks_52), box, landmarks_52, float(score)))
        return sorted(found, key=lambda face: -face.box[2] * face.box[3])


def as_aligned(image_HW3: Image) -> list[Face]:
    """Return the whole picture as one aligned face; another size is resized to 112 x 112."""
    height, width = image_HW3.shape[:2]
    method = cv2.INTER_AREA if min(height, width) > alignment.SIZE else cv2.INTER_CUBIC
    size = (alignment.SIZE, alignment.SIZE)
    aligned = image_HW3 if (width, height) == size else cv2.resize(image_HW3, size, interpolation=method)
    landmarks_52 = alignment.TEMPLATE_52 * np.array([width, height]) / alignment.SIZE
    return [Face(aligned, (0.0, 0.0, float(width), float(height)), landmarks_52, 1.0)]


def choose(detector: str | None, *, aligned: bool = False) -> Detect:
    """Return the face detector: ``mtcnn``, YuNet's model file, or None for YuNet with the model that is found.

    Raises:
        FileNotFoundError: there is no model file.
        ValueError: the file is none, or a package is missing.
    """
    if aligned:
        return as_aligned
    if detector == "mtcnn":
        return Mtcnn()
    return YuNet(find_model(Path(detector) if detector else None))
