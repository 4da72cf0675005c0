"""Suite `fiqa`: error versus discard for the run's quality score, its feature norm, and untrained methods.

On verification sets, on the pair lists of Adience and XQLFW, and on the template pairs of IJB-B and IJB-C; templates
of these and of IJB-S pooled with the scores as weights.

Where the quality an image was rendered with is known (``truth.parquet``), the scores' rank correlation with it
is given.

Shapes: N images, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from stages.config.evaluation import IJBS, Fiqa
from stages.core.errors import InputError
from stages.core.metrics.discard_curves import ERC_DISCARD_K
from stages.core.metrics.features import Embed
from stages.core.metrics.processing import Processed
from stages.core.metrics.quality import ReadsNames
from stages.core.metrics.suite_result import Measured, Score, Table, describe_failures, finite
from stages.datasets import ijbs, truth
from stages.protocols import discard
from stages.suites import _pairs, _pooled, _quality_pages, _quality_pairs

FEATURE_NORM = "feature_norm"
TRUTH_FILE = "truth.parquet"


def measure(
    folder: Path,
    switches: Fiqa,
    embed: Embed,
    scores: Mapping[str, Score],
    recognition: Mapping[str, Embed] | None = None,
) -> Measured:
    """Evaluate each set with each quality score; ``feature_norm`` is always among them.

    Metrics by set and method: ``SET_METHOD_edc_auc_fmrR`` (CR-FIQA's area over discard 0 to 0.95; lower is
    better), ``SET_METHOD_iso_pauc_fmrR`` (ISO, up to ``pauc_limit``; lower is better),
    ``SET_spearman_METHOD``. With another network's embeddings in the place of the run's own (cross-model):
    ``SET_METHOD_edc_auc_fmrR_by_NETWORK``, ``SET_METHOD_iso_pauc_fmrR_by_NETWORK``. Templates pooled with the
    scores: ``_pooled.py``.

    Args:
        folder: holds ``NAME.bin``, the folder ``adience`` or ``xqlfw``, or ``ijb/IJBC`` for each set,
            and ``truth.parquet`` for synthetic data.
        switches: sets, false match rates, fusion.
        embed: the backbone.
        scores: quality methods by name; a feature norm among them replaces the plain one.
        recognition: other networks by name, whose embeddings judge the scores as well.

    Raises:
        FileNotFoundError: a set is missing.
        ValueError: a file cannot be used; more images than ``max_failed`` fail; or there is no score of a method,
            or no network, that the switches name.
    """
    others = recognition or {}
    if switches.sets:
        _check_given(switches, scores, others)
    measured = Measured(
        details={"protocol": {"discard": discard.VERSION}, "sets": {}},
        curves={"edc": Table(("set", "method", "fmr", "convention", "discard", "fnmr"))},
    )
    if others:
        measured.curves["edc_by"] = Table(("recognition", *measured.curves["edc"].header))
    kept = _quality_pages.Kept()
    methods = dict(scores)
    methods.setdefault(FEATURE_NORM, lambda features: features.feature_norm_N)
    for name in switches.sets:
        if name == IJBS:
            measured.details["pooled"] = {IJBS: _measure_ijbs(measured, folder, switches, embed, methods, kept)}
            continue
        compared = _quality_pairs.compare(folder, name, switches, embed)
        known_N, identity_N = _truth(folder / TRUTH_FILE, name, compared)
        quality, matched = _qualities(name, methods, compared.processed, compared.names)
        curves: dict[str, Mapping[float, discard.Curves]] = {}
        details: dict[str, Any] = {
            "pairs": int(compared.is_same_P.size),
            "genuine": int(compared.is_same_P.sum()),
            **describe_failures(compared.processed),
            "methods": {},
        }
        for method, quality_N in quality.items():
            tree, curves[method] = _measure_method(measured, (name, method), switches, compared, quality_N)
            tree["spearman"] = _correlate(measured, f"{name}_spearman_{method}", quality_N, known_N)
            tree |= matched.get(method, {})
            details["methods"][method] = tree
        for other, by in others.items():
            judged = _quality_pairs.compare(folder, name, switches, by)
            tree = _measure_by(measured, (name, other), switches, judged, quality)
            details.setdefault("recognition", {})[other] = tree
        details["bands_resampled_over"] = kept.add(name, compared, known_N, identity_N, quality, curves)
        if switches.pool and name in _quality_pairs.TEMPLATES:
            details["pooled_by"] = _pooled.measure(measured, folder, name, switches, compared.processed, quality)
        measured.details["sets"][name] = details
    measured.curves |= kept.curves
    measured.tables = kept.tables()
    measured.documents["scales"] = kept.scales
    return measured


def _qualities(
    name: str, methods: Mapping[str, Score], processed: Processed, listed: Sequence[str] | None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, dict[str, Any]]]:
    """Return each method's score per image, and of scores in a file how its names fit the set's."""
    found = dict[str, dict[str, Any]]()
    names = listed or tuple(map(str, range(processed.processed_N.size)))
    quality = dict[str, NDArray[np.float64]]()
    for method, score in methods.items():
        if isinstance(score, ReadsNames):
            matched = score.of_images(name, names)
            found[method] = {"names": matched.describe()}
            quality[method] = np.where(processed.processed_N, matched.score_N, -np.inf)
        else:
            quality[method] = _quality(method, score, processed)
    return quality, found


def _quality(method: str, score: Score, processed: Processed) -> NDArray[np.float64]:
    """Return a score per image; -inf for those that could not be processed, so that they are discarded first."""
    quality_N = np.asarray(score(processed.features), dtype=np.float64)
    if quality_N.shape != processed.processed_N.shape or not np.isfinite(quality_N[processed.processed_N]).all():
        raise InputError(
            f"quality method {method} should give {processed.processed_N.size} finite scores, got "
            f"{quality_N.size}, or some that are not finite"
        )
    return np.where(processed.processed_N, quality_N, -np.inf)


def _measure_ijbs(
    measured: Measured,
    folder: Path,
    switches: Fiqa,
    embed: Embed,
    methods: Mapping[str, Score],
    kept: _quality_pages.Kept,
) -> dict[str, Any]:
    """Search IJB-S with templates pooled by each method; without pairs it has no curve."""
    chosen = ijbs.load(folder / IJBS)
    processed = _pairs.embed_all(
        IJBS, chosen.images(), len(chosen.names), embed, switches.max_failed, f"fiqa {IJBS}"
    )
    quality, matched = _qualities(IJBS, methods, processed, chosen.names)
    known_N = truth.load_named(folder / TRUTH_FILE, IJBS, chosen.names) if (folder / TRUTH_FILE).is_file() else None
    kept.add_scales(IJBS, np.unique([name.split("/")[0] for name in chosen.names], return_inverse=True)[1], quality)
    return {
        **describe_failures(processed),
        "methods": {
            method: {"spearman": _correlate(measured, f"{IJBS}_spearman_{method}", quality_N, known_N)}
            | matched.get(method, {})
            for method, quality_N in quality.items()
        },
        "pooled_by": _pooled.search(measured, chosen, switches, processed, quality),
    }


def _measure_method(
    measured: Measured,
    key: tuple[str, str],
    switches: Fiqa,
    compared: _quality_pairs.Compared,
    quality_N: NDArray[np.float64],
    other: str | None = None,
) -> tuple[dict[str, Any], Mapping[float, discard.Curves]]:
    """Evaluate one method on one set, by the run's own embeddings or another network's."""
    prefix, suffix = "_".join(key), "" if other is None else f"_by_{other}"
    quality_P = compared.pair_quality(quality_N)
    curves, reasons = discard.measure(compared.cosine_P, compared.is_same_P, quality_P, switches.fmr)
    tree: dict[str, Any] = {
        f"{fmr:.0e}": {"edc_auc": None, "iso_pauc": None, "reason": reasons[fmr]} for fmr in reasons
    }
    for fmr, curve in curves.items():
        at = f"{fmr:.0e}"
        areas = {"edc_auc": curve.erc.auc, "iso_pauc": curve.edc.pauc(switches.pauc_limit)}
        tree[at] = {**{area: finite(value) for area, value in areas.items()}, **_describe(curve, switches)}
        for area, value in areas.items():
            if np.isfinite(value):
                measured.metrics[f"{prefix}_{area}_fmr{at}{suffix}"] = value
        if other is None:
            _draw(measured.curves["edc"], (*key, at), curve)
        else:
            _draw(measured.curves["edc_by"], (other, *key, at), curve)
    return tree, curves


def _describe(curve: discard.Curves, switches: Fiqa) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "iso_pauc_of_perfect_quality": curve.edc.best_pauc(switches.pauc_limit),
        "iso_threshold": finite(curve.threshold),
        "fmr_resolved_until_discard": curve.resolved_until,
        "genuine_left": curve.erc.num_genuine_K.tolist(),
        "impostors_left": curve.erc.num_impostor_K.tolist(),
    }
    if not np.isfinite(curve.erc.auc):
        tree["reason"] = "at some step no genuine or no impostor pair is left, so edc_auc has no value"
    return tree


def _measure_by(
    measured: Measured,
    key: tuple[str, str],
    switches: Fiqa,
    compared: _quality_pairs.Compared,
    quality: Mapping[str, NDArray[np.float64]],
) -> dict[str, Any]:
    """Evaluate all methods on one set by another network's embeddings; ``key`` is set and network."""
    name, other = key
    return {
        "methods": {
            method: _measure_method(measured, (name, method), switches, compared, quality_N, other)[0]
            for method, quality_N in quality.items()
        }
    }


