"""How do two sets in IJB's layout differ, in themselves and as trained networks see them?

    python benchmarks/studies/ijb_sets.py EVAL_FOLDER RUN [RUN ...] [--set IJBB] [--out FILE.json]
    python benchmarks/studies/ijb_sets.py ../shared/faces/eval .facet/ablations/faces/runs/qgface_{baseline,a}*/backbone

One set a call, each RUN the folder of a trained backbone; prints a table with a column per run, and the mean of runs
that differ by their seed alone. Asks what could move TAR at a low FAR:

- templates: images and media of each, size of the face in its crop, how far the landmarks are from the template;
- images: sharpness, brightness, contrast;
- features: norms; how alike are images of one template, of one person in two templates, of two people;
- tails: quantiles of the impostors' cosines, of image pairs by the sharpness of the poorer image and of template pairs;
- concentration: share of the false matches at FAR 1e-3 that the tenth of templates with most of them takes part in;
- unrecognisable: share of images that are no closer to any image of their person in another template than the median
  impostor is;
- what false matches come from: rank correlation of an impostor pair's cosine with how near the two templates are in
  sharpness, brightness and size of the face, and with the cosine of the same images with a grey ellipse for the face.

Shapes: N images, T templates, P pairs, D feature dimensions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from stages.core.images.alignment import TEMPLATE_52, similarity
from stages.core.metrics import features, pooling
from stages.core.metrics.processing import Failure
from stages.datasets import ijb
from stages.embedding.embedder import Embedder
from stages.quality import sharpness

Floats = NDArray[np.float64]
Found = dict[str, float]
FAR = 1e-3
IMAGE_PAIRS = 400_000


def landmarks_off(chosen: ijb.IjbSet) -> Floats:
    """Return how far the aligned landmarks are from the template: root mean square of each image, in px."""
    apart = []
    for points_52 in chosen.landmarks_N52:
        matrix_23 = similarity(points_52)
        placed_52 = points_52 @ matrix_23[:, :2].T + matrix_23[:, 2]
        apart.append(np.sqrt(np.mean(np.sum((placed_52 - TEMPLATE_52) ** 2, axis=1))))
    return np.array(apart)


def pooled(embed: Embedder, images: NDArray[np.uint8], chosen: ijb.IjbSet) -> tuple[Floats, Floats]:
    """Return the fused features of the images (N, D), and the unit embeddings of their templates (T, D)."""
    fused_ND = features.fuse(embed(images), "pre_norm_sum")
    return fused_ND.astype(np.float64), pooling.pool_templates(fused_ND, chosen.template_N, chosen.media_N)[1]


def pairs(chosen: ijb.IjbSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of both templates of each pair, among the template ids, rising."""
    id_T = np.unique(chosen.template_N)
    return np.searchsorted(id_T, chosen.first_P), np.searchsorted(id_T, chosen.second_P)


def rate(cosine_P: Floats, is_same_P: NDArray[np.bool_], far: float = FAR) -> float:
    """Return TAR at a FAR: the share of genuine pairs above that quantile of the impostors."""
    return float(np.mean(cosine_P[is_same_P] > np.quantile(cosine_P[~is_same_P], 1 - far)))


def row_of(run: Path) -> str:
    """Return the name of a run's folder without its seed."""
    return re.sub(r"_s\d+$", "", run.absolute().parent.name)


def looks(image_NHW3: NDArray[np.uint8]) -> dict[str, Floats]:
    """Return sharpness (the quality method's), brightness and contrast (grey levels) of each image."""
    grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in image_NHW3]
    return {
        "sharpness": np.array([sharpness.Scorer().look(image) for image in image_NHW3]),
        "brightness": np.array([image.mean() for image in grey]),
        "contrast": np.array([image.std() for image in grey]),
    }


