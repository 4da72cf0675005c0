"""Which test sets a run is measured on, and with which switches; every number reported carries them."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field

HqSet = Literal["lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "cfp_ff", "vgg2_fp"]
Fusion = Literal["pre_norm_sum", "none"]


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"each set once, got {', '.join(names)}")
    return names


def _one_digit(fmrs: tuple[float, ...]) -> tuple[float, ...]:
    # metrics are named by them: 0.015 would be called 2e-02
    odd = [fmr for fmr in fmrs if not 0 < fmr <= 1 or float(f"{fmr:.0e}") != fmr]
    if odd or len(set(fmrs)) != len(fmrs):
        raise ValueError(f"rates in (0, 1] with one significant digit, each once, as 1e-2 or 0.05; got {fmrs}")
    return fmrs


_FUSION = "features of image and flip are added before normalising, or only the image's is used"
_MAX_FAILED = "share of a set's images that may fail to process; they count as matching nobody; more stop the stage"


class Hq(BaseModel, extra="forbid", frozen=True):
    """Verification sets in ``.bin`` files, 10 folds."""

    sets: Annotated[tuple[HqSet, ...], AfterValidator(_once)] = Field(min_length=1)
    fusion: Fusion = Field("pre_norm_sum", description=_FUSION)
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Ijb(BaseModel, extra="forbid", frozen=True):
    """IJB 1:1 (AdaFace insightface_ijb_helper)."""

    sets: Annotated[tuple[Literal["IJBB", "IJBC"], ...], AfterValidator(_once)] = Field(min_length=1)
    use_flip: bool = Field(True, description="add the features of the flipped image")
    use_norm: bool = Field(True, description="pool features with their norms instead of unit embeddings")
    use_detector_score: bool = Field(False, description="weight each face by its detector score")
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Lq(BaseModel, extra="forbid", frozen=True):
    """Low-quality identification sets."""

    sets: Annotated[tuple[Literal["tinyface", "scface"], ...], AfterValidator(_once)] = Field(min_length=1)
    use_flip: bool = Field(True, description="add the features of the flipped image")
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Fiqa(BaseModel, extra="forbid", frozen=True):
    """Error-versus-discard curves of the quality score on verification sets."""

    sets: Annotated[tuple[HqSet, ...], AfterValidator(_once)] = Field(min_length=1)
    fmr: Annotated[tuple[float, ...], AfterValidator(_one_digit)] = Field(
        (1e-2, 1e-3), description="false match rates at which the curves are read"
    )
    fusion: Fusion = Field("pre_norm_sum", description=_FUSION)
    pauc_limit: float = Field(0.2, gt=0, le=1, description="share discarded up to which the ISO curve's area is taken")
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Config(BaseModel, extra="forbid", frozen=True):
    """The four suites."""

    dataset: str = Field(description="data/DATASET/eval holds the files")
    hq: Hq
    ijb: Ijb
    lq: Lq
    fiqa: Fiqa


Switches = TypeVar("Switches", Hq, Ijb, Lq, Fiqa)


class Section(BaseModel, Generic[Switches], extra="forbid", frozen=True):
    """The section ``evaluate_SUITE`` of a resolved run: one suite, so that editing another reruns nothing."""

    dataset: str
    switches: Switches


SUITES: dict[str, type[Hq] | type[Ijb] | type[Lq] | type[Fiqa]] = {
    "hq": Hq,
    "ijb": Ijb,
    "lq": Lq,
    "fiqa": Fiqa,
}
SECTIONS: dict[str, type[Section[Hq]] | type[Section[Ijb]] | type[Section[Lq]] | type[Section[Fiqa]]] = {
    "hq": Section[Hq],
    "ijb": Section[Ijb],
    "lq": Section[Lq],
    "fiqa": Section[Fiqa],
}
