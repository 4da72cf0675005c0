"""Which test sets a run is measured on, and with which switches; every number reported carries them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

HqSet = Literal["lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp"]


class Hq(BaseModel, extra="forbid", frozen=True):
    """Verification sets in ``.bin`` files, 10 folds."""

    sets: tuple[HqSet, ...]
    fusion: Literal["pre_norm_sum", "none"] = Field(
        "pre_norm_sum", description="features of image and flip are added before normalising, or only the image's is used"
    )


class Ijb(BaseModel, extra="forbid", frozen=True):
    """IJB 1:1 (AdaFace insightface_ijb_helper)."""

    sets: tuple[Literal["IJBB", "IJBC"], ...]
    use_flip: bool = Field(True, description="add the features of the flipped image")
    use_norm: bool = Field(True, description="pool features with their norms instead of unit embeddings")
    use_detector_score: bool = Field(False, description="weight each face by its detector score")


class Lq(BaseModel, extra="forbid", frozen=True):
    """Low-quality identification sets."""

    sets: tuple[Literal["tinyface", "scface"], ...]
    use_flip: bool = True


class Fiqa(BaseModel, extra="forbid", frozen=True):
    """Error-versus-discard curves of the quality score on verification sets."""

    sets: tuple[HqSet, ...]
    fmr: tuple[float, ...] = Field((1e-2, 1e-3), description="false match rates at which the curves are read")


class Config(BaseModel, extra="forbid", frozen=True):
    """The four suites."""

    dataset: str = Field(description="data/DATASET/eval holds the files")
    hq: Hq
    ijb: Ijb
    lq: Lq
    fiqa: Fiqa
