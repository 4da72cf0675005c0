"""CR-FIQA (Boutros et al., CVPR 2023): how classifiable an image is, regressed from its feature."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Config(BaseModel, extra="forbid", frozen=True):
    """CR-FIQA on a frozen backbone: one linear layer on the feature before normalising."""

    name: Literal["cr_fiqa"]
    target: Literal["paper", "code", "vit_fiqa"] = Field(
        description="what is regressed; paper: CCS/(NNCCS + 1 + eps); code: CCS/NNCCS as released, which "
        "explodes where no other class has a positive cosine; vit_fiqa: the authors' later code"
    )
    epochs: int = Field(ge=1, description="passes over the features of the training images")
    alpha: float = Field(10.0, gt=0, description="weight of the regression loss")
    beta: float = Field(0.5, gt=0, description="where SmoothL1 turns from a square to a line")
    views: int = Field(1, ge=1, description="augmented views embedded of each training image")
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(0.01, gt=0)
