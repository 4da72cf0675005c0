"""What `bench_protocols.py` times: data of the sets' true sizes, and two ways to the same numbers of each protocol."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import published
from published_protocols import Checkouts

from stages.core.metrics import pooling, rates
from stages.core.metrics.discard_curves import ERC_DISCARD_K, erc_curve
from stages.protocols import identification, ijb_1to1, ijb_1ton, verification

FARS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
FMRS = (1e-2, 1e-3, 1e-4)
DIM = 512

Way = Callable[[], Any]


@dataclass
class Case:
    """Two ways to the same numbers; ``steps`` holds CPU seconds of parts of either, by name."""

    name: str
    theirs: Way
    ours: Way
    same: Callable[[Any, Any], bool]
    rounds: int = 2
    scale_theirs: float = 1.0  # where only a part of the published work is run
    note: str = ""
    steps: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def step(self, side: str, name: str, way: Way) -> Any:
        """Run one part of a side and keep its CPU seconds."""
        start = time.process_time()
        result = way()
        self.steps.setdefault(name, {}).setdefault(side, []).append(time.process_time() - start)
        return result


def unit(feature_ND: np.ndarray) -> np.ndarray:
    return feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)


@dataclass(frozen=True)
class Ijb:
    """IJB-C's shape: gallery templates by probe templates, of the pairs some, sorted by the first or not."""

    feature_ND: np.ndarray
    template_N: np.ndarray
    media_N: np.ndarray
    first_P: np.ndarray
    second_P: np.ndarray
    label_P: np.ndarray


def make_ijb(rng: np.random.Generator, scale: float, *, in_order: bool) -> Ijb:
    side = scale**0.5
    num_gallery, num_probe, num_images = int(3531 * side), int(19_593 * side), int(469_375 * scale)
    subject_T = np.r_[np.arange(num_gallery), rng.integers(0, num_gallery, num_probe)]
    template_N = np.sort(np.r_[np.arange(subject_T.size), rng.integers(0, subject_T.size, num_images - subject_T.size)])
    media_N = template_N * 40 + rng.integers(0, 20, num_images)
    center_SD = rng.standard_normal((num_gallery, DIM), dtype=np.float32)
    feature_ND = rng.standard_normal((num_images, DIM), dtype=np.float32)
    feature_ND *= 14  # hard enough that no rate is 0 or 1
    feature_ND += center_SD[subject_T[template_N]]
    genuine = np.ravel_multi_index((subject_T[num_gallery:], np.arange(num_probe)), (num_gallery, num_probe))
    share = (15_658_489 * scale - num_probe) / (num_gallery * num_probe)
    chosen = rng.random(num_gallery * num_probe, dtype=np.float32) < share
    chosen[genuine] = True
    cells = np.flatnonzero(chosen)
    cells = cells if in_order else rng.permutation(cells)
    first_P, second_P = cells // num_probe, num_gallery + cells % num_probe
    label_P = (subject_T[first_P] == subject_T[second_P]).astype(int)
    return Ijb(feature_ND, template_N, media_N, first_P, second_P, label_P)


def ijb_1to1_case(found: Checkouts, rng: np.random.Generator, scale: float, *, in_order: bool = True) -> Case:
    data, module = make_ijb(rng, scale, in_order=in_order), found.ijb()
    is_same_P = data.label_P == 1

    def theirs() -> list[str]:
        with published.quiet() as printed:
            images = (data.feature_ND, data.template_N, data.media_N)
            pooled, ids = case.step("theirs", "templates", lambda: module.image2template_feature(*images))
            score = case.step("theirs", "pairs", lambda: module.verification(pooled, ids, data.first_P, data.second_P))
            np.save("/tmp/facet_bench_score.npy", score)
            case.step(
                "theirs", "rates",
                lambda: module.write_result(["/tmp/facet_bench_score.npy"], "/tmp", "IJBC", data.label_P),
            )  # fmt: skip
        return re.findall(r"TAR (.*)", printed.getvalue())[0].split()

    def ours() -> list[str]:
        templates = case.step(
            "ours", "templates",
            lambda: ijb_1to1.Templates(*pooling.pool_templates(data.feature_ND, data.template_N, data.media_N)),
        )  # fmt: skip
        compared = case.step("ours", "pairs", lambda: ijb_1to1.compare(templates, data.first_P, data.second_P))
        points = case.step("ours", "rates", lambda: rates.nearest_points(*compared.sides(is_same_P), FARS))
        return [f"{100 * point.tar:.2f}" for point in points]

    order = "sorted" if in_order else "unsorted"
    case = Case(
        f"IJB-C 1:1, {len(data.feature_ND):,} images, {data.first_P.size:,} pairs, {order}",
        theirs, ours, lambda left, right: left == right,
    )  # fmt: skip
    return case


