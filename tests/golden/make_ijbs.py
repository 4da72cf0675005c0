"""Makes ijbs_templates.json with AdaFace's own code (PFE/ijbs.py at c60eaa78): the templates of a small IJB-S.

    python -m tests.golden.make_ijbs ADAFACE_CHECKOUT tests/golden/ijbs_templates.json

The lists are those of tests/stages/small_sets.py; nothing of the checkout is copied.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import scipy.io  # noqa: F401 - before numpy gets back what the authors' code wants of it

from tests.stages import small_sets

PROTOCOLS = {
    "surveillance_to_single": ("video2image_probe", "single_image"),
    "surveillance_to_booking": ("video2image_probe", "booking_image"),
    "multiview_surveillance_to_booking": ("multiview_video_probe", "booking_image"),
    "surveillance_to_surveillance": ("video2video_probe", "video"),
    "uav_surveillance_to_booking": ("uav_probe", "booking_image"),
}


def main(checkout: str, target: str) -> None:
    """Run the authors' code and write its templates."""
    setattr(np, "object", object)  # noqa: B010 - numpy 2 has none, and the authors ask for it
    sys.path.insert(0, str(Path(checkout) / "validation_lq" / "PFE"))
    import ijbs as authors

    with tempfile.TemporaryDirectory() as folder:
        small_sets.write_ijbs(Path(folder))
        aligned = Path(folder) / "aligned"
        faces = sorted(path.relative_to(aligned).as_posix() for path in aligned.glob("*/*.jpg"))
        test = authors.IJBSTest()
        test.init_proto(str(Path(folder) / "protocols"))
        test.initialize_indices(faces)
    rows = test.protocol_template_indices

    def templates(name: str) -> list[list[object]]:
        found = []
        for row in rows[name]:
            one = test.all_template_list[row]
            found.append([int(one.subject_id), sorted(faces[k] for k in (() if one.indices is None else one.indices))])
        return sorted(found)

    tree = {
        protocol: {"probes": templates(probes), "gallery1": templates(f"{gallery}_gallery1"),
                   "gallery2": templates(f"{gallery}_gallery2")}
        for protocol, (probes, gallery) in PROTOCOLS.items()
    }  # fmt: skip
    Path(target).write_text(json.dumps(tree) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
