"""What MLflow loads as a model: a run's exported program, which needs torch and nothing of this repository.

MLflow copies this file into the model and runs it there (models-from-code): it imports no module of ours.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from typing import Any

import mlflow.models
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

BATCH_SIZE = 64


class FaceEmbedder(PythonModel):  # type: ignore[misc]
    """Aligned faces to embeddings, and the norms of the features they come from, a proxy of quality."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the exported program; it names its own colour order and value range."""
        import torch

        self.program = torch.export.load(context.artifacts["program"]).module()

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,  # MLflow takes no other hint for arrays than this bare one
        params: dict[str, Any] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Return ``embedding`` (N, D), unit length, and ``feature_norm`` (N,), of the images without flip.

        Args:
            context: unused.
            model_input: aligned faces, uint8 (N, 112, 112, 3), blue first, as OpenCV reads them.
            params: none are known.

        Raises:
            ValueError: another shape or type.
        """
        import torch

        image_NHW3 = np.asarray(model_input)
        if image_NHW3.ndim != 4 or image_NHW3.shape[1:] != (112, 112, 3) or image_NHW3.dtype != np.uint8:
            raise ValueError(f"wanted aligned faces, uint8 (N, 112, 112, 3), got {image_NHW3.dtype} {image_NHW3.shape}")
        embeddings, norms = [], []
        with torch.inference_mode():
            for start in range(0, max(len(image_NHW3), 1), BATCH_SIZE):
                rows = np.ascontiguousarray(image_NHW3[start : start + BATCH_SIZE].transpose(0, 3, 1, 2))
                embedding_BD, norm_B = self.program(torch.from_numpy(rows))
                embeddings.append(embedding_BD.numpy())
                norms.append(norm_B.numpy())
        return {"embedding": np.concatenate(embeddings), "feature_norm": np.concatenate(norms)}


mlflow.models.set_model(FaceEmbedder())