def unsorted_case(found: Checkouts, rng: np.random.Generator, scale: float) -> Case:
    return ijb_1to1_case(found, rng, scale, in_order=False)


def search_case(found: Checkouts, rng: np.random.Generator, scale: float) -> Case:
    side, module = scale**0.5, found.search()
    num_gallery, num_probe = int(3531 * side), int(19_593 * side)
    gallery_GD = unit(rng.normal(size=(num_gallery, DIM)))
    subject_P = rng.integers(0, num_gallery, num_probe)
    probe_PD = unit(gallery_GD[subject_P] + rng.normal(size=(num_probe, DIM)) * 0.25)

    def theirs() -> list[float]:
        with published.quiet() as printed:
            mask = module.gen_mask(subject_P, np.arange(num_gallery))
            top = module.evaluation(probe_PD, gallery_GD, mask)
        recalls = re.findall(r"pr = (\S+)", printed.getvalue())
        return [top["top1"], top["top5"], top["top10"], *map(float, recalls)]

    def ours() -> list[float]:
        identified = ijb_1ton.identify(probe_PD, subject_P, gallery_GD, np.arange(num_gallery))
        return [*(identified.rate(rank) for rank in (1, 5, 10)), *identified.tpir.values()]

    return Case(
        f"IJB-C 1:N, {num_probe:,} x {num_gallery:,}", theirs, ours,
        lambda left, right: bool(np.allclose(left, right, rtol=0, atol=6e-11)),
    )  # fmt: skip


def folds_case(found: Checkouts, rng: np.random.Generator, scale: float, num_pairs: int = 6000) -> Case:
    module = found.folds()
    left = rng.standard_normal((num_pairs, DIM), dtype=np.float32)
    is_same_P = rng.random(num_pairs) < 0.5
    other = rng.standard_normal((num_pairs, DIM), dtype=np.float32)
    right = np.where(is_same_P[:, None], left + other, other)
    embedding_ND = unit(np.stack([left, right], axis=1).reshape(-1, DIM))

    def theirs() -> list[np.ndarray]:
        tpr, fpr, accuracy, thresholds = module.evaluate(embedding_ND, is_same_P)
        return [tpr, fpr, accuracy, thresholds]

    def ours() -> list[np.ndarray]:
        folds = verification.evaluate(embedding_ND, is_same_P)
        return [folds.tpr_K, folds.fpr_K, folds.accuracy_F, folds.threshold_F]

    return Case(
        f"HQ set, 10 folds, {num_pairs:,} pairs", theirs, ours,
        lambda left, right: all(map(np.array_equal, left, right)), rounds=7,
    )  # fmt: skip


def folds_7000_case(found: Checkouts, rng: np.random.Generator, scale: float) -> Case:
    return folds_case(found, rng, scale, 7000)