def _check_given(switches: Fiqa, scores: Mapping[str, Score], others: Mapping[str, Embed]) -> None:
    for what, wanted, given in (("methods", switches.methods, scores), ("recognition", switches.recognition, others)):
        missing = sorted(set(wanted) - set(given))
        if missing:
            raise InputError(f"fiqa.{what} names {', '.join(missing)}, but the run has {', '.join(given) or 'none'}")


def _draw(table: Table, key: tuple[str, ...], curve: discard.Curves) -> None:
    """Add both curves, on CR-FIQA's grid, without steps at which no genuine or no impostor pair is left."""
    for share, fnmr in zip(curve.erc.discard_K.tolist(), curve.erc.fnmr_K.tolist(), strict=True):
        if np.isfinite(fnmr):
            table.rows.append((*key, "cr_fiqa", round(share, 2), fnmr))
    for share in ERC_DISCARD_K.tolist():
        table.rows.append((*key, "iso", round(share, 2), curve.edc.at(share)))


def _truth(
    path: Path, name: str, compared: _quality_pairs.Compared
) -> tuple[NDArray[np.float64] | None, NDArray[np.int64] | None]:
    """Return known quality and identity of each image, None if not known."""
    if not path.is_file():
        return None, compared.identity_N
    num_images = compared.processed.processed_N.size
    if compared.names is None:
        names = tuple(map(str, range(num_images)))
        return truth.load(path, name, num_images), truth.people(path, name, names)
    return truth.load_named(path, name, compared.names), truth.people(path, name, compared.names)


def _correlate(
    measured: Measured, key: str, quality_N: NDArray[np.float64], known_N: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Add Spearman's correlation over the processed images, if the truth is known and neither is constant."""
    if known_N is None:
        return {"rho": None, "reason": f"no {TRUTH_FILE}, or it does not have this set"}
    used_N = np.isfinite(quality_N)
    if np.ptp(quality_N[used_N]) == 0 or np.ptp(known_N[used_N]) == 0:
        return {"rho": None, "reason": "all scores, or all known qualities, are equal"}
    rho = float(scipy.stats.spearmanr(quality_N[used_N], known_N[used_N]).statistic)
    measured.metrics[key] = rho
    return {"rho": rho, "images": int(used_N.sum())}
