"""Readers of training sets and test sets, for the fuzzer: a small sound set of each layout, and how its items are counted."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import scipy.io

from stages.core.errors import InputError
from stages.core.images import decoding
from stages.core.metrics.processing import Failure
from stages.core.recordio.framing import MAGIC, frame
from stages.core.recordio.header import Header, pack
from stages.datasets import ijb, ijbs, insightface_rec, pair_list, scface, tinyface, truth, verification_bin
from stages.packing import pictures, plan, write
from tests.fuzz import mutations
from tests.fuzz.judge import Target
from tests.stages import small_sets

BYTES = (mutations.of_bytes,)
TEXT = (mutations.of_bytes, mutations.of_text, mutations.of_text, mutations.of_text)
PICKLE = (mutations.of_bytes, mutations.of_pickle, mutations.of_pickle)
TABLE = (mutations.of_bytes, mutations.of_table, mutations.of_table)


def picture(seed: int, kind: str = ".jpg") -> bytes:
    """Return a small picture."""
    image = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    return cv2.imencode(kind, image)[1].tobytes()


def lines(data: bytes, header: int = 0) -> int | None:
    """Return how many lines are not blank; None if the text is not ASCII, where other rules begin."""
    if not data.isascii() or b"\0" in data or b'"' in data or any(sign in data for sign in b"\x0b\x0c\x1c\x1d\x1e\x85"):
        return None
    text = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return sum(bool(line.strip()) for line in text.split(b"\n")) - header


def training_set(folder: Path) -> None:
    insightface_rec.write(folder, [(picture(seed), seed // 2) for seed in range(6)], 3)


def in_parts(folder: Path) -> list[bytes]:
    """A training set whose images hold the magic word, so that their records have several parts."""
    magic = struct.pack("<I", MAGIC)
    images = [picture(seed) for seed in range(2)]
    insightface_rec.write(folder, [(one + b"\0" * (-len(one) % 4) + magic * 2, row) for row, one in enumerate(images)], 2)
    return [(folder / "train.rec").read_bytes()]


def plain_records(folder: Path) -> list[bytes]:
    """A training set, and one of im2rec, whose records are images all; neither has an index or says how many there are."""
    training_set(folder)
    for name in ("train.idx", "property"):
        (folder / name).unlink()
    images = b"".join(frame(pack(Header(0, float(row), row, 0), picture(row))) for row in range(3))
    return [(folder / "train.rec").read_bytes(), images]


def read_records(folder: Path) -> int:
    found = insightface_rec.TrainSet.open(folder)
    labels = found.labels
    into = np.empty((16, 16, 3), np.uint8)
    for key in found.keys.tolist():
        found.label_of(key)
        decoding.decode_into(into, found.image_bytes(key))
    assert found.num_classes >= 1
    assert len(labels) == len(found)
    for _ in found.reader.scan():
        pass
    return len(found)


def verification(folder: Path) -> list[bytes]:
    """As insightface's two programs write it, in the protocols of Python 2 and 3."""
    images = [picture(seed, ".png" if seed % 3 == 0 else ".jpg") for seed in range(4)]
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    made = [pickle.dumps((images, [True, False]), protocol=protocol) for protocol in (2, 0, 4)]
    made += [pickle.dumps((arrays, np.array([True, False])), protocol=protocol) for protocol in (2, 4)]
    (folder / "lfw.bin").write_bytes(made[0])
    return made


def read_verification(folder: Path) -> int:
    found = verification_bin.load(folder / "lfw.bin")
    for image in found.images:
        try:
            verification_bin.decode(image)
        except InputError:
            continue
    return len(found.is_same)


def in_small(write_set: Callable[[Path], object], file: str) -> Callable[[Path], list[bytes]]:
    """Return what builds a small set."""

    def build(folder: Path) -> list[bytes]:
        write_set(folder)
        return [(folder / file).read_bytes()]

    return build


PROBES = "tinyface/Testing_Set/probe_img_ID_pairs.mat"


def matlab(folder: Path) -> list[bytes]:
    small_sets.write_tinyface(folder, num_identities=3, num_distractors=2)
    plain, made = (folder / PROBES).read_bytes(), io.BytesIO()
    scipy.io.savemat(made, scipy.io.loadmat(io.BytesIO(plain)), do_compression=True)
    return [plain, made.getvalue()]


def read_tinyface(folder: Path) -> int:
    return tinyface.load(folder).num_probes


def write_ijb(folder: Path) -> None:
    meta = small_sets.write_ijb(folder, num_templates=6, images_each=2)
    small_sets.write_search(meta, mates=2, strangers=1)
    for path in (folder / "IJBB/loose_crop").iterdir():
        path.write_bytes(b"")


def read_ijb(folder: Path) -> int:
    found = ijb.load(folder, "IJBB")
    assert not [image for image in found.images() if not isinstance(image, Failure)]
    return len(found.names)


def read_ijb_pairs(folder: Path) -> int:
    return len(ijb.load(folder, "IJBB").is_same_P)


def read_ijb_search(folder: Path) -> None:
    ijb.load_search(folder, "IJBB")


