"""Reads records with mxnet's own code and prints labels and digests as JSON; needs mxnet alone, not this repository.

PYTHON_WITH_MXNET mxnet_reader.py train.idx train.rec '[1, 2, 3]'
"""

from __future__ import annotations

import hashlib
import json
import sys


def main(index: str, records: str, keys: str) -> None:
    """Print what mxnet reads at ``keys``: [[label, sha256 of the image], ...]."""
    # here, because a run of all doctests imports this file where there is no mxnet
    import mxnet  # type: ignore[import-not-found]
    import numpy

    reader = mxnet.recordio.MXIndexedRecordIO(index, records, "r")
    seen = []
    for key in json.loads(keys):
        header, image = mxnet.recordio.unpack(reader.read_idx(key))
        label = numpy.atleast_1d(numpy.asarray(header.label, numpy.float64)).tolist()
        seen.append([label, hashlib.sha256(image).hexdigest()])
    sys.stdout.write(json.dumps({"version": mxnet.__version__, "records": len(reader.keys), "seen": seen}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
