"""Quality as the norm of the feature before normalising: MagFace's magnitude (CVPR 2021), AdaFace's proxy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Config(BaseModel, extra="forbid", frozen=True):
    """Nothing to choose: any backbone's norm."""

    name: Literal["feature_norm"]
