"""The pyfunc model that MLflow loads and serves: a run's exported program, independent of this repository.

MLflow copies this file into the model and runs it there (models-from-code): it imports no module of ours.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

BATCH_SIZE = 64
SIDE = 112
COLUMNS = ("embedding", "feature_norm", "quality", "percent", "scale", "error")
WANTED = f"wanted an aligned face: JPEG or PNG bytes (base64 in JSON), or uint8 ({SIDE}, {SIDE}, 3) with blue first"

Image = NDArray[np.uint8]


class FaceEmbedder(PythonModel):  # type: ignore[misc]
    """Maps aligned faces to embeddings, feature norms, and the run's quality score with its place from 0 to 100."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the exported program; it holds its own colour order and value range."""
        import torch

        self.program = torch.export.load(context.artifacts["program"]).module()
        kept = context.artifacts.get("scales")
        by_method = json.loads(Path(kept).read_text(encoding="utf-8")) if kept else {}
        self.scales: dict[str, Any] = by_method.get((context.model_config or {}).get("quality_method"), {})

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a row for each image, with the columns ``COLUMNS``.

        ``embedding`` has unit length and no flip. ``quality`` is the score of the run's quality method, None where it
        has none with weights. ``percent`` is that score, or else the feature norm, on a scale from 0 to 100, and
        ``scale`` tells in words of which set and how sure; both are None where no set was measured. An image that
        cannot be used has an ``error`` and nothing else; the others are answered.

        Args:
            context: unused.
            model_input: a table with the column ``image``, each the bytes of a JPEG or PNG, the same in base64, or an
                array or nested list of uint8 (112, 112, 3), blue first, as OpenCV reads them.
            params: ``scale`` names the set; without it, the first of the model's sets.

        Raises:
            ValueError: the model has no scale of this set.
        """
        scale = self._scale((params or {}).get("scale"))
        found = [read(value) for value in pd.DataFrame(model_input)["image"]]
        images = [image for image in found if not isinstance(image, str)]
        answers = iter(self._answers(images, scale))
        none = dict.fromkeys(COLUMNS)
        rows = [none | {"error": image} if isinstance(image, str) else next(answers) for image in found]
        # objects, because a number column would turn None into NaN, which JSON has not
        return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)

    def _scale(self, name: str | None) -> Mapping[str, Any] | None:
        if not name:
            return next(iter(self.scales.values()), None)
        if name not in self.scales:
            raise ValueError(f"no scale of a set {name!r}: there are {', '.join(self.scales) or 'none'}")
        scale: Mapping[str, Any] = self.scales[name]
        return scale

    def _answers(self, images: Sequence[Image], scale: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        import torch

        rows: list[dict[str, Any]] = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH_SIZE):
                batch_B3HW = np.stack(images[start : start + BATCH_SIZE]).transpose(0, 3, 1, 2)
                embedding_BD, norm_B, *quality = self.program(torch.from_numpy(np.ascontiguousarray(batch_B3HW)))
                score_B = quality[0].tolist() if quality else [None] * len(norm_B)
                percent_B = percents((quality[0] if quality else norm_B).numpy(), scale)
                for values in zip(embedding_BD.tolist(), norm_B.tolist(), score_B, percent_B, strict=True):
                    said = (scale["meaning"] if scale else None, None)
                    rows.append(dict(zip(COLUMNS, (*values, *said), strict=True)))
        return rows


def percents(score_N: NDArray[Any], scale: Mapping[str, Any] | None) -> list[float | None]:
    """Return each score's place on a scale: 0 below all of the set's images, 100 above them; None without a scale.

    >>> percents(np.array([0.0, 1.5, 9.0]), {"score": [1.0, 3.0], "percent": [0.0, 100.0]})
    [0.0, 25.0, 100.0]
    """
    if scale is None or len(scale["score"]) < 2:
        return [None] * len(score_N)  # equal scores are no scale
    return list(np.interp(score_N, scale["score"], scale["percent"], left=0.0, right=100.0).tolist())


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
