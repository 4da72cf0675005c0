"""Plans the images of a synthetic data set before any is rendered: sets, identities, poses, ages, known qualities.

Random streams: everything is drawn from ``generator(seed, stream, identity, image)``. Each set has its own
stream (STREAMS), so no two sets, and never training and test, share an identity; ``identity_number`` tells
them apart. Image 0 of an identity draws the person, image k its k-th picture, so that the bytes of a picture
depend on nothing but its place, however many processes draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.core.images.degrade import quality_of
from stages.core.synthetic_faces.model import CROSS_POSE, FRONTAL, PROFILE, WEB, Pose
from stages.synthesis.config import Config, LowVariance

Rng = np.random.Generator

SETS = ("train", "lfw", "cfp_fp", "cplfw", "calfw", "agedb_30", "IJBB", "tinyface", "scface")
# drawn where params.yaml gives them a size; behind the others, whose streams, and so bytes, must not move
MORE_SETS = ("IJBC", "ijbs", "adience", "xqlfw", "cfp_ff", "vgg2_fp")
# two are not part of a data set: the contact sheet, and rank-1 over quality under benchmarks/
STREAMS = {name: number for number, name in enumerate((*SETS, "sheet", "levels", *MORE_SETS))}
PAIR_SETS = SETS[1:6]
MORE_PAIR_SETS = MORE_SETS[-2:]
NUM_FOLDS = 10
# of the images of a verification set
LOW_SHARE = {"lfw": 0.2, "cfp_fp": 0.1, "cplfw": 0.4, "calfw": 0.15, "agedb_30": 0.25, "cfp_ff": 0.1, "vgg2_fp": 0.3}

PLANNER = 2**32 - 1  # stands for the identity where a whole set is planned


@dataclass(frozen=True)
class Picture:
    """One image to render."""

    slot: int  # its place in the set
    quality: float
    pose: Pose = WEB
    age: float | None = None  # None: about the person's usual
    loose: bool = False  # a crop as a detector leaves it, not aligned
    small: bool = False  # keep the low-resolution original as well
    plain: bool = False  # no hat, no sunglasses: an enrolment photograph
    scene: int = 0  # pictures of one scene (not 0) share light, clothes and background: frames of a video
    near: float | None = None  # a near-duplicate of the person's other such pictures, this far off (LowVariance)


@dataclass(frozen=True)
class Sitting:
    """All images of one identity in a set: the unit of work of a process."""

    stream: int
    identity: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Pairs:
    """A verification set: pair k is slots 2k and 2k + 1."""

    sittings: tuple[Sitting, ...]
    is_same: tuple[bool, ...]


def generator(seed: int, stream: int, identity: int, image: int) -> Rng:
    """Return the random stream of a picture: four numbers, since trailing zeros do not count."""
    return np.random.default_rng([seed, stream, identity, image])


def identity_number(stream: int, identity: int) -> int:
    """Return a number that no identity of another set has; training identities keep their label."""
    return 1_000_000 * stream + identity


def train_sittings(config: Config) -> list[Sitting]:
    """Return the training set, identity by identity; slot = key - 1."""
    train = config.train
    rng = generator(config.seed, STREAMS["train"], PLANNER, 0)
    near_rng = generator(config.seed, STREAMS["train"], PLANNER, 2)
    few = low_variance_identities(config)
    sittings, slot = [], 0
    for identity in range(train.identities):
        # drawn for all, so that the others have the qualities they have without low variance
        qualities = [web_quality(rng, train.low_quality_share) for _ in range(train.images_per_identity)]
        near = None
        if train.low_variance is not None and identity in few:
            near = train.low_variance.jitter
            qualities = _near_qualities(near_rng, train.low_variance, len(qualities))
        pictures = tuple(Picture(slot + k, quality, near=near) for k, quality in enumerate(qualities))
        sittings.append(Sitting(STREAMS["train"], identity, pictures))
        slot += len(pictures)
    return sittings


def low_variance_identities(config: Config) -> frozenset[int]:
    """Return the training identities shown in near-duplicates; their labels are the same numbers."""
    train = config.train
    if train.low_variance is None:
        return frozenset()
    count = min(max(round(train.low_variance.share * train.identities), 1), train.identities - 1)
    rng = generator(config.seed, STREAMS["train"], PLANNER, 1)
    return frozenset(rng.choice(train.identities, count, replace=False).tolist())


def _near_qualities(rng: Rng, low_variance: LowVariance, usual: int) -> list[float]:
    count = low_variance.images_per_identity or usual
    if low_variance.quality == "mixed":
        return [float(rng.uniform(0.05, 1.0)) for _ in range(count)]
    level = rng.uniform(0.08, 0.32)
    return [float(level + rng.uniform(-0.03, 0.03)) for _ in range(count)]


def pairs(config: Config, name: str) -> Pairs:
    """Return one of the verification sets: per fold genuine pairs, then impostors, as LFW orders them.

    From 20 identities on the folds share none, so that no threshold is chosen on the people it is tested on.
    """
    num_pairs = config.eval.more_pairs if name in MORE_PAIR_SETS else config.eval.pairs
    stream, per_fold = STREAMS[name], num_pairs // (2 * NUM_FOLDS)
    rng = generator(config.seed, stream, PLANNER, 0)
    people: dict[int, list[Picture]] = {}
    is_same: list[bool] = []
    for fold in range(NUM_FOLDS):
        members = fold_members(config.eval.identities, fold)
        for k in range(2 * per_fold):
            same = k < per_fold
            first, second = (int(rng.choice(members)),) * 2 if same else rng.choice(members, 2, replace=False).tolist()
            for person, picture in zip((first, second), _pair(rng, name, 2 * len(is_same)), strict=True):
                people.setdefault(person, []).append(picture)
            is_same.append(same)
    return Pairs(sittings_of(stream, people), tuple(is_same))


def fold_members(identities: int, fold: int) -> list[int]:
    """Return the people of a fold: a tenth of them, or all if a tenth is fewer than two."""
    members = list(range(identities * fold // NUM_FOLDS, identities * (fold + 1) // NUM_FOLDS))
    return members if len(members) >= 2 else list(range(identities))


def _pair(rng: Rng, name: str, slot: int) -> tuple[Picture, Picture]:
    """Return the two pictures of a pair, which differ in the set's subject: quality, profile, pose or age."""
    low = LOW_SHARE[name]
    first, second = web_quality(rng, low, 0.25), web_quality(rng, low, 0.25)
    if name == "cfp_ff":
        return Picture(slot, first, FRONTAL), Picture(slot + 1, second, FRONTAL)
    if name in ("cfp_fp", "vgg2_fp"):
        return Picture(slot, first, FRONTAL), Picture(slot + 1, second, PROFILE)
    if name == "cplfw":
        return Picture(slot, first, CROSS_POSE), Picture(slot + 1, second, CROSS_POSE)
    if name in ("calfw", "agedb_30"):
        gap = rng.uniform(0.35, 0.6) if name == "calfw" else rng.uniform(0.5, 0.75)
        young = float(rng.uniform(0, 1 - gap))
        ages = (young, young + float(gap)) if rng.uniform() < 0.5 else (young + float(gap), young)
        return Picture(slot, first, age=ages[0]), Picture(slot + 1, second, age=ages[1])
    return Picture(slot, first), Picture(slot + 1, second)


