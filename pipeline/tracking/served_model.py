"""The pyfunc model that MLflow loads and serves: a run's exported program, independent of this repository.

MLflow copies this file into the model and runs it there (models-from-code): it imports no module of ours.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

BATCH_SIZE = 64
SIDE = 112
WANTED = f"wanted an aligned face: JPEG or PNG bytes (base64 in JSON), or uint8 ({SIDE}, {SIDE}, 3) with blue first"

Image = NDArray[np.uint8]


class FaceEmbedder(PythonModel):  # type: ignore[misc]
    """Maps aligned faces to embeddings, feature norms and the quality score that the run has learned."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the exported program; it holds its own colour order and value range."""
        import torch

        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a row for each image: ``embedding`` (unit length, no flip), ``feature_norm``, ``quality``, ``error``.

        An image that cannot be used has an ``error`` and nothing else; the others are answered. ``quality`` is None
        where the run has no quality method.

        Args:
            context: unused.
            model_input: a table with the column ``image``, each the bytes of a JPEG or PNG, the same in base64, or an
                array or nested list of uint8 (112, 112, 3), blue first, as OpenCV reads them.
            params: none are known.
        """
        found = [read(value) for value in pd.DataFrame(model_input)["image"]]
        images = [image for image in found if not isinstance(image, str)]
        answers = iter(self._answers(images))
        rows = [
            {"embedding": None, "feature_norm": None, "quality": None, "error": image}
            if isinstance(image, str)
            else next(answers)
            for image in found
        ]
        # objects, because a number column would turn None into NaN, which JSON has not
        return pd.DataFrame(rows, columns=["embedding", "feature_norm", "quality", "error"], dtype=object)

    def _answers(self, images: Sequence[Image]) -> list[dict[str, Any]]:
        import torch

        rows: list[dict[str, Any]] = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH_SIZE):
                batch_B3HW = np.stack(images[start : start + BATCH_SIZE]).transpose(0, 3, 1, 2)
                embedding_BD, norm_B, *quality = self.program(torch.from_numpy(np.ascontiguousarray(batch_B3HW)))
                score_B = quality[0].tolist() if quality else [None] * len(norm_B)
                for embedding_D, norm, score in zip(embedding_BD.tolist(), norm_B.tolist(), score_B, strict=True):
                    rows.append({"embedding": embedding_D, "feature_norm": norm, "quality": score, "error": None})
        return rows


def read(value: Any) -> Image | str:
    """Return an image as uint8 (112, 112, 3), blue first, or the reason why it cannot be used."""
    try:
        image = _decode(value) if isinstance(value, bytes | bytearray | str) else np.asarray(value)
    except ValueError as error:
        return f"{WANTED}; {error}"
    if image.shape != (SIDE, SIDE, 3):
        return f"{WANTED}; got shape {image.shape}: detect and align the face first"
    if image.dtype != np.uint8:
        # JSON has lists of numbers only
        whole = image.dtype.kind in "iu" and image.min() >= 0 and image.max() <= 255
        if not whole:
            return f"{WANTED}; got {image.dtype} between {image.min()} and {image.max()}"
    return image.astype(np.uint8)


def _decode(value: bytes | bytearray | str) -> NDArray[Any]:
    import cv2

    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"got text that is not base64 ({error})") from error
    try:
        decoded = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR) if value else None
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ValueError(f"got {len(value)} bytes that are not an image; they begin with {bytes(value[:8])!r}")
    return np.asarray(decoded)


mlflow.models.set_model(FaceEmbedder())
