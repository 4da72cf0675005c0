"""Plans the images of the synthetic IJB-S, Adience and XQLFW (see ``plan`` for streams and slots)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from stages.core.synthetic_faces.model import CROSS_POSE, FRONTAL, WEB
from stages.synthesis.config import Config
from stages.synthesis.plan import (
    NUM_FOLDS,
    PLANNER,
    STREAMS,
    Picture,
    Rng,
    Sitting,
    fold_members,
    generator,
    sittings_of,
)  # fmt: skip

ADIENCE_EACH = 8  # images of each person
XQLFW_EACH = 6  # images of each person: the first half good, the second poor
_VIDEOS = 3  # of each person in IJB-S: searched for, enrolled, and from the air
_FRAMES = 3
_BOX = "0,0,112,112"  # FACE_X, FACE_Y, FACE_WIDTH, FACE_HEIGHT


@dataclass(frozen=True)
class Ijbs:
    """IJB-S: name of each face, SUBJECT/FILE without extension, and the rows of its lists by file."""

    sittings: tuple[Sitting, ...]
    names: tuple[str, ...]
    lists: dict[str, list[str]]


def ijbs(config: Config) -> Ijbs:
    """Plan IJB-S: four of five people are enrolled, alternately in gallery 1 and 2; each video shows two people.

    Of the second person in every tenth person's first video no face could be aligned: an empty template.
    """
    stream, subjects = STREAMS["ijbs"], config.eval.ijbs_subjects
    rng = generator(config.seed, stream, PLANNER, 0)
    plan = _IjbsPlan(subjects)
    for person in range(subjects):
        plan.add_stills(rng, person)
        for place in range(_VIDEOS):
            plan.add_video(rng, person, place)
    return Ijbs(sittings_of(stream, plan.people), tuple(plan.names), plan.lists)


class _IjbsPlan:
    """Built person by person; a subject is its person + 1."""

    def __init__(self, subjects: int) -> None:
        self.subjects = subjects
        self.people: dict[int, list[Picture]] = {}
        self.names: list[str] = []
        galleries = [f"galleries/{kind}_g{g}" for kind in ("single", "booking", "surveillance") for g in (1, 2)]
        self.lists: dict[str, list[str]] = {
            key: [] for key in ("metadata", "single", "surveillance", "uav", *galleries)
        }

    def _add(self, person: int, file: str, picture: Picture) -> None:
        self.people.setdefault(person, []).append(picture)
        self.names.append(f"{person + 1}/{file}")

    def add_stills(self, rng: Rng, person: int) -> None:
        """Add three booking photographs; the first is frontal and is the single image."""
        gallery = 1 + person % 2
        for place in range(3):
            number = 100 * (person + 1) + place
            quality = float(rng.uniform(0.85, 1))
            pose = FRONTAL if place == 0 else CROSS_POSE
            self._add(person, f"img_{number}", Picture(len(self.names), quality, pose, plain=True))
            self.lists["metadata"].append(f"{person + 1},img/{number}.png,{_BOX},0")
            row = f"{person + 1},{person + 1},img/{number}.png,{_BOX},0"
            if person % 5 != 4:
                self.lists[f"galleries/booking_g{gallery}"].append(row)
                if place == 0:
                    self.lists[f"galleries/single_g{gallery}"].append(row)

    def add_video(self, rng: Rng, person: int, place: int) -> None:
        """Add a video of a person and the next one: probe (0), enrolled (1) or from a drone (2)."""
        number = 10 * (person + 1) + place
        level = float(rng.uniform(0.05, 0.3) if place == 2 else rng.uniform(0.1, 0.55))
        for seen in (person, (person + 1) % self.subjects):
            failed = seen != person and number % 100 == 10
            for frame in range(_FRAMES):
                self.lists["metadata"].append(f"{seen + 1},videos/{number}.mp4,{_BOX},{frame}")
                quality = min(max(level + float(rng.normal(0, 0.05)), 0.03), 1.0)
                if not failed:
                    picture = Picture(len(self.names), quality, WEB, scene=number)
                    self._add(seen, f"videos_{number}_{frame}", picture)
        if place == 0:
            self.lists["single"].append(f"videos/{number}.mp4")
            self.lists["surveillance"].append(f"videos/{number}.mp4")
        elif place == 1 and person % 5 != 4:
            row = f"{person + 1},{person + 1},videos/{number}.mp4,{_BOX},0"
            self.lists[f"galleries/surveillance_g{1 + person % 2}"].append(row)
        elif place == 2 and person % 2 == 0:
            self.lists["uav"].append(f"videos/{number}.mp4")


@dataclass(frozen=True)
class NamedPairs:
    """A set of named images: name of each slot, and pairs of slots."""

    sittings: tuple[Sitting, ...]
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]


def adience(config: Config) -> NamedPairs:
    """Plan Adience: photographs of all qualities, eight per person, and every pair of them."""
    stream, images = STREAMS["adience"], config.eval.adience_images
    rng = generator(config.seed, stream, PLANNER, 0)
    people: dict[int, list[Picture]] = {}
    for slot in range(images):
        people.setdefault(slot // ADIENCE_EACH, []).append(Picture(slot, float(rng.uniform(0.08, 1))))
    names = tuple(f"p_{slot // ADIENCE_EACH + 1}_img_{slot}" for slot in range(images))
    pairs = tuple((a, b) for a in range(images) for b in range(a + 1, images))
    return NamedPairs(sittings_of(stream, people), names, pairs)


def xqlfw(config: Config) -> NamedPairs:
    """Plan XQLFW: each pair is a good and a poor image; per fold genuine pairs, then impostors."""
    stream, per_fold = STREAMS["xqlfw"], config.eval.xqlfw_pairs // (2 * NUM_FOLDS)
    rng = generator(config.seed, stream, PLANNER, 0)
    half = XQLFW_EACH // 2
    people: dict[int, list[Picture]] = {}
    for person in range(config.eval.identities):
        people[person] = [
            Picture(XQLFW_EACH * person + k, float(rng.uniform(0.75, 1) if k < half else rng.uniform(0.05, 0.4)))
            for k in range(XQLFW_EACH)
        ]
    pairs: list[tuple[int, int]] = []
    for fold in range(NUM_FOLDS):
        members = fold_members(config.eval.identities, fold)
        ways = list(product(members, range(half), range(half)))
        order = rng.permutation(len(ways))
        for k in range(per_fold):
            person, good, poor = ways[int(order[k % len(ways)])]
            pairs.append((XQLFW_EACH * person + good, XQLFW_EACH * person + half + poor))
        for _ in range(per_fold):
            first, second = rng.choice(members, 2, replace=False).tolist()
            good, poor = int(rng.integers(half)), int(rng.integers(half))
            pairs.append((XQLFW_EACH * first + good, XQLFW_EACH * second + half + poor))
    names = tuple(f"{person_name(slot // XQLFW_EACH)}_{slot % XQLFW_EACH + 1:04d}" for slot in _slots(people))
    return NamedPairs(sittings_of(stream, people), names, tuple(pairs))


def person_name(person: int) -> str:
    """Return a name in LFW's style."""
    return f"Person_{person + 1:03d}"


def _slots(people: dict[int, list[Picture]]) -> list[int]:
    return sorted(picture.slot for pictures in people.values() for picture in pictures)