def without_face(image_NHW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the images with an ellipse of grey where the face is."""
    hidden = image_NHW3.copy()
    for image in hidden:
        cv2.ellipse(image, (56, 64), (34, 50), 0, 0, 360, (128, 128, 128), -1)
    return hidden


def subjects(chosen: ijb.IjbSet) -> dict[int, int]:
    """Return a person of each template: templates of genuine pairs are one person's."""
    owner: dict[int, int] = {int(t): int(t) for t in np.unique(chosen.template_N)}

    def root(template: int) -> int:
        while owner[template] != template:
            template = owner[template]
        return template

    for one, other in zip(chosen.first_P[chosen.is_same_P], chosen.second_P[chosen.is_same_P], strict=True):
        owner[root(int(one))] = root(int(other))
    return {template: root(template) for template in owner}


def of_set(chosen: ijb.IjbSet, seen: dict[str, Floats]) -> Found:
    """Return what needs no network."""
    apart_N = landmarks_off(chosen)
    _, of_template_N, sizes = np.unique(chosen.template_N, return_inverse=True, return_counts=True)
    media = np.array([np.unique(chosen.media_N[of_template_N == t]).size for t in range(sizes.size)])
    found: Found = {
        "templates": sizes.size, "images": of_template_N.size, "genuine pairs": int(chosen.is_same_P.sum()),
        "impostor pairs": int((~chosen.is_same_P).sum()), "people": len(set(subjects(chosen).values())),
        "images a template, mean": sizes.mean(), "images a template, largest": int(sizes.max()),
        "templates of one image": float(np.mean(sizes == 1)), "media a template, mean": media.mean(),
    }  # fmt: skip
    for name, values_N in {"landmarks off the template, px": apart_N, **seen}.items():
        for percent in (5, 50, 95):
            found[f"{name}, {percent} %"] = float(np.percentile(values_N, percent))
    for name, values_N in seen.items():
        within = [values_N[of_template_N == t].std() for t in range(sizes.size) if sizes[t] > 1]
        found[f"{name}, deviation within a template"] = float(np.mean(within)) if within else float("nan")
    return found


def of_network(chosen: ijb.IjbSet, images: NDArray[np.uint8], seen: dict[str, Floats], run: Path) -> Found:
    """Return what a run's network makes of the set."""
    embed, rng = Embedder.load(run, flip=True), np.random.default_rng(0)
    fused_ND, pooled_TD = pooled(embed, images, chosen)
    norm_N = np.linalg.norm(fused_ND, axis=1)
    unit_ND = fused_ND / norm_N[:, None]
    id_T, template_N = np.unique(chosen.template_N, return_inverse=True)
    owner = subjects(chosen)
    person_N = np.array([owner[int(template)] for template in id_T])[template_N]
    found: Found = {f"norm, {percent} %": float(np.percentile(norm_N, percent)) for percent in (5, 50, 95)}
    found["norm, rank correlation with sharpness"] = _rank(norm_N, seen["sharpness"])

    one_P, two_P = rng.integers(0, norm_N.size, (2, IMAGE_PAIRS))
    cosine_P = np.einsum("pd,pd->p", unit_ND[one_P], unit_ND[two_P])
    apart_P = person_N[one_P] != person_N[two_P]
    found |= _alike(unit_ND, template_N, person_N)
    found["cosine, two people: mean"] = float(cosine_P[apart_P].mean())
    found["cosine, two people: deviation"] = float(cosine_P[apart_P].std())
    poorer_P = np.minimum(seen["sharpness"][one_P], seen["sharpness"][two_P])
    edges = np.quantile(poorer_P, (1 / 3, 2 / 3))
    for third, name in enumerate(("blurred", "middle", "sharp")):
        chosen_P = apart_P & (np.digitize(poorer_P, edges) == third)
        found[f"cosine, two people: 99.9 % of {name} pairs"] = float(np.quantile(cosine_P[chosen_P], 0.999))

    return found | _of_templates(chosen, images, seen, embed, pooled_TD, template_N)


def _alike(unit_ND: Floats, template_N: NDArray[np.int64], person_N: NDArray[np.int64]) -> Found:
    inside, across, unknown = [], [], []
    centre = unit_ND.mean(axis=0)
    between = float(np.quantile(unit_ND[:2000] @ unit_ND[-2000:].T, 0.5))
    for person in np.unique(person_N):
        rows = np.flatnonzero(person_N == person)
        cosine = unit_ND[rows] @ unit_ND[rows].T
        same = template_N[rows][:, None] == template_N[rows][None]
        off = ~np.eye(rows.size, dtype=bool)
        inside.append(cosine[same & off])
        across.append(cosine[~same])
        if (~same).any():
            best = np.where(same, -np.inf, cosine).max(axis=1)
            unknown.append(best <= between)
    return {
        "cosine, one template: mean": float(np.concatenate(inside).mean()),
        "cosine, one person, two templates: mean": float(np.concatenate(across).mean()),
        "length of the mean unit feature": float(np.linalg.norm(centre)),
        "unrecognisable images": float(np.concatenate(unknown).mean()),
    }


def _of_templates(
    chosen: ijb.IjbSet, images: NDArray[np.uint8], seen: dict[str, Floats], embed: Embedder, pooled_TD: Floats,
    template_N: NDArray[np.int64],
) -> Found:  # fmt: skip
    one_P, two_P = pairs(chosen)
    cosine_P = np.einsum("pd,pd->p", pooled_TD[one_P], pooled_TD[two_P])
    genuine, impostor = cosine_P[chosen.is_same_P], cosine_P[~chosen.is_same_P]
    found: Found = {}
    for name, each in (("genuine", genuine), ("impostors", impostor)):
        found |= {f"templates, {name}: mean": float(each.mean()), f"templates, {name}: deviation": float(each.std())}
    for far in (1e-2, 1e-3, 1e-4):
        threshold = np.quantile(impostor, 1 - far)
        found[f"templates: threshold in deviations of the impostors at FAR {far:g}"] = float(
            (threshold - impostor.mean()) / impostor.std()
        )
        found[f"TAR at FAR {far:g}"] = rate(cosine_P, chosen.is_same_P, far)
    false_P = ~chosen.is_same_P & (cosine_P > np.quantile(impostor, 1 - FAR))
    taking = np.bincount(np.concatenate([one_P[false_P], two_P[false_P]]), minlength=len(pooled_TD))
    most = np.argsort(taking)[-len(pooled_TD) // 10 :]
    found["false matches with one of the tenth of templates"] = float(
        np.mean(np.isin(one_P[false_P], most) | np.isin(two_P[false_P], most))
    )
    return found | _where_from(chosen, images, seen, embed, (one_P, two_P, cosine_P, template_N))


def _where_from(
    chosen: ijb.IjbSet, images: NDArray[np.uint8], seen: dict[str, Floats], embed: Embedder, pairs: tuple[Any, ...]
) -> Found:
    one_P, two_P, cosine_P, template_N = pairs
    count_T = np.bincount(template_N)
    apart_P = ~chosen.is_same_P
    found: Found = {}
    for name, values_N in seen.items():
        mean_T = np.bincount(template_N, weights=values_N) / count_T
        near_P = -np.abs(mean_T[one_P] - mean_T[two_P])
        found[f"impostors: rank correlation with nearness in {name}"] = _rank(cosine_P[apart_P], near_P[apart_P])
        low_P = -np.maximum(mean_T[one_P], mean_T[two_P])
        found[f"impostors: rank correlation with both low in {name}"] = _rank(cosine_P[apart_P], low_P[apart_P])
    _, hidden_TD = pooled(embed, without_face(images), chosen)
    hidden_P = np.einsum("pd,pd->p", hidden_TD[one_P], hidden_TD[two_P])
    found["impostors: rank correlation with the cosine without faces"] = _rank(cosine_P[apart_P], hidden_P[apart_P])
    found[f"TAR at FAR {FAR:g} without faces"] = rate(hidden_P, chosen.is_same_P)
    return found


def _rank(one: Floats, other: Floats) -> float:
    return float(scipy.stats.spearmanr(one, other).statistic)


def main() -> None:
    """Print what was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("eval_folder", type=Path, help="holds ijb/IJBB")
    options.add_argument("runs", type=Path, nargs="+", help="folders of trained runs")
    options.add_argument("--set", default="IJBB", help="IJBB or IJBC")
    options.add_argument("--out", type=Path, help="write what was found as JSON too")
    arguments = options.parse_args()
    chosen = ijb.load(arguments.eval_folder / "ijb", arguments.set)
    read = [image for image in chosen.images() if not isinstance(image, Failure)]
    if len(read) < len(chosen.names):
        raise SystemExit("an image of the set could not be read: this study wants all of them")
    images = np.stack(read)
    eyes_N = np.linalg.norm(chosen.landmarks_N52[:, 1] - chosen.landmarks_N52[:, 0], axis=1)
    seen = {**looks(images), "size of the face (log of the distance of the eyes, px)": np.log(eyes_N)}
    columns: dict[str, list[Found]] = defaultdict(list)
    for run in sorted(arguments.runs):
        columns[row_of(run)].append(of_network(chosen, images, seen, run))
    alone = of_set(chosen, seen)
    if arguments.out:
        arguments.out.write_text(json.dumps({"set": alone, "runs": columns}, indent=1), encoding="utf-8")
    print("\n".join(f"- {name}: {value:.4g}" for name, value in alone.items()))
    names = list(columns)
    print("\n| | " + " | ".join(f"{name} ({len(columns[name])})" for name in names) + " |\n|---|" + "--:|" * len(names))
    for key in next(iter(columns.values()))[0]:
        cells = [np.array([found[key] for found in columns[name]]) for name in names]
        print(f"| {key} | " + " | ".join(_cell(cell) for cell in cells) + " |")


def _cell(values: Floats) -> str:
    return f"{values.mean():.4g}" + (f" ± {values.std(ddof=1):.2g}" if values.size > 1 else "")


if __name__ == "__main__":
    main()
