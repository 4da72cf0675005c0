"""Test sets and options of a run's evaluation; every reported number carries its options."""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from stages.core.errors import InputError

IJBS = "ijbs"
IjbName = Literal["IJBB", "IJBC"]
Fusion = Literal["pre_norm_sum", "norm_weighted_avg", "average", "concat", "none"]


N = TypeVar("N", str, int)

# metrics are named by sets, with a dot before: hq.NAME; the others are keys of the same file
_NAME = re.compile(r"\w[\w-]*")
_TAKEN = ("avg", "weights_sha256")


def _once(names: tuple[N, ...]) -> tuple[N, ...]:
    if len(set(names)) != len(names):
        raise InputError(f"each name may be listed once, got {', '.join(map(str, names))}")
    return names


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    odd = [name for name in names if not _NAME.fullmatch(name) or name in _TAKEN]
    if odd:
        raise InputError(
            f"a test set is NAME.bin or a folder NAME, of letters, digits, _ and -, other than {', '.join(_TAKEN)}; "
            f"got {', '.join(map(repr, odd))}: rename the file"
        )
    return _once(names)


def _one_digit(fmrs: tuple[float, ...]) -> tuple[float, ...]:
    # metrics are named by them: 0.015 would be called 2e-02
    odd = [fmr for fmr in fmrs if not 0 < fmr <= 1 or float(f"{fmr:.0e}") != fmr]
    if odd or len(set(fmrs)) != len(fmrs):
        raise InputError(f"rates in (0, 1] with one significant digit, each once, as 1e-2 or 0.05; got {fmrs}")
    return fmrs


def _one_fmr(fmr: float) -> float:
    return _one_digit((fmr,))[0]


def _none_is_no_set(section: Any) -> Any:
    return {} if section is None else section


_FUSION = "how features of image and flip are fused (stages/core/metrics/features.py); none: only the image's is used"
_MORE = "names of published sets, or of your own: NAME.bin, or a folder NAME with pairs (docs/datasets.md)"
_SWAPPED = "Adience's and XQLFW's files hold red and blue swapped, as CR-FIQA's scripts write them"
_SETS = "test sets; none: nothing is measured, and columns of tables that need one are empty"
_MAX_FAILED = "share of a set's images that may fail to process; they count as matching nobody; more stop the stage"


class Hq(BaseModel, extra="forbid", frozen=True):
    """Verification sets in ``.bin`` files, or as pictures and pairs; 10 folds."""

    sets: Annotated[tuple[str, ...], AfterValidator(_names)] = Field((), description=f"{_SETS}; {_MORE}")
    fusion: Fusion = Field("pre_norm_sum", description=_FUSION)
    threshold: Literal["grid", "exact"] = Field(
        "grid", description="of a fold: the best of 0, 0.01, ... 4 (published), or of all; both are in the details"
    )
    stored_swapped: bool = Field(False, description=_SWAPPED)
    group_fmr: Annotated[float, AfterValidator(_one_fmr)] = Field(
        0.01, description="FMR over all pairs that sets the threshold at which groups of a pairs.csv are read"
    )
    quality_levels: bool = Field(
        False, description="groups of synthetic sets: levels of the known quality of each pair's worse image"
    )
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Ijb(BaseModel, extra="forbid", frozen=True):
    """IJB-B and IJB-C, 1:1 and 1:N (AdaFace insightface_ijb_helper)."""

    sets: Annotated[tuple[IjbName, ...], AfterValidator(_once)] = Field((), description=_SETS)
    protocols: Annotated[tuple[Literal["1:1", "1:N"], ...], AfterValidator(_once)] = Field(("1:1",), min_length=1)
    fusion: Fusion = Field("pre_norm_sum", description=_FUSION)
    use_norm: bool = Field(True, description="pool features with their norms instead of unit embeddings")
    use_detector_score: bool = Field(False, description="weight each face by its detector score")
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Lq(BaseModel, extra="forbid", frozen=True):
    """Low-quality sets: identification on TinyFace, SCface and IJB-S, and LFW shrunk on one side (CRLFW)."""

    sets: Annotated[tuple[Literal["tinyface", "scface", "ijbs", "crlfw"], ...], AfterValidator(_once)] = Field(
        (), description=_SETS
    )
    fusion: Fusion = Field("pre_norm_sum", description=_FUSION)
    ijbs_fusion: Fusion = Field("none", description="the same for IJB-S, which is published without flips")
    ijbs_use_norm: bool = Field(True, description="pool IJB-S's faces with their norms instead of unit embeddings")
    crlfw_sides: Annotated[tuple[int, ...], AfterValidator(_once)] = Field(
        (8, 12, 16, 20), min_length=1, description="pixels that the first image of each pair is shrunk to"
    )
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)


