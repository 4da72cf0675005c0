"""Closed-set identification on TinyFace and SCface: is a mate among the k most similar gallery images.

As AdaFace validation_lq/tinyface_helper.py (DIR_FAR) at c60eaa78 and QGFace validation_lq/scface_helper.py at
778aa5ef; the rules, and that of ties, are those of stages/core/metrics/identify.py.
"""

from stages.core.metrics.identify import NOBODY, ClosedSet, OpenSet, closed_set, open_set

VERSION = "2"  # scores are float64 products of the embeddings, whatever computed them

__all__ = ["NOBODY", "VERSION", "ClosedSet", "OpenSet", "closed_set", "open_set"]
