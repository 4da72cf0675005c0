"""Configuration of a synthetic data set."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from stages.core.errors import InputError


class LowVariance(BaseModel, extra="forbid", frozen=True):
    """Training identities shown in near-duplicates: they are classified well whatever their quality.

    What IG-FIQA (IEEE Access 2025) says of web collections: of a class whose images are nearly one image, how
    classifiable they are tells nothing of their quality, so that CR-FIQA learns from labels that mislead.
    """

    share: float = Field(gt=0, lt=1, description="of the training identities; at least one, never all")
    quality: Literal["low", "mixed"] = Field(
        description="known quality of their images; low: 0.05 to 0.35, an identity's within 0.03; mixed: 0.05 to 1"
    )
    images_per_identity: int | None = Field(
        None, ge=2, description="near-duplicates of each; null: as many as the others have images"
    )
    jitter: float = Field(
        1.0, ge=0, description="how far they are from one another; 1: 1 degree of each angle, 1 % of light (deviations)"
    )


class TrainConfig(BaseModel, extra="forbid", frozen=True):
    """The training set: like a web collection, mostly high quality with a tail of low."""

    identities: int = Field(ge=2, description="training identities, disjoint from the test identities")
    images_per_identity: int = Field(ge=1, description="images of each")
    low_quality_share: float = Field(ge=0, le=1, description="share of images drawn from the low-quality tail")
    low_variance: LowVariance | None = Field(None, description="some identities in near-duplicates; null: none")


class EvalConfig(BaseModel, extra="forbid", frozen=True):
    """The test sets; every set has its own identities."""

    identities: int = Field(
        ge=4,
        le=999,
        description="test identities of each set; folds share none from 20 on, below that they do",
    )
    pairs: int = Field(ge=20, multiple_of=20, description="pairs of each HQ set: 10 folds, half genuine")
    ijb_templates: int = Field(ge=4, description="templates of IJB-B: one in the gallery, the others probes")
    tinyface_distractors: int = Field(ge=0, description="gallery images of nobody's")
    ijbc_templates: int = Field(default=0, ge=0, description="templates of IJB-C, 4 or more; 0: no such set")
    ijbs_subjects: int = Field(default=0, ge=0, description="people of IJB-S, 5 or more; 0: no such set")
    adience_images: int = Field(default=0, ge=0, description="images of Adience, 8 of each person; 0: no such set")
    xqlfw_pairs: int = Field(default=0, ge=0, multiple_of=20, description="pairs of XQLFW; 0: no such set")
    more_pairs: int = Field(default=0, ge=0, multiple_of=20, description="of CFP-FF and VGG2-FP; 0: no such sets")

    @model_validator(mode="after")
    def _large_enough(self) -> Self:
        for field, least in (("ijbc_templates", 4), ("ijbs_subjects", 5), ("adience_images", 2)):
            if 0 < getattr(self, field) < least:
                raise InputError(f"{field} should be 0 or at least {least}, got {getattr(self, field)}")
        return self


class Config(BaseModel, extra="forbid", frozen=True):
    """One synthetic data set."""

    # above 2**32 a seed would take two words of numpy's seed sequence, and streams could meet
    seed: int = Field(ge=0, lt=2**32, description="same seed, same bytes")
    train: TrainConfig
    eval: EvalConfig
