"""Folders of people: a folder of aligned images for each identity, as AdaFace's ``imgs``, CASIA-WebFace and VGGFace2.

    FOLDER/IDENTITY/NAME.jpg        or .jpeg, .png, .bmp, .webp, in any case

Identities are numbered in the order of their folders' names. What is passed over is listed with its reason.

Shapes: N images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import InputError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

HIDDEN = "hidden"
NO_IMAGE = "not called as an image is (" + ", ".join(IMAGES) + ")"
NESTED = "a folder inside an identity's"
EMPTY = "a folder without an image"
BESIDE = "a file beside the identities"
ODD_NAME = "a name with a line break or tab"


@dataclass(frozen=True)
class PeopleFolder:
    """The images of a folder of people, all of identity 0 first, then all of 1, ..."""

    folder: Path
    identities: tuple[str, ...]
    names: tuple[str, ...]
    """IDENTITY/FILE of each image."""
    label_N: NDArray[np.int64]
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    """Paths that are no part of it, by reason."""

    def image_bytes(self, n: int) -> bytes:
        """Return the bytes of image file ``n``, which may hold anything; of a link that leads nowhere, none."""
        try:
            return (self.folder / self.names[n]).read_bytes()
        except FileNotFoundError:
            return b""

    def describe_passed_over(self) -> list[str]:
        """Return a line for each reason: how many, and the first."""
        return [f"{len(paths):,} x {reason}, such as {paths[0]!r}" for reason, paths in self.passed_over.items()]


def load(folder: Path) -> PeopleFolder:
    """List a folder of people; no image is opened.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no folder in it has an image.
    """
    passed_over: dict[str, list[str]] = {}
    identities: list[str] = []
    names: list[str] = []
    labels: list[int] = []
    for entry in _sorted(folder):
        reason = _reason_of_entry(entry)
        found = [] if reason else list(_images(entry, passed_over))
        if reason or not found:
            passed_over.setdefault(reason or EMPTY, []).append(entry.name)
            continue
        labels += [len(identities)] * len(found)
        identities.append(entry.name)
        names += [f"{entry.name}/{name}" for name in found]
    if not identities:
        raise InputError(f"{folder} has no folder with images: wanted a folder for each person, IDENTITY/NAME.jpg")
    label_N = np.array(labels, np.int64)
    return PeopleFolder(folder, tuple(identities), tuple(names), label_N, dict(sorted(passed_over.items())))


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image: by its extension, and not hidden (macOS's ``._x.jpg``)."""
    return not name.startswith(".") and name.lower().endswith(IMAGES)


def _reason_of_entry(entry: os.DirEntry[str]) -> str:
    """Return why an entry beside the identities is passed over, or ""."""
    if entry.name.startswith("."):
        return HIDDEN
    if not entry.is_dir():
        return BESIDE
    return ODD_NAME if _is_odd(entry.name) else ""


def _images(identity: os.DirEntry[str], passed_over: dict[str, list[str]]) -> Iterator[str]:
    for entry in _sorted(Path(identity.path)):
        if entry.name.startswith("."):
            reason = HIDDEN
        elif entry.is_dir():
            reason = NESTED
        elif _is_odd(entry.name):
            reason = ODD_NAME
        else:
            reason = "" if is_image(entry.name) else NO_IMAGE
        if reason:
            passed_over.setdefault(reason, []).append(f"{identity.name}/{entry.name}")
        else:
            yield entry.name


def _is_odd(name: str) -> bool:
    # lists of names have a line for each, with tabs between fields
    return any(character in name for character in "\n\r\t")


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
