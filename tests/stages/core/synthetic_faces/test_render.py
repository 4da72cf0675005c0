"""Drawn faces: landmarks lie where they are said to, heads turn as solid bodies, drawing repeats itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.core.images.alignment import SIZE, TEMPLATE_52, similarity
from stages.core.synthetic_faces import render
from stages.core.synthetic_faces.model import (
    CROSS_POSE,
    FRONTAL,
    PROFILE,
    WEB,
    Pose,
    Shot,
    draw_identity,
    draw_shot,
    passport,
)  # fmt: skip
from stages.core.synthetic_faces.render import Frame, Person, build_person, draw
from stages.core.synthetic_faces.scene import Scene
from stages.core.synthetic_faces.traits import TRAITS


def someone(number: int) -> Person:
    return build_person(draw_identity(np.random.default_rng([7, number])))


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return [someone(number) for number in range(12)]


def test_aligned_frontal_faces_have_their_landmarks_on_the_template(people: list[Person]):
    marks_K52 = np.stack([draw(person, passport(person.identity)).landmarks_52 for person in people])
    for marks_52 in marks_K52:
        # no similarity brings them nearer: the face is aligned
        np.testing.assert_allclose(similarity(marks_52), [[1, 0, 0], [0, 1, 0]], atol=1e-6)
        assert np.abs(marks_52 - TEMPLATE_52).max() < 6
    assert np.abs(marks_K52.mean(axis=0) - TEMPLATE_52).max() < 2


def test_pupils_are_drawn_where_the_eye_landmarks_say(people: list[Person]):
    for person in people:
        drawing = draw(person, passport(person.identity))
        grey = cv2.cvtColor(drawing.image_HW3, cv2.COLOR_BGR2GRAY).astype(float)
        for x, y in drawing.landmarks_52[:2]:
            column, row = round(x), round(y)
            eye = grey[row - 2 : row + 3, column - 2 : column + 3].mean()
            cheek = grey[row + 14 : row + 19, column - 2 : column + 3].mean()
            assert eye < 0.75 * cheek


@pytest.mark.parametrize("yaw", [20.0, 40.0, 60.0])
def test_turning_the_head_moves_the_nose_by_parallax(people: list[Person], yaw: float):
    person = people[0]
    shot = passport(person.identity)
    noses = []
    for angle in (-yaw, 0.0, yaw):
        marks_52 = draw(person, replace(shot, face=replace(shot.face, yaw=angle))).landmarks_52
        noses.append(marks_52[2, 0] - marks_52[:2, 0].mean())
    left, middle, right = noses
    assert abs(middle) < 0.5
    assert right == pytest.approx(-left, abs=0.5)  # a head is symmetric
    assert right > 14 * np.sin(np.deg2rad(yaw))  # px: the tip stands out from the plane of the eyes


def test_looking_up_moves_the_nose_towards_the_eyes(people: list[Person]):
    shot = passport(people[0].identity)
    heights = []
    for pitch in (-15.0, 0.0, 15.0):
        marks_52 = draw(people[0], replace(shot, face=replace(shot.face, pitch=pitch))).landmarks_52
        heights.append((marks_52[2, 1] - marks_52[:2, 1].mean()) / (marks_52[3:, 1].mean() - marks_52[:2, 1].mean()))
    assert heights[0] > heights[1] > heights[2]


def test_the_same_shot_gives_the_same_pixels_in_any_order(people: list[Person]):
    shots = [draw_shot(np.random.default_rng(k), people[0].identity) for k in range(4)]
    forwards = [draw(people[0], shot).image_HW3 for shot in shots]
    again = build_person(people[0].identity)
    backwards = [draw(again, shot).image_HW3 for shot in reversed(shots)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not np.array_equal(forwards[0], forwards[1])


def test_the_head_has_no_holes(people: list[Person], monkeypatch: pytest.MonkeyPatch):
    def green(scene: Scene, height: int, width: int) -> np.ndarray:
        return np.full((height, width, 3), (0, 255, 0), np.uint8)

    monkeypatch.setattr(Scene, "background", green)
    monkeypatch.setattr(Scene, "draw_behind", lambda scene, canvas: None)
    for person in people:
        for yaw, pitch in (
            (-65.0, 0.0),
            (-30.0, 15.0),
            (0.0, -15.0),
            (0.0, 15.0),
            (30.0, -15.0),
            (65.0, 0.0),
        ):
            shot = passport(person.identity)
            face = replace(shot.face, yaw=yaw, pitch=pitch, weight=1.8, mouth_open=0.8)
            image = draw(person, replace(shot, face=face)).image_HW3.astype(int)
            behind = image[..., 1] > image[..., [0, 2]].max(axis=2) + 25
            _, patches = cv2.connectedComponents(behind.astype(np.uint8))
            border = {*patches[0], *patches[-1], *patches[:, 0], *patches[:, -1]}
            assert set(np.unique(patches)) <= border | {0}


def test_what_faces_away_does_not_show_through(people: list[Person], monkeypatch: pytest.MonkeyPatch):
    # the underside of the chin is written before the jaw that hides it; a gap in the jaw would show it
    def dress(person: Person, shot: Shot, part: tuple[slice, slice]) -> np.ndarray:
        wide, tall = (part[k].stop - part[k].start for k in (0, 1))
        colour_ST3 = np.full((wide, tall, 3), 150, np.uint8)
        colour_ST3[:, max(int(np.argmax(person.y_T)) + 4 - part[1].start, 0) :] = (0, 255, 0)
        return colour_ST3

    monkeypatch.setattr(render, "_dress", dress)
    monkeypatch.setattr(Scene, "background", lambda scene, height, width: np.zeros((height, width, 3), np.uint8))
    for person in people:
        for pitch in (-12.0, 0.0):
            shot = passport(person.identity)
            shot = replace(shot, face=replace(shot.face, pitch=pitch, mouth_open=0.8))
            image = draw(person, shot).image_HW3.astype(int)[:100]
            assert (image[..., 1] - image[..., 0]).max() < 30


def test_a_face_may_stand_anywhere_in_a_frame(people: list[Person]):
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    target_52 = (TEMPLATE_52 - 56) @ rotation * 0.7 + (60, 90)
    drawing = draw(people[1], passport(people[1].identity), Frame(180, 130, target_52))
    assert drawing.image_HW3.shape == (180, 130, 3)
    np.testing.assert_allclose(similarity(drawing.landmarks_52, target_52), [[1, 0, 0], [0, 1, 0]], atol=1e-6)


def test_traits_stay_within_two_deviations_and_differ_between_people(people: list[Person]):
    for person in people:
        for name, (mean, deviation) in TRAITS.items():
            assert abs(person.identity.traits[name] - mean) <= 2 * deviation + 1e-9
    widths = [person.identity.traits["face_width"] for person in people]
    assert np.std(widths) > 0.5 * TRAITS["face_width"][1]


@pytest.mark.parametrize("pose", [WEB, FRONTAL, CROSS_POSE, PROFILE])
def test_poses_stay_within_their_bounds_on_both_sides(people: list[Person], pose: Pose):
    yaw = np.array([draw_shot(np.random.default_rng(k), people[0].identity, pose).face.yaw for k in range(300)])
    assert np.abs(yaw).min() >= pose.yaw_min
    assert np.abs(yaw).max() <= pose.yaw_max
    assert 0.35 < (yaw > 0).mean() < 0.65


def test_a_given_age_is_the_age_drawn(people: list[Person]):
    assert draw_shot(np.random.default_rng(0), people[0].identity, age=0.9).face.age == 0.9


def test_age_writes_wrinkles(people: list[Person]):
    shot = passport(people[2].identity)
    young, old = (
        draw(people[2], replace(shot, face=replace(shot.face, age=age))).image_HW3[12:36, 36:76] for age in (0.0, 1.0)
    )
    assert old.astype(float).std() > young.astype(float).std()


@pytest.mark.parametrize(("pose", "error"), [(FRONTAL, 0.15), (CROSS_POSE, 0.15), (PROFILE, 0.25)])
def test_a_detector_trained_on_real_faces_finds_the_drawn_ones(
    shared: Path, people: list[Person], pose: Pose, error: float
):
    model = shared / "models" / "yunet_n_640_640.onnx"
    detector = cv2.FaceDetectorYN.create(str(model), "", (320, 400), 0.6)
    distances = []
    for k, person in enumerate(people):
        shot = draw_shot(np.random.default_rng(k), person.identity, pose)
        drawing = draw(person, shot, Frame(200, 160, TEMPLATE_52 + np.array([24, 45])))
        _, found = detector.detect(cv2.resize(drawing.image_HW3, (320, 400), interpolation=cv2.INTER_CUBIC))
        assert found is not None
        marks_52 = found[np.argmax(found[:, -1])][4:14].reshape(5, 2) / 2
        distances.append(np.hypot(*(marks_52 - drawing.landmarks_52).T))
    assert np.median(distances) < error * 35.2  # of the distance between the eyes


def test_the_frame_of_an_aligned_face_is_that_of_the_template():
    drawing = draw(someone(30), passport(someone(30).identity))
    assert drawing.image_HW3.shape == (SIZE, SIZE, 3)
    assert drawing.image_HW3.dtype == np.uint8
