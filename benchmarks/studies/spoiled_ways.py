"""Which kind of low quality does a training help with? Each way of spoiling alone, on IJB-B's mixed probes.

    OMP_NUM_THREADS=1 python benchmarks/studies/spoiled_ways.py EVAL_FOLDER RUN [RUN ...] [--out FILE.json]
    python benchmarks/studies/spoiled_ways.py ../shared/faces/eval .facet/ablations/faces_causes/runs/fc_*/backbone

Compares all template pairs five times: with the images of the mixed probes as they are, and spoiled in each of the four
ways of harder_faces.py. Prints TAR at FAR 1e-3 in percent: mean and deviation of runs that differ by their seed alone.

Shapes: N images, T templates, P pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray

from benchmarks.studies import harder_faces, ijb_sets
from stages.core.images.alignment import align
from stages.core.images.degrade import encode
from stages.core.metrics.processing import decode
from stages.datasets import ijb
from stages.embedding.embedder import Embedder

AS_IT_IS = "as it is"
Images = NDArray[np.uint8]


def images(chosen: ijb.IjbSet, spoiled_N: NDArray[np.bool_], way: str) -> Images:
    """Return the aligned images (N, 112, 112, 3), those of ``spoiled_N`` spoiled in a way, before they are aligned."""
    made = []
    for name, spoiled, landmarks_52 in zip(chosen.names, spoiled_N, chosen.landmarks_N52, strict=True):
        image_HW3 = decode((chosen.crops / name).read_bytes())
        if spoiled and way != AS_IT_IS:
            image_HW3 = decode(encode(harder_faces.WAYS[way](image_HW3, harder_faces.generator(name)), 95))
        made.append(align(image_HW3, landmarks_52))
    return np.stack(made)


def rate(chosen: ijb.IjbSet, embed: Embedder, image_NHW3: Images) -> float:
    """Return TAR at FAR 1e-3 of the set's template pairs."""
    unit_TD = ijb_sets.pooled(embed, image_NHW3, chosen)[1]
    one_P, two_P = ijb_sets.pairs(chosen)
    return ijb_sets.rate(np.einsum("pd,pd->p", unit_TD[one_P], unit_TD[two_P]), chosen.is_same_P)


def main() -> None:
    """Print the rates of each way."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("eval_folder", type=Path, help="holds ijb/IJBB, unpacked, not spoiled")
    options.add_argument("runs", type=Path, nargs="+", help="folders of trained runs")
    options.add_argument("--out", type=Path, help="write the rates of single runs as JSON too")
    arguments = options.parse_args()
    chosen = ijb.load(arguments.eval_folder / "ijb", "IJBB")
    spoiled_N = np.isin(chosen.template_N, ijb.load_search(arguments.eval_folder / "ijb", "IJBB").probe_template_P)
    rows: dict[str, dict[str, list[float]]] = {}
    for way in (AS_IT_IS, *harder_faces.WAYS):
        image_NHW3 = images(chosen, spoiled_N, way)
        rows[way] = defaultdict(list)
        for run in sorted(arguments.runs):
            rows[way][ijb_sets.row_of(run)].append(rate(chosen, Embedder.load(run, flip=True), image_NHW3))
        print(f"{way}: " + ", ".join(f"{name} {_cell(rates)}" for name, rates in rows[way].items()), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _cell(rates: list[float]) -> str:
    return f"{100 * np.mean(rates):.1f}" + (f" ± {100 * np.std(rates, ddof=1):.1f}" if len(rates) > 1 else "")


if __name__ == "__main__":
    main()