def tinyface_case(found: Checkouts, rng: np.random.Generator, scale: float) -> Case:
    side, module = scale**0.5, found.tinyface()
    num_probe, num_gallery, num_mates = int(3728 * side), int(157_871 * side), int(4443 * side)
    subject_P = rng.integers(0, max(1, num_mates // 2), num_probe)
    subject_G = np.where(np.arange(num_gallery) < num_mates, np.arange(num_gallery) % max(1, num_mates // 2), -100)
    gallery_GD = unit(rng.standard_normal((num_gallery, DIM), dtype=np.float32))
    noise = rng.standard_normal((num_probe, DIM), dtype=np.float32)
    probe_PD = unit(gallery_GD[subject_P] + 0.2 * noise).astype(np.float32)

    def theirs() -> list[float]:
        with published.quiet():
            label_mat = subject_P[:, None] == subject_G[None, :]
            # max() of no rows is not defined: the published code cannot do without a probe without a mate
            rows = np.r_[label_mat, np.zeros((1, num_gallery), bool)]
            score_mat = module.inner_product(np.r_[probe_PD, probe_PD[:1]], gallery_GD)
            return [float(rate) for rate in module.DIR_FAR(score_mat, rows, [1, 5, 20])[0]]

    def ours() -> list[float]:
        return identification.closed_set(probe_PD, subject_P, gallery_GD, subject_G).rates((1, 5, 20))

    return Case(
        f"TinyFace, {num_probe:,} x {num_gallery:,}", theirs, ours,
        lambda left, right: bool(np.allclose(left, right, rtol=0, atol=1e-6)), rounds=1 if scale == 1 else 2,
    )  # fmt: skip


def discard_case(found: Checkouts, rng: np.random.Generator, scale: float, num_pairs: int = 200_000) -> Case:
    num_pairs, module = int(num_pairs * min(1, 5 * scale)), found.thresholds()
    is_same_P = rng.random(num_pairs) < 0.5
    score_P = np.clip(rng.normal(0, 0.12, num_pairs) + 0.45 * is_same_P, -1, 1)
    quality_P = rng.random(num_pairs)

    def theirs() -> list[list[float]]:
        return _their_curve(module, score_P, is_same_P, quality_P, ERC_DISCARD_K)

    def ours() -> list[list[float]]:
        curves = erc_curve(score_P, is_same_P, quality_P, FMRS)
        return [curve.fnmr_K.tolist() for curve in curves.values()]

    return Case(f"CR-FIQA curve, {num_pairs:,} pairs, scores given", theirs, ours, _close)


def _close(left: Any, right: Any) -> bool:
    return bool(np.allclose(left, right, rtol=0, atol=1e-12))


def discard_ijbc_case(found: Checkouts, rng: np.random.Generator, scale: float) -> Case:
    num_pairs, module = int(15_658_489 * scale), found.thresholds()
    is_same_P = np.zeros(num_pairs, bool)
    is_same_P[rng.choice(num_pairs, int(19_557 * scale) + 1, replace=False)] = True
    score_P = np.clip(rng.normal(0, 0.12, num_pairs) + 0.45 * is_same_P, -1, 1)
    # as of templates: few distinct qualities over many pairs, here told apart by noise so that no two are equal
    quality_P = rng.random(num_pairs)
    left = float(np.sum(1 - ERC_DISCARD_K))

    def theirs() -> list[list[float]]:
        return _their_curve(module, score_P, is_same_P, quality_P, ERC_DISCARD_K[:1])

    def ours() -> list[list[float]]:
        curves = erc_curve(score_P, is_same_P, quality_P, FMRS)
        return [curve.fnmr_K.tolist() for curve in curves.values()]

    return Case(
        f"CR-FIQA curve, {num_pairs:,} pairs, scores given", theirs, ours,
        lambda theirs_1, ours_K: _close(theirs_1, [fnmr_K[:1] for fnmr_K in ours_K]), rounds=1, scale_theirs=left,
        note=f"published: the first of 20 steps run, times {left:.1f}, the pairs of all steps over those of the first",
    )  # fmt: skip


def _their_curve(module: Any, score_P: Any, is_same_P: Any, quality_P: Any, shares: Any) -> list[list[float]]:
    """CR-FIQA's ERC/erc.py (getFNMRFixedTH) after the distances: its thresholds, its counting."""
    order = np.argsort(quality_P)
    distance_P = np.arccos(score_P) / np.pi
    fnmr: list[list[float]] = [[], [], []]
    for share in shares:
        kept = order[int(share * score_P.size) :]
        pos, neg = np.sort(distance_P[kept][is_same_P[kept]]), np.sort(distance_P[kept][~is_same_P[kept]])
        for column, threshold in zip(fnmr, module.get_eer_threshold(pos, neg, ds_scores=True), strict=True):
            column.append(1 - len([g for g in pos if g < threshold]) / len(pos))
    return fnmr


CASES: tuple[Callable[[Checkouts, np.random.Generator, float], Case], ...] = (
    ijb_1to1_case, unsorted_case, search_case, folds_case, folds_7000_case, tinyface_case, discard_case,
    discard_ijbc_case,
)  # fmt: skip
