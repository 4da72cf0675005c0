"""Plans: every slot once, identities apart, folds and templates as the protocols want them; all sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.core.images.degrade import side_of
from stages.synthesis import plan, plan_other_sets
from stages.synthesis.config import Config


def config(**eval_sizes: int) -> Config:
    sizes = {
        "identities": 20, "pairs": 40, "ijb_templates": 30, "tinyface_distractors": 5,
        "ijbc_templates": 12, "ijbs_subjects": 11, "adience_images": 20, "xqlfw_pairs": 40, "more_pairs": 20,
        **eval_sizes,
    }  # fmt: skip
    return Config.model_validate(
        {
            "seed": 3,
            "train": {"identities": 4, "images_per_identity": 3, "low_quality_share": 0.25},
            "eval": sizes,
        }
    )


def all_sittings(chosen: Config) -> dict[str, list[plan.Sitting]]:
    sets = {name: list(plan.pairs(chosen, name).sittings) for name in (*plan.PAIR_SETS, *plan.MORE_PAIR_SETS)}
    return {
        "train": plan.train_sittings(chosen),
        **sets,
        "IJBB": list(plan.ijb(chosen).sittings),
        "tinyface": list(plan.tinyface(chosen).sittings),
        "scface": list(plan.scface(chosen).sittings),
        "IJBC": list(plan.ijb(chosen, "IJBC").sittings),
        "ijbs": list(plan_other_sets.ijbs(chosen).sittings),
        "adience": list(plan_other_sets.adience(chosen).sittings),
        "xqlfw": list(plan_other_sets.xqlfw(chosen).sittings),
    }


sizes = st.fixed_dictionaries(
    {
        "identities": st.integers(4, 45),
        "pairs": st.integers(1, 4).map(lambda n: 20 * n),
        "ijb_templates": st.integers(4, 70),
        "tinyface_distractors": st.integers(0, 9),
        "ijbs_subjects": st.integers(5, 23),
        "adience_images": st.integers(2, 30),
        "xqlfw_pairs": st.integers(1, 4).map(lambda n: 20 * n),
    }
)


@given(sizes)
def test_every_slot_of_every_set_is_drawn_once_with_a_quality_in_the_unit_interval(chosen: dict[str, int]):
    for name, sittings in all_sittings(config(**chosen)).items():
        slots = sorted(picture.slot for sitting in sittings for picture in sitting.pictures)
        assert slots == list(range(len(slots))), name
        assert len(slots) > 0
        assert all(0 <= picture.quality <= 1 for sitting in sittings for picture in sitting.pictures)


@given(sizes)
def test_no_two_sets_share_an_identity(chosen: dict[str, int]):
    numbers = [
        plan.identity_number(sitting.stream, sitting.identity)
        for sittings in all_sittings(config(**chosen)).values()
        for sitting in sittings
    ]
    assert len(numbers) == len(set(numbers))


def test_random_streams_of_different_places_differ():
    firsts = {
        tuple(plan.generator(*place).integers(2**62, size=2))
        for place in ((1, 0, 0, 0), (1, 0, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0), (2, 0, 0, 0), (0, 1, 0, 0))
    }
    assert len(firsts) == 6


@given(sizes)
def test_pairs_are_half_genuine_in_every_fold_and_say_so_truly(chosen: dict[str, int]):
    for name in plan.PAIR_SETS:
        pairs = plan.pairs(config(**chosen), name)
        person_of = {p.slot: sitting.identity for sitting in pairs.sittings for p in sitting.pictures}
        per_fold = len(pairs.is_same) // plan.NUM_FOLDS
        for k, same in enumerate(pairs.is_same):
            assert (person_of[2 * k] == person_of[2 * k + 1]) == same
            assert same == (k % per_fold < per_fold // 2)


@pytest.mark.parametrize("identities", [20, 37, 100])
def test_folds_share_no_identity_from_twenty_on(identities: int):
    pairs = plan.pairs(config(identities=identities, pairs=200), "lfw")
    folds_of: dict[int, set[int]] = {}
    for sitting in pairs.sittings:
        folds_of[sitting.identity] = {picture.slot // 40 for picture in sitting.pictures}
    assert all(len(folds) == 1 for folds in folds_of.values())


def test_each_verification_set_is_about_what_its_name_says():
    chosen = config(pairs=200)
    pictures = {
        name: {p.slot: p for s in plan.pairs(chosen, name).sittings for p in s.pictures}
        for name in plan.PAIR_SETS
    }
    assert all(
        p.pose.yaw_min >= 40 if slot % 2 else p.pose.yaw_max <= 15 for slot, p in pictures["cfp_fp"].items()
    )
    assert all(p.pose.yaw_min >= 10 for p in pictures["cplfw"].values())
    for name, gap in (("calfw", 0.35), ("agedb_30", 0.5)):
        ages = np.array([pictures[name][slot].age for slot in range(400)], float).reshape(-1, 2)
        assert np.abs(np.diff(ages, axis=1)).min() >= gap
        assert ages.min() >= 0
        assert ages.max() <= 1


def test_training_looks_like_a_web_collection_with_the_asked_share_of_low_quality():
    many = Config.model_validate(
        {
            **config().model_dump(),
            "train": {"identities": 100, "images_per_identity": 20, "low_quality_share": 0.25},
        }
    )
    quality = np.array([p.quality for s in plan.train_sittings(many) for p in s.pictures])
    assert (quality < 0.65).mean() == pytest.approx(0.25, abs=0.03)
    assert quality[quality >= 0.65].min() >= 0.7


@given(sizes)
def test_ijb_templates_have_one_gallery_entry_per_subject_and_media_of_one_template(chosen: dict[str, int]):
    ijb = plan.ijb(config(**chosen))
    assert len(ijb.templates) == chosen["ijb_templates"]
    assert [template.number for template in ijb.templates] == list(range(1, len(ijb.templates) + 1))
    galleries = Counter(template.subject for template in ijb.templates if template.is_gallery)
    assert set(galleries.values()) == {1}
    assert (
        min(Counter(template.subject for template in ijb.templates).values()) >= 2
    )  # so a genuine pair each
    media = [set(template.media) for template in ijb.templates]
    assert sum(map(len, media)) == len(set.union(*media))
    assert [slot for template in ijb.templates for slot in template.slots] == list(
        range(sum(len(template.slots) for template in ijb.templates))
    )


def test_ijb_mixes_stills_and_videos_of_several_frames():
    ijb = plan.ijb(config(identities=40, ijb_templates=160))
    frames = Counter(Counter(medium for t in ijb.templates for medium in t.media).values())
    assert frames[1] > 50
    assert frames[2] + frames[3] > 50
    assert any(len(set(t.media)) > 1 and len(t.media) > len(set(t.media)) for t in ijb.templates)


def test_scface_has_fifteen_views_and_a_frontal_of_everyone_at_three_distances():
    scface = plan.scface(config())
    views = Counter(name.partition("_")[2] for name in scface.names)
    assert views["frontal"] == 20
    assert all(views[f"cam{c}_{d}"] == 20 for c in range(1, 6) for d in (1, 2, 3))
    assert 0 < views["cam8"] < 20
    quality = {p.slot: p.quality for s in scface.sittings for p in s.pictures}
    for distance, side in plan.SCFACE_SIDES.items():
        found = [side_of(quality[k]) for k, name in enumerate(scface.names) if name.endswith(f"_{distance}")]
        assert np.median(found) == pytest.approx(side, rel=0.15)


def test_tinyface_faces_are_fourteen_to_twenty_eight_pixels():
    tinyface = plan.tinyface(config())
    sides = [side_of(p.quality) for s in tinyface.sittings for p in s.pictures]
    assert min(sides) >= 14 - 1e-9
    assert max(sides) <= 28 + 1e-9
    assert sum(name.startswith("Gallery_Distractor/") for name in tinyface.names) == 5


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("train", "identities", 1),
        ("eval", "identities", 3),
        ("eval", "identities", 65536),
        ("eval", "pairs", 30),
        ("eval", "ijb_templates", 3),
        ("eval", "tinyface_distractors", -1),
    ],
)
def test_sizes_that_cannot_work_are_refused_by_name(section: str, field: str, value: int):
    tree = config().model_dump()
    tree[section][field] = value
    with pytest.raises(ValidationError, match=field):
        Config.model_validate(tree)


def test_a_seed_of_two_words_is_refused_since_streams_could_meet():
    with pytest.raises(ValidationError, match="seed"):
        Config.model_validate({**config().model_dump(), "seed": 2**32})


def test_sets_added_later_leave_the_streams_of_the_others_as_they_were():
    assert [plan.STREAMS[name] for name in (*plan.SETS, "sheet", "levels")] == list(range(11))


def test_xqlfw_pairs_a_good_with_a_poor_image_and_folds_share_nobody():
    planned = plan_other_sets.xqlfw(config(xqlfw_pairs=40))
    quality = {p.slot: p.quality for s in planned.sittings for p in s.pictures}
    assert all(quality[a] >= 0.75 and quality[b] <= 0.4 for a, b in planned.pairs)
    people = [(a // plan_other_sets.XQLFW_EACH, b // plan_other_sets.XQLFW_EACH) for a, b in planned.pairs]
    assert [a == b for a, b in people] == [True, True, False, False] * 10
    folds = [{person for pair in people[4 * k : 4 * k + 4] for person in pair} for k in range(10)]
    assert all(not folds[a] & folds[b] for a in range(10) for b in range(a))
    assert len(set(planned.pairs[:2])) == 2


def test_ijbs_enrols_four_of_five_and_has_a_template_without_a_face():
    planned = plan_other_sets.ijbs(config(ijbs_subjects=11))
    rows = planned.lists["galleries/single_g1"] + planned.lists["galleries/single_g2"]
    assert sorted(int(row.split(",")[1]) for row in rows) == [1, 2, 3, 4, 6, 7, 8, 9, 11]
    assert not any(name.startswith("2/videos_10_") for name in planned.names)
    assert any(row.startswith("2,videos/10.mp4") for row in planned.lists["metadata"])


@pytest.mark.parametrize("field", ["ijbc_templates", "ijbs_subjects", "adience_images"])
def test_a_set_too_small_to_be_one_is_refused_and_none_is_not(field: str):
    with pytest.raises(ValidationError, match=f"{field} should be 0 or at least"):
        config(**{field: 1})
    assert getattr(config(**{field: 0}).eval, field) == 0


def with_low_variance(**fields: object) -> Config:
    train = {"identities": 40, "images_per_identity": 3, "low_quality_share": 0.25}
    low_variance = {"share": 0.3, "quality": "low", **fields} if fields.pop("on", True) else None
    return Config.model_validate({**config().model_dump(), "train": {**train, "low_variance": low_variance}})


def test_some_training_identities_are_seen_in_near_duplicates_of_low_quality_and_the_others_stay():
    chosen, plain = with_low_variance(images_per_identity=5), with_low_variance(on=False)
    few = plan.low_variance_identities(chosen)
    assert len(few) == 12
    assert plan.low_variance_identities(plain) == frozenset()
    sittings = plan.train_sittings(chosen)
    for sitting, before in zip(sittings, plan.train_sittings(plain), strict=True):
        qualities = [picture.quality for picture in sitting.pictures]
        if sitting.identity in few:
            assert len(qualities) == 5
            assert max(qualities) - min(qualities) <= 0.06
            assert 0.05 <= min(qualities) <= max(qualities) <= 0.35
            assert {picture.near for picture in sitting.pictures} == {1.0}
        else:
            assert qualities == [picture.quality for picture in before.pictures]
            assert {picture.near for picture in sitting.pictures} == {None}
    slots = [picture.slot for sitting in sittings for picture in sitting.pictures]
    assert slots == list(range(12 * 5 + 28 * 3))


def test_near_duplicates_of_mixed_quality_span_it():
    chosen = with_low_variance(quality="mixed", images_per_identity=40)
    few = plan.low_variance_identities(chosen)
    for sitting in plan.train_sittings(chosen):
        if sitting.identity in few:
            qualities = [picture.quality for picture in sitting.pictures]
            assert min(qualities) < 0.3
            assert max(qualities) > 0.8


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.999, 39)])
def test_low_variance_is_never_of_none_or_of_all(share: float, count: int):
    assert len(plan.low_variance_identities(with_low_variance(share=share))) == count


def test_a_plan_without_low_variance_is_the_one_it_was():
    qualities = [round(p.quality, 6) for s in plan.train_sittings(config())[:2] for p in s.pictures]
    assert qualities == [0.830251, 0.562486, 0.781906, 0.578588, 0.950667, 0.881924]
