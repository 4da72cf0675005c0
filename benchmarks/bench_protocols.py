"""What the evaluation costs against the straightforward way with numpy and scikit-learn, same numbers out.

Both ways run by turns in one process on the same synthetic data; the figure is CPU time of one thread, because wall
time on a shared machine is noise; the ratio is the median over rounds. The straightforward way is written here, by
the definitions, as one would write it without thinking of speed; it is not the published code. ``--scale 1`` is
IJB-C's true size (469,375 images, 23,124 templates, 15.66 million pairs) and TinyFace's (3,728 probes, 157,871
gallery images, whose score matrix and its order the straightforward way needs whole: 9 GB).

    OMP_NUM_THREADS=1 python benchmarks/bench_protocols.py --scale 0.1 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve
from sklearn.model_selection import KFold

from stages.core import discard_curves, pooling, rates, scores
from stages.protocols import identification, verification

FARS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
DIM = 512
ROUNDING = 1e-6  # pooling adds float32 numbers in another order

Way = Callable[[], Any]


def unit(feature_ND: np.ndarray) -> np.ndarray:
    return feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)


def folds(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
    num_pairs = 6000
    left = rng.normal(size=(num_pairs, DIM)).astype(np.float32)
    is_same_P = rng.random(num_pairs) < 0.5
    right = np.where(is_same_P[:, None], left + rng.normal(size=left.shape), rng.normal(size=left.shape))
    embedding_ND = unit(np.stack([left, right], axis=1).reshape(-1, DIM)).astype(np.float32)

    def plain() -> list[float]:
        distance_P = np.sum(np.square(embedding_ND[0::2] - embedding_ND[1::2]), 1)
        accuracies, rates_of_folds = [], []
        for train, test in KFold(10, shuffle=False).split(distance_P):
            right_K = []
            for threshold in verification.THRESHOLD_K:
                right_K.append(np.mean((distance_P[train] < threshold) == is_same_P[train]))
                said = distance_P[test] < threshold
                rates_of_folds.append((np.mean(said[is_same_P[test]]), np.mean(said[~is_same_P[test]])))
            best = verification.THRESHOLD_K[int(np.argmax(right_K))]
            accuracies.append(float(np.mean((distance_P[test] < best) == is_same_P[test])))
        tpr_K, fpr_K = np.mean(np.reshape(rates_of_folds, (10, -1, 2)), axis=0).T
        return [*accuracies, *tpr_K.tolist(), *fpr_K.tolist()]

    def fast() -> list[float]:
        found = verification.evaluate(embedding_ND, is_same_P)
        return [*found.accuracy_F.tolist(), *found.tpr_K.tolist(), *found.fpr_K.tolist()]

    return f"10 folds, {num_pairs} pairs", plain, fast


def templates(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
    num_images, num_templates = int(469_375 * scale), int(23_124 * scale)
    feature_ND = rng.normal(size=(num_images, DIM)).astype(np.float32)
    template_N = rng.integers(0, num_templates, num_images)
    media_N = template_N * 10 + rng.integers(0, 9, num_images)

    def plain() -> np.ndarray:
        pooled = []
        for template in np.unique(template_N):
            (index,) = np.nonzero(template_N == template)
            media = media_N[index]
            pooled.append(sum(feature_ND[index[media == medium]].mean(axis=0) for medium in np.unique(media)))
        return unit(np.array(pooled))

    return (
        f"templates, {num_images} images",
        plain,
        lambda: pooling.pool_templates(feature_ND, template_N, media_N)[1],
    )


def make_pairs(rng: np.random.Generator, scale: float, *, in_order: bool) -> tuple[str, Way, Way]:
    side = scale**0.5
    num_gallery, num_probe = int(3531 * side), int(19_593 * side)
    embedding_TD = unit(rng.normal(size=(num_gallery + num_probe, DIM)))
    num_pairs = int(15_658_489 * scale)
    cells = rng.choice(num_gallery * num_probe, num_pairs, replace=False)
    cells = np.sort(cells) if in_order else cells
    first_P, second_P = cells // num_probe, num_gallery + cells % num_probe

    def plain() -> np.ndarray:
        parts = [slice(begin, begin + 100_000) for begin in range(0, num_pairs, 100_000)]
        score = [np.sum(embedding_TD[first_P[part]] * embedding_TD[second_P[part]], axis=-1) for part in parts]
        return np.concatenate(score)

    return (
        f"scores of {num_pairs} pairs{'' if in_order else ', in no order'}",
        plain,
        lambda: scores.pair_scores(embedding_TD, first_P, second_P),
    )


def pairs_in_order(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
    return make_pairs(rng, scale, in_order=True)


def pairs_in_no_order(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
    return make_pairs(rng, scale, in_order=False)


def tar_at_far(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
    num_genuine, num_impostor = int(19_557 * scale), int(15_638_932 * scale)
    genuine_G, impostor_I = rng.normal(0.6, 0.15, num_genuine), rng.normal(0, 0.1, num_impostor)

    def plain() -> list[float]:
        label = np.r_[np.ones(num_genuine), np.zeros(num_impostor)]
        fpr, tpr, _ = roc_curve(label, np.r_[genuine_G, impostor_I])
        fpr, tpr = np.flipud(fpr), np.flipud(tpr)
        return [float(tpr[np.argmin(np.abs(fpr - far))]) for far in FARS]

    def fast() -> list[float]:
        return [point.tar for point in rates.nearest_points(genuine_G, impostor_I, FARS)]

    return f"TAR at 6 FARs, {num_impostor} impostors", plain, fast


def closed_set(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
    side = scale**0.5
    num_probes, num_gallery = int(3728 * side), int(157_871 * side)
    probe_PD = unit(rng.normal(size=(num_probes, DIM))).astype(np.float32)
    gallery_GD = unit(rng.normal(size=(num_gallery, DIM))).astype(np.float32)
    probe_label_P = rng.integers(0, 2500, num_probes)
    gallery_label_G = np.where(np.arange(num_gallery) < 4443, np.arange(num_gallery) % 2500, identification.NOBODY)

    def plain() -> list[float]:
        score_PG = probe_PD @ gallery_GD.T
        mate_PG = probe_label_P[:, None] == gallery_label_G
        order_PG = np.argsort(-score_PG, axis=1)
        hit_PG = np.take_along_axis(mate_PG, order_PG, axis=1)[mate_PG.any(axis=1)]
        return [float(hit_PG[:, :rank].any(axis=1).mean()) for rank in (1, 5, 20)]

    return (
        f"closed set, {num_probes} x {num_gallery}",
        plain,
        lambda: identification.closed_set(probe_PD, probe_label_P, gallery_GD, gallery_label_G).rates((1, 5, 20)),
    )


def discard(num_pairs: int) -> Callable[[np.random.Generator, float], tuple[str, Way, Way]]:
    def case(rng: np.random.Generator, scale: float) -> tuple[str, Way, Way]:
        is_same_P = rng.random(num_pairs) < 0.5
        score_P = rng.normal(size=num_pairs) + 2 * is_same_P
        quality_P = rng.random(num_pairs)
        fmrs = (1e-2, 1e-3, 1e-4)

        def plain() -> list[list[float]]:
            order = np.argsort(quality_P)
            fnmr: dict[float, list[float]] = {fmr: [] for fmr in fmrs}
            for share in discard_curves.ERC_DISCARD_K:
                kept = order[int(share * num_pairs) :]
                genuine, impostor = score_P[kept][is_same_P[kept]], np.sort(score_P[kept][~is_same_P[kept]])
                thresholds = np.unique(np.r_[genuine, impostor])
                fmr_K = (impostor.size - np.searchsorted(impostor, thresholds)) / impostor.size
                for fmr in fmrs:
                    threshold = thresholds[np.argmin(np.abs(fmr_K - fmr))]
                    fnmr[fmr].append(1 - np.count_nonzero(genuine > threshold) / genuine.size)
            return list(fnmr.values())

        def fast() -> list[list[float]]:
            curves = discard_curves.erc_curve(score_P, is_same_P, quality_P, fmrs)
            return [curve.fnmr_K.tolist() for curve in curves.values()]

        return f"CR-FIQA curve, {num_pairs} pairs", plain, fast

    case.__name__ = "discard"
    return case


CASES = (
    folds,
    templates,
    pairs_in_order,
    pairs_in_no_order,
    tar_at_far,
    closed_set,
    discard(6000),
    discard(200_000),
)


def cpu_s(way: Way) -> tuple[float, Any]:
    start = time.process_time()
    result = way()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1, help="share of the true sizes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose function has this in its name")
    arguments = parser.parse_args()
    print(f"| what (scale {arguments.scale:g}) | straightforward, CPU s | here, CPU s | ratio |\n|---|---|---|---|")
    for case in CASES:
        if arguments.only not in case.__name__:
            continue
        name, plain, fast = case(np.random.default_rng(0), arguments.scale)
        plain_s, fast_s = [], []
        for _ in range(arguments.rounds):
            for way, spent_s in ((plain, plain_s), (fast, fast_s)):
                seconds, result = cpu_s(way)
                spent_s.append(seconds)
                if way is plain:
                    expected = result
                elif not np.allclose(result, expected, rtol=0, atol=ROUNDING):
                    raise SystemExit(f"{name}: results differ by up to {np.abs(np.subtract(result, expected)).max():g}")
        ratio = statistics.median(a / b for a, b in zip(plain_s, fast_s, strict=True))
        print(f"| {name} | {min(plain_s):.4g} | {min(fast_s):.4g} | {ratio:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