def read_scface(folder: Path) -> int:
    found = scface.load(folder)
    return len(found.names) + found.num_left_out


def read_pairs(folder: Path) -> int:
    return len(pair_list.load(folder).is_same_P)


def own_pairs(folder: Path) -> list[bytes]:
    folder.mkdir(exist_ok=True)
    text = "a,b,same,fold,group,identity_a,identity_b\nann/1.jpg,ann/2.jpg,1,0,x,ann,ann\nann/1.jpg,bob/1.jpg,0,1,,ann,bob\n"
    (folder / "pairs.csv").write_text(text)
    return [text.encode(), b"a,b,same\nann/1.jpg,ann/2.jpg,1\nann/1.jpg,bob/1.jpg,0\n"]


def packed(file: str) -> Callable[[Path], list[bytes]]:
    def build(folder: Path) -> list[bytes]:
        source, made = folder.with_name("source"), folder.with_name("made")
        small_sets.write_scface(source, num_subjects=1)
        write.write(source, made, plan.of(source), pictures.as_it_is)
        for path in made.iterdir():
            path.rename(folder / path.name)
        shutil.rmtree(source)
        made.rmdir()
        return [(folder / file).read_bytes()]

    return build


def read_packed(folder: Path) -> int:
    found = scface.load(folder)
    assert found.packed is not None
    found.packed.sizes()
    return len(found.names) + found.num_left_out if all(not isinstance(one, Failure) for one in found.images()) else None  # type: ignore[return-value]


def truths(folder: Path) -> list[bytes]:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame({"set": ["lfw"] * 3 + ["x"], "image": ["0", "1", "2", "a"], "quality": [0.1, 0.5, 1.0, 0.3], "identity": [1, 1, 2, 3]})
    frame.to_parquet(folder / truth.FILE)
    return [(folder / truth.FILE).read_bytes()]


def read_truth(folder: Path) -> int | None:
    known = truth.load(folder / truth.FILE, "lfw", 3)
    truth.load_named(folder / truth.FILE, "x", ["a"])
    truth.people(folder / truth.FILE, "lfw", ["0", "1"])
    return None if known is None else len(known)


TARGETS = [
    Target(".rec", "train.rec", in_small(training_set, "train.rec"), read_records, BYTES),
    Target(".rec, several parts", "train.rec", in_parts, read_records, BYTES),
    Target(".rec without an index", "train.rec", plain_records, read_records, BYTES, whole=False),
    Target(".idx", "train.idx", in_small(training_set, "train.idx"), read_records, TEXT),
    Target("property", "property", in_small(training_set, "property"), read_records, TEXT, whole=False),
    Target(".bin", "lfw.bin", verification, read_verification, PICKLE),
    Target(".mat", PROBES, matlab, read_tinyface, BYTES),
    Target("IJB landmarks", "IJBB/meta/ijbb_name_5pts_score.txt", in_small(write_ijb, "IJBB/meta/ijbb_name_5pts_score.txt"), read_ijb, TEXT, lines),
    Target("IJB templates", "IJBB/meta/ijbb_face_tid_mid.txt", in_small(write_ijb, "IJBB/meta/ijbb_face_tid_mid.txt"), read_ijb, TEXT, lines),
    Target("IJB pairs", "IJBB/meta/ijbb_template_pair_label.txt", in_small(write_ijb, "IJBB/meta/ijbb_template_pair_label.txt"), read_ijb_pairs, TEXT, lines),
    Target("IJB search", "IJBB/meta/ijbb_1N_probe_mixed.csv", in_small(write_ijb, "IJBB/meta/ijbb_1N_probe_mixed.csv"), read_ijb_search, TEXT),
    *(
        Target(f"IJB-S {Path(file).stem}", f"protocols/{file}", in_small(small_sets.write_ijbs, f"protocols/{file}"),
               lambda folder: ijbs.load(folder) and None, TEXT)
        for file in (ijbs.METADATA, ijbs.PROBE_FILES["uav"], ijbs.GALLERY_FILES["booking", 1])
    ),
    Target("SCface", "all.txt", in_small(lambda folder: small_sets.write_scface(folder, 2), "all.txt"), read_scface, TEXT, lines),
    Target("pair list", "pair_list.txt", in_small(lambda folder: small_sets.write_pair_list(folder, 2, 2), "pair_list.txt"), read_pairs, TEXT, lines),
    Target("XQLFW pairs", "xqlfw_pairs.txt", in_small(small_sets.write_xqlfw, "xqlfw_pairs.txt"), read_pairs, TEXT, lambda data: lines(data, 1)),
    Target("pairs of one's own", "pairs.csv", own_pairs, read_pairs, TEXT, lambda data: lines(data, 1)),
    Target("packed set, records", "images.rec", packed("images.rec"), read_packed, BYTES),
    Target("packed set, index", "images.idx", packed("images.idx"), read_packed, TEXT),
    Target("packed set, table", "images.parquet", packed("images.parquet"), read_packed, TABLE),
    Target("truth", truth.FILE, truths, read_truth, TABLE),
]
