"""Small test sets in the official layouts, and a backbone that recognises a person by the image's colour."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io

from stages.core.images.alignment import TEMPLATE_52
from stages.core.metrics.features import Features
from stages.datasets import insightface_rec, verification_bin

SIZE = 112


def face(identity: int, seed: int = 0) -> np.ndarray:
    """Return an aligned image in one colour per identity, redder than blue as faces are, with variations of brightness."""
    colour = np.sort(np.random.default_rng(identity).integers(40, 216, 3))
    shade = np.random.default_rng((identity, seed)).integers(-30, 31, (4, 4, 3))
    return np.kron(colour + shade, np.ones((SIZE // 4, SIZE // 4, 1))).astype(np.uint8)


def encoded(identity: int, seed: int = 0) -> bytes:
    return cv2.imencode(".png", face(identity, seed))[1].tobytes()


def embed(images) -> Features:
    """Return mean colour minus grey, and its variation; the mirrored image differs slightly."""
    rows = [[*(image.mean(axis=(0, 1)) - 128) / 50, image.std() / 50] for image in images]
    feature_ND = np.array(rows, np.float32)
    return Features(feature_ND, feature_ND * np.float32(0.9) + np.float32(0.01))


def write_bin(path: Path, num_pairs: int = 40, num_identities: int = 8) -> None:
    """Write genuine and impostor pairs alternately."""
    images, is_same = [], []
    for pair in range(num_pairs):
        first = pair % num_identities
        second = first if pair % 2 == 0 else (first + 1 + pair % (num_identities - 1)) % num_identities
        images += [encoded(first, 2 * pair), encoded(second, 2 * pair + 1)]
        is_same.append(first == second)
    path.parent.mkdir(parents=True, exist_ok=True)
    verification_bin.write(path, images, is_same)


def write_train(folder: Path, num_identities: int = 4, images_each: int = 3) -> None:
    """Write a training set of aligned images as InsightFace does."""
    images = [(encoded(identity, seed), identity) for identity in range(num_identities) for seed in range(images_each)]
    insightface_rec.write(folder, images, num_identities)


def write_ijb(folder: Path, name: str = "IJBB", num_templates: int = 20, images_each: int = 3) -> Path:
    """Write two templates per identity; the last two images of a template are frames of one video."""
    crops, meta = folder / name / "loose_crop", folder / name / "meta"
    crops.mkdir(parents=True)
    meta.mkdir()
    landmarks = " ".join(f"{value:.4f}" for value in TEMPLATE_52.ravel())
    points, media = [], []
    for template in range(1, num_templates + 1):
        for image in range(images_each):
            file = f"{len(points) + 1}.jpg"
            (crops / file).write_bytes(encoded(template // 2, 100 * template + image))
            points.append(f"{file} {landmarks} 0.9{image}")
            media.append(f"{file} {template} {100 * template + min(image, 1)}")
    pairs = [
        f"{first} {second} {int(first // 2 == second // 2)}"
        for first in range(1, num_templates + 1)
        for second in range(first + 1, num_templates + 1)
    ]
    for stem, lines in (("name_5pts_score", points), ("face_tid_mid", media), ("template_pair_label", pairs)):
        (meta / f"{name.lower()}_{stem}.txt").write_text("\n".join(lines) + "\n")
    return meta


def write_tinyface(folder: Path, num_identities: int = 6, num_distractors: int = 5) -> Path:
    """Write one probe and one mate each; return the folder of lists."""
    testing, aligned = folder / "tinyface/Testing_Set", folder / "aligned_pad_0.1_pad_high"
    files = {
        "Probe": [(f"{identity}_1", identity) for identity in range(1, num_identities + 1)],
        "Gallery_Match": [(f"{identity}_2", identity) for identity in range(1, num_identities + 1)],
        "Gallery_Distractor": [(f"{number}", 100 + number) for number in range(num_distractors)],
    }
    for kind, listed in files.items():
        (testing / kind).mkdir(parents=True)
        (aligned / kind).mkdir(parents=True)
        for stem, identity in listed:
            (testing / kind / f"{stem}.jpg").write_bytes(b"")
            (aligned / kind / f"{stem}.jpg").write_bytes(encoded(identity, hash_of(stem)))
    write_list(testing / "probe_img_ID_pairs.mat", "probe", files["Probe"])
    write_list(testing / "gallery_match_img_ID_pairs.mat", "gallery", files["Gallery_Match"])
    return testing


def hash_of(text: str) -> int:
    return sum(map(ord, text))


def write_list(path: Path, key: str, listed: list[tuple[str, int]]) -> None:
    names = np.empty((len(listed), 1), dtype=object)
    names[:, 0] = [f"{stem}.jpg" for stem, _ in listed]
    scipy.io.savemat(path, {f"{key}_set": names, f"{key}_ids": np.array([[identity] for _, identity in listed])})


def write_scface(folder: Path, num_subjects: int = 5) -> Path:
    """Write a frontal image, cameras 1 and 2 at three distances, and cameras to be left out; return the list."""
    names = []
    (folder / "aligned").mkdir(parents=True)
    for subject in range(1, num_subjects + 1):
        kinds = ["frontal", "cam6_1", "cam7_2", "cam8"]
        kinds += [f"cam{camera}_{distance}" for camera in (1, 2) for distance in (1, 2, 3)]
        for seed, kind in enumerate(kinds):
            names.append(f"{subject:03d}_{kind}")
            (folder / "aligned" / f"{names[-1]}.jpg").write_bytes(encoded(subject, seed))
    path = folder / "all.txt"
    path.write_text("".join(f"{name}\t38\t52\t74\t52\t56\t72\t56\t92\n" for name in names))
    return path


def write_search(meta: Path, mates: int = 5, strangers: int = 2) -> None:
    """Write 1:N lists beside ``write_ijb``: subject k has templates 2k, 2k + 1; galleries alternate; two files."""
    stem, sets = meta.parent.name.lower(), ("S1", "S2") if meta.parent.name == "IJBB" else ("G1", "G2")
    lists = {f"gallery_{sets[0]}": [], f"gallery_{sets[1]}": [], "probe_mixed": []}
    for subject in range(1, mates + strangers + 1):
        if subject <= mates:
            lists[f"gallery_{sets[subject % 2]}"].append((2 * subject, subject))
        lists["probe_mixed"].append((2 * subject + 1, subject))
    for name, rows in lists.items():
        lines = [f"{template},{subject},img/{k}.jpg,1,0,0,9,9" for template, subject in rows for k in range(2)]
        header = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT"
        (meta / f"{stem}_1N_{name}.csv").write_text("\r\n".join([header, *lines]) + "\r\n")


def write_ijbs(folder: Path, num_subjects: int = 6) -> Path:
    """Write subjects 1 to 4 enrolled (odd: gallery 1), two videos of each subject and the next; return protocols/."""
    protocols = folder / "protocols"
    (protocols / "galleries").mkdir(parents=True)
    metadata, faces = [], {}
    for subject in range(1, num_subjects + 1):
        for video in (10 * subject, 10 * subject + 1):
            for seen in (subject, subject % num_subjects + 1):
                for frame in (1, 2):
                    metadata.append(f"{seen},videos/{video}.mp4,1,2,30,30,{frame}")
                    faces[f"{seen}/videos_{video}_{frame}.jpg"] = encoded(seen, 100 * video + frame)
        for image in (1, 2, 3):
            number = 100 * subject + image
            metadata.append(f"{subject},img/{number}.png,1,2,30,30,0")
            faces[f"{subject}/img_{number}.jpg"] = encoded(subject, number)
    for name, jpeg in faces.items():
        (folder / "aligned" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "aligned" / name).write_bytes(jpeg)
    write_csv(protocols / "cs6_metadata.csv", metadata)
    first = [f"videos/{10 * subject}.mp4" for subject in range(1, num_subjects + 1)]
    write_csv(protocols / "cs6_surveillance_to_single-booking_probe.csv", first)
    write_csv(protocols / "cs6_surveillance_to_surveillance_probe.csv", first)
    write_csv(protocols / "cs6_uav_to_single-booking_probe.csv", ["videos/21.mp4", "img/503.png"])
    for number in (1, 2):
        mine = [subject for subject in (1, 2, 3, 4) if subject % 2 == number % 2]
        single = [f"{s},{s},img/{100 * s + 1}.png,1,2" for s in mine]
        booking = [f"{s},{s},img/{100 * s + k}.png,1,2" for s in mine for k in (1, 2)]
        surveillance = [f"{s},{s},videos/{10 * s + 1}.mp4,1,2" for s in mine for _ in range(2)]
        for kind, lines in (("single", single), ("booking", booking), ("surveillance", surveillance)):
            write_csv(protocols / f"galleries/cs6_surveillance_to_{kind}_g{number}.csv", lines)
    return protocols


def write_csv(path: Path, lines: list[str]) -> None:
    path.write_text("HEADER\n" + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_pair_list(folder: Path, num_people: int = 4, images_each: int = 3) -> Path:
    """Write Adience in CR-FIQA's layout: all pairs; return the list."""
    (folder / "images").mkdir(parents=True)
    stems = [f"p_{person}_img_{images_each * person + k}" for person in range(num_people) for k in range(images_each)]
    for seed, stem in enumerate(stems):
        (folder / "images" / f"{stem}.jpg").write_bytes(encoded(int(stem.split("_")[1]), seed))
    lines = [
        f"{a} {b} {int(a.split('_')[1] == b.split('_')[1])}" for k, a in enumerate(stems) for b in stems[k + 1 :]
    ]
    (folder / "pair_list.txt").write_text("\n".join(lines) + "\n")
    return folder / "pair_list.txt"


def write_xqlfw(folder: Path, people: tuple[str, ...] = ("Ann_Lee", "José_Niño", "Bo_Ek")) -> Path:
    """Write XQLFW as published; return its pairs."""
    lines = [f"1\t{len(people)}"]
    for number, name in enumerate(people):
        (folder / "xqlfw_aligned_112" / name).mkdir(parents=True)
        for k in (1, 2):
            (folder / "xqlfw_aligned_112" / name / f"{name}_{k:04d}.jpg").write_bytes(encoded(number, k))
        lines.append(f"{name}\t1\t2")
    lines += [f"{a}\t1\t{b}\t2" for a, b in zip(people, people[1:] + people[:1], strict=True)]
    (folder / "xqlfw_pairs.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "xqlfw_pairs.txt"
