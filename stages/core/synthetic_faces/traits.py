"""Traits that distinguish synthetic identities, and their variances; palettes of skin and hair.

Units and axes are those of face_model.
"""

from __future__ import annotations

Bgr = tuple[float, float, float]

# name: (mean, standard deviation) of a normal distribution cut at two deviations
TRAITS: dict[str, tuple[float, float]] = {
    # skull and jaw
    "face_width": (1.0, 0.05),
    "forehead_width": (0.0, 1.5),
    "cheek_width": (0.0, 1.6),
    "jaw_width": (0.0, 2.3),
    "chin_width": (0.0, 2.4),
    "chin_y": (0.0, 2.4),
    "chin_z": (0.0, 1.8),
    "cheek_z": (2.6, 1.2),
    "cheek_y": (13.0, 2.2),
    "hollow": (1.0, 1.3),
    "brow_ridge": (1.6, 0.9),
    "ear_size": (1.0, 0.13),
    "ear_out": (1.0, 0.5),
    # eyes
    "eye_x": (17.6, 1.0),
    "eye_y": (0.0, 0.9),
    "eye_depth": (4.6, 1.1),
    "eye_width": (8.2, 0.75),
    "eye_upper": (4.3, 0.6),
    "eye_lower": (2.5, 0.4),
    "eye_tilt": (0.5, 0.8),
    "eye_apex": (-0.05, 0.22),
    "lid_crease": (2.3, 0.8),
    "lash": (0.45, 0.25),
    "iris": (3.5, 0.2),
    "bags": (0.35, 0.25),
    # brows
    "brow_y": (-11.2, 1.5),
    "brow_arch": (1.8, 1.1),
    "brow_tilt": (0.9, 1.2),
    "brow_inner": (7.4, 1.3),
    "brow_length": (20.5, 1.6),
    "brow_thickness": (2.5, 0.75),
    "brow_density": (0.7, 0.17),
    # nose
    "nose_length": (20.5, 1.7),
    "nose_tip": (13.2, 2.0),
    "nose_bridge": (5.0, 1.4),
    "nose_bridge_width": (3.7, 0.55),
    "nose_tip_width": (4.6, 0.7),
    "nose_wings": (7.2, 1.0),
    "nose_hump": (0.0, 0.9),
    "nose_up": (0.0, 0.8),
    "nostril": (1.0, 0.2),
    # mouth
    "mouth_y": (40.6, 1.5),
    "mouth_width": (13.6, 1.3),
    "lip_upper": (3.7, 0.8),
    "lip_lower": (4.8, 0.9),
    "lip_z": (2.5, 0.8),
    "cupid": (1.0, 0.5),
    "mouth_curve": (0.0, 0.8),
    # skin
    "fold": (0.35, 0.3),
    "freckles": (0.25, 0.35),
    "mottle": (1.0, 0.3),
    "wrinkles": (1.0, 0.3),
    "hairline": (-42.5, 2.8),
    "recession": (3.0, 2.5),
}

HAIR_COLOURS: tuple[Bgr, ...] = (
    (22, 24, 30),
    (26, 34, 48),
    (34, 52, 82),
    (50, 80, 120),
    (88, 132, 172),
    (118, 172, 208),
    (38, 60, 128),
    (150, 154, 158),
)
SKIN_TONES: tuple[Bgr, ...] = (
    (188, 206, 236),
    (160, 184, 222),
    (128, 160, 206),
    (100, 132, 182),
    (66, 92, 140),
)
GREY_HAIR: Bgr = (158, 162, 166)