def web_quality(rng: Rng, low_share: float, worst: float = 0.05) -> float:
    """Return a quality as in a web collection: mostly good, with a tail of ``low_share``."""
    return float(rng.uniform(worst, 0.6) if rng.uniform() < low_share else rng.uniform(0.7, 1.0))


def sittings_of(stream: int, people: dict[int, list[Picture]]) -> tuple[Sitting, ...]:
    """Return one sitting per person, in order."""
    return tuple(Sitting(stream, person, tuple(people[person])) for person in sorted(people))


@dataclass(frozen=True)
class Template:
    """One IJB template: its images, their media; the first of a subject is its gallery entry."""

    subject: int  # from 0
    number: int  # from 1
    slots: tuple[int, ...]
    media: tuple[int, ...]
    is_gallery: bool


@dataclass(frozen=True)
class Ijb:
    """IJB-B: templates in order, subject by subject."""

    sittings: tuple[Sitting, ...]
    templates: tuple[Template, ...]


def ijb(config: Config, name: str = "IJBB") -> Ijb:
    """Plan IJB-B or IJB-C: galleries of good stills, and probes that mix stills with frames of poor videos."""
    stream = STREAMS[name]
    rng = generator(config.seed, stream, PLANNER, 0)
    num_templates = config.eval.ijb_templates if name == "IJBB" else config.eval.ijbc_templates
    subjects = min(config.eval.identities, num_templates // 2)
    people: dict[int, list[Picture]] = {}
    templates: list[Template] = []
    slot = medium = 0
    for subject in range(subjects):
        begin, end = (num_templates * k // subjects for k in (subject, subject + 1))
        for place in range(end - begin):
            gallery = place == 0
            qualities, media = _template_media(rng, gallery, medium)
            pictures = [
                Picture(
                    slot + k,
                    q,
                    CROSS_POSE if rng.uniform() < 0.25 and not gallery else WEB,
                    loose=True,
                    scene=medium_of,
                )
                for k, (q, medium_of) in enumerate(zip(qualities, media, strict=True))
            ]
            people.setdefault(subject, []).extend(pictures)
            slots = tuple(range(slot, slot + len(pictures)))
            templates.append(Template(subject, len(templates) + 1, slots, media, gallery))
            slot, medium = slot + len(pictures), media[-1]
    return Ijb(sittings_of(stream, people), tuple(templates))


def _template_media(rng: Rng, gallery: bool, last: int) -> tuple[list[float], tuple[int, ...]]:
    """Return qualities and media of a template: a still is one media, the frames of a video share one."""
    stills = int(rng.integers(1, 4)) if gallery else int(rng.choice([0, 1, 2], p=[0.45, 0.4, 0.15]))
    videos = 0 if gallery else int(rng.choice([0, 1, 2], p=[0.35, 0.45, 0.2])) if stills else 1
    qualities = [float(rng.uniform(0.75 if gallery else 0.45, 1.0)) for _ in range(stills)]
    media = [last + 1 + k for k in range(stills)]
    for _ in range(videos):
        level, last = float(rng.uniform(0.12, 0.6)), (media[-1] if media else last) + 1
        for _ in range(int(rng.integers(2, 4))):
            qualities.append(float(np.clip(level + rng.normal(0, 0.04), 0.08, 1)))
            media.append(last)
    return qualities, tuple(media)


@dataclass(frozen=True)
class Listed:
    """A set whose images have names: the name of each slot, without extension."""

    sittings: tuple[Sitting, ...]
    names: tuple[str, ...]


def tinyface(config: Config) -> Listed:
    """Plan TinyFace: two probes and one or two mates per subject, all 14 to 28 px, and distractors."""
    stream = STREAMS["tinyface"]
    rng = generator(config.seed, stream, PLANNER, 0)
    people: dict[int, list[Picture]] = {}
    names: list[str] = []
    subjects = config.eval.identities
    for subject in range(subjects + config.eval.tinyface_distractors):
        files = [f"Gallery_Distractor/{subject - subjects + 1}"]
        if subject < subjects:
            mates, probes = range(1, 2 + int(rng.integers(2))), range(100, 102)
            files = [f"Gallery_Match/{subject + 1}_{k}" for k in mates]
            files += [f"Probe/{subject + 1}_{k}" for k in probes]
        people[subject] = [
            Picture(len(names) + k, quality_of(float(rng.uniform(14, 28))), small=True) for k in range(len(files))
        ]
        names.extend(files)
    return Listed(sittings_of(stream, people), tuple(names))


SCFACE_SIDES = {1: 12.0, 2: 20.0, 3: 40.0}  # px of a face at each distance


def scface(config: Config) -> Listed:
    """Plan SCface: a frontal enrolment photograph, cameras 1-5 at three distances, for some cameras 6-8."""
    stream = STREAMS["scface"]
    rng = generator(config.seed, stream, PLANNER, 0)
    people: dict[int, list[Picture]] = {}
    names: list[str] = []
    for subject in range(config.eval.identities):
        seen = [(f"cam{camera}_{distance}", side) for camera in range(1, 6) for distance, side in SCFACE_SIDES.items()]
        if subject % 10 == 0:  # infrared and mugshot: readers must pass over them
            seen += [("cam6_1", 20.0), ("cam7_1", 20.0), ("cam8", 100.0)]
        people[subject] = [
            Picture(len(names) + k, quality_of(side * float(np.exp(rng.normal(0, 0.06)))), WEB)
            for k, (_, side) in enumerate(seen)
        ]
        names.extend(f"{subject + 1:03d}_{view}" for view, _ in seen)
        people[subject].append(Picture(len(names), float(rng.uniform(0.92, 1)), FRONTAL, plain=True))
        names.append(f"{subject + 1:03d}_frontal")
    return Listed(sittings_of(stream, people), tuple(names))
