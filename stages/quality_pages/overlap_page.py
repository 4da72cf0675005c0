"""HTML page of `facet overlap`: flagged people beside training identities, duplicates, accuracy."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2

from stages.core.metrics.features import Image
from stages.core.metrics.processing import decode_aligned
from stages.quality_pages import parts
from stages.suites import _overlap
from stages.suites._overlap import Audit, Found, Training

SHOWN, EACH = 60, 4


def html(
    tree: dict[str, Any], training: Training, audits: Sequence[Audit],
    near: Sequence[tuple[int, int, float]], alike: Sequence[tuple[int, int, float]],
) -> str:  # fmt: skip
    """Return the whole page."""
    body = [
        f'<header>\n<p class="eyebrow">facet · overlap · {escape(tree["dataset"])}</p>\n'
        f'<h1>People of test sets who are trained on</h1>\n'
        f'<p class="lede">By the embeddings of {escape(tree["model"])}.</p>\n</header>',
        _numbers(tree),
        *(_people(one, training) for one in audits),
        _inside(training, near, alike),
    ]
    return parts.document(f"Overlap · {tree['dataset']}", "\n".join(body))


def _numbers(tree: dict[str, Any]) -> str:
    rows = []
    for name, one in tree["sets"].items():
        without = "–" if one["accuracy_without"] is None else f"{one['accuracy_without']:.2%}"
        cells = [
            f"{len(one['found'])} of {one['people']}", f"{one['threshold']:.3f}", f"{one['false_alarm']:.2%}",
            f"{one['false_alarms_expected']:.1f}", f"{one['recall_expected']:.0%}", f"{one['accuracy']:.2%}", without,
            f"{one['pairs_without']} of {one['pairs']}",
        ]  # fmt: skip
        rows.append((escape(name), [f"<td>{cell}</td>" for cell in cells]))
    heads = [
        "set", "people flagged", "cosine at least", "false alarm rate", "false alarms expected", "recall expected",
        "accuracy", "accuracy without", "pairs without",
    ]  # fmt: skip
    known = "; ".join(f"{name}: {one['people_known_by']}" for name, one in tree["sets"].items())
    return (
        f"<section>\n<h2>Numbers</h2>\n{parts.table('Numbers', heads, rows, 'plain')}\n"
        '<p class="key">False alarm rate and recall are those of training identities with some of their images set '
        "aside: how many of them are taken for another identity, and how many are found again. A model that was "
        "trained on these people keeps them farther apart than strangers, and then flags more strangers than this. "
        f"People are known by: {escape(known)}. Accuracy is that of ten folds; without: of pairs in which "
        "nobody is flagged.</p>\n"
        "</section>"
    )


def _people(one: Audit, training: Training) -> str:
    shown = "\n".join(_person(found, one, training) for found in one.found[:SHOWN])
    rest = f" The first {SHOWN} of {len(one.found)} are shown." if len(one.found) > SHOWN else ""
    if not one.found:
        shown = '<p class="key">Nobody is flagged.</p>'
    return (
        f'<section>\n<h2>{escape(one.name)}</h2>\n<p class="key">Left the test set, right the training identity; the '
        f"most alike first.{rest}</p>\n{shown}\n</section>"
    )


def _person(found: Found, one: Audit, training: Training) -> str:
    label = int(training.identity_C[found.identity])
    names = ", ".join(found.names[:2]) + (", …" if len(found.names) > 2 else "")
    return _beside(
        (f"{one.name} {names}", _overlap.faces(one.image, found.rows, EACH)),
        (f"training identity {label}, cosine {found.cosine:.3f}", training.images(found.identity, EACH)),
    )


def _inside(
    training: Training, near: Sequence[tuple[int, int, float]], alike: Sequence[tuple[int, int, float]]
) -> str:
    labels = [
        _beside(
            (f"identity {training.identity_C[a]}", training.images(a, EACH)),
            (f"identity {training.identity_C[b]}, cosine {cosine:.3f}", training.images(b, EACH)),
        )
        for a, b, cosine in alike[:SHOWN]
    ]
    twice = [
        _beside(
            (f"record {training.records.key_N[a]}", [_record(training, a)]),
            (f"record {training.records.key_N[b]}, cosine {cosine:.3f}", [_record(training, b)]),
        )
        for a, b, cosine in near[: SHOWN // 4]
    ]
    none = '<p class="key">None.</p>'
    return (
        "<section>\n<h2>Labels that may be one person</h2>\n<p class=\"key\">Pairs of labels by the cosine of their "
        "means. What share of them are two people cannot be told from these labels.</p>\n"
        + ("\n".join(labels) or none)
        + "\n</section>\n<section>\n<h2>Near-duplicates within a label</h2>\n" + ("\n".join(twice) or none)
        + "\n</section>"
    )


def _record(training: Training, row: int) -> Image:
    return decode_aligned(bytes(training.records.images.image_bytes(row)))


def _beside(*sides: tuple[str, Sequence[Image]]) -> str:
    strips = "".join(
        f'<div class="strip"><h4>{escape(title)}</h4><ul class="faces four">{"".join(map(_face, images))}</ul></div>'
        for title, images in sides
    )
    return f'<div class="strips">{strips}</div>'


def _face(image: Image) -> str:
    packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    source = "data:image/jpeg;base64," + base64.b64encode(packed).decode()
    return f'<li><img src="{source}" alt="face" width="112" height="112"></li>'