class Fiqa(BaseModel, extra="forbid", frozen=True):
    """Error-versus-discard curves of the quality score on verification sets, pair lists and IJB templates.

    CR-FIQA's own: ``fusion: concat``, ``fmr: [1e-2, 1e-3, 1e-4]``.
    """

    sets: Annotated[tuple[str, ...], AfterValidator(_names)] = Field(
        (), description=f"{_SETS}; {_MORE}, IJBB, IJBC; with `pool` also ijbs"
    )
    fmr: Annotated[tuple[float, ...], AfterValidator(_one_digit)] = Field(
        (1e-2, 1e-3), description="false match rates at which the curves are read"
    )
    fusion: Fusion = Field("pre_norm_sum", description=_FUSION)
    stored_swapped: bool = Field(False, description=_SWAPPED)
    methods: Annotated[tuple[Literal["ser_fiq", "sharpness", "brisque"], ...], AfterValidator(_once)] = Field(
        (), description="measured beside the run's own method and the feature norm, with their default options"
    )
    recognition: Annotated[tuple[str, ...], AfterValidator(_once)] = Field(
        (), description="runs or imported models whose embeddings judge this run's scores as well (cross-model)"
    )
    pool: bool = Field(
        False, description="also compare templates of IJB-B, IJB-C and IJB-S that are pooled with each method's scores"
    )
    pauc_limit: float = Field(0.2, gt=0, le=1, description="share discarded up to which the ISO curve's area is taken")
    max_failed: float = Field(0.01, ge=0, le=1, description=_MAX_FAILED)

    @model_validator(mode="after")
    def _check_pool(self) -> Self:
        if IJBS in self.sets and not self.pool:
            raise InputError(f"{IJBS} has searches and no pairs: suite fiqa only pools its templates; set pool: true")
        return self


_NoSet = BeforeValidator(_none_is_no_set)


class Config(BaseModel, extra="forbid", frozen=True):
    """The four suites; one that is left out, or null, has no set."""

    dataset: str = Field(description="data/DATASET/eval holds the files")
    hq: Annotated[Hq, _NoSet] = Hq.model_validate({})
    ijb: Annotated[Ijb, _NoSet] = Ijb.model_validate({})
    lq: Annotated[Lq, _NoSet] = Lq.model_validate({})
    fiqa: Annotated[Fiqa, _NoSet] = Fiqa.model_validate({})


Switches = TypeVar("Switches", Hq, Ijb, Lq, Fiqa)


class Section(BaseModel, Generic[Switches], extra="forbid", frozen=True):
    """The section ``evaluate_SUITE`` of a resolved run: one per suite, so that editing one reruns only that suite."""

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


def uses_flip(switches: Hq | Ijb | Lq | Fiqa) -> bool:
    """Return whether a suite needs mirrored images: embedding them doubles the time.

    >>> uses_flip(Hq(sets=("lfw",), fusion="none")), uses_flip(Lq(sets=("ijbs",), fusion="none"))
    (False, False)
    """
    if isinstance(switches, Lq) and "ijbs" in switches.sets and switches.ijbs_fusion != "none":
        return True
    return bool(switches.sets) and switches.fusion != "none"
