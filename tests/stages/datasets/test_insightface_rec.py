from __future__ import annotations

import pickle
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.recordio.framing import MAGIC_BYTES
from stages.core.recordio.reader import Header, RecordError, RecordReader, RecordWriter, pack
from stages.datasets import insightface_rec
from stages.datasets.insightface_rec import TrainSet

GOLDEN = Path(__file__).parents[2] / "golden" / "recordio"


def image(number: int) -> bytes:
    return b"\xff\xd8" + bytes([number]) * (number % 9) + b"\xff\xd9"


def write_records(folder: Path, records: dict[int, bytes], property_line: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        for key, payload in records.items():
            writer.write(key, payload)
    if property_line is not None:
        (folder / "property").write_text(property_line)
    return folder


def labelled(*labels: float) -> dict[int, bytes]:
    return {key: pack(Header(0, label, key, 0), image(key)) for key, label in enumerate(labels)}


def header(images_end: float, end: float) -> bytes:
    return pack(Header(2, np.array([images_end, end], np.float32), 0, 0), b"")


def test_writing_the_images_of_real_faces_again_gives_the_same_files_byte_for_byte(
    faces: Path, tmp_path: Path
):
    train = TrainSet.open(faces / "train")
    names = [line.split("\t")[1] for line in (faces / "train" / "train.lst").read_text().splitlines()]
    images = (
        (bytes(train.image_bytes(key)), int(label))
        for key, label in zip(train.keys, train.labels, strict=True)
    )
    assert insightface_rec.write(tmp_path, images, train.num_classes, names) == len(train) == 5558
    for name in ("train.rec", "train.idx", "train.lst", "property"):
        assert (tmp_path / name).read_bytes() == (faces / "train" / name).read_bytes(), name


def test_real_faces_are_the_images_that_the_header_names(faces: Path):
    train = TrainSet.open(faces / "train")
    assert train.header == (5559.0, 6592.0)
    assert train.keys.tolist() == list(range(1, 5559))
    assert train.range_keys.tolist() == list(range(5559, 6592))
    assert (train.num_classes, train.labels.dtype, train.labels.max()) == (1033, np.int64, 1032)
    assert [train.label_of(key) for key in (1, 5558)] == [0, 1032]


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=30) | st.just(MAGIC_BYTES * 2), min_size=1), min_size=1)
)
@settings(deadline=None, max_examples=50)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, identities: list[list[bytes]]
):
    folder = tmp_path_factory.mktemp("written")
    images = [(one, identity) for identity, images in enumerate(identities) for one in images]
    assert insightface_rec.write(folder, images, len(identities)) == len(images)
    train = TrainSet.open(folder)
    assert [(bytes(train.image_bytes(key)), train.label_of(key)) for key in train.keys.tolist()] == images
    assert train.labels.tolist() == [identity for _, identity in images]
    assert train.num_classes == len(identities)
    for identity, key in enumerate(train.range_keys.tolist()):
        begin, end = np.asarray(train.reader.entry(key)[0].label).astype(int).tolist()
        assert [one for one, _ in images[begin - 1 : end - 1]] == identities[identity]


def test_a_written_set_has_the_list_and_property_that_insightface_expects(tmp_path: Path):
    insightface_rec.write(tmp_path / "new", [(b"a", 0), (b"b", 0), (b"c", 1)], 2)
    assert (tmp_path / "new" / "property").read_bytes() == b"2,112,112\n"
    assert (tmp_path / "new" / "train.lst").read_bytes() == b"1\t0/1.jpg\t0\n1\t0/2.jpg\t0\n1\t1/3.jpg\t1\n"


@pytest.mark.parametrize(
    ("identities", "num_classes", "problem"),
    [
        ([0, 1, 0], 2, "image 3 has identity 0, wanted identity 1 or 2 of 2"),
        ([1], 2, "image 1 has identity 1, wanted identity 0"),
        ([0, 2], 3, "image 2 has identity 2, wanted identity 0 or 1 of 3"),
        ([0, 1, 2], 2, "image 3 has identity 2, wanted identity 1 or 2 of 2"),
        ([0, 1], 3, "wanted images of 3 identities, got 2"),
        ([], 1, "wanted images of 1 identities, got 0"),
        ([0], 0, "exact for 1 to 16777216 classes, got 0"),
        ([0], (1 << 24) + 1, "exact for 1 to 16777216 classes, got 16777217"),
    ],
)
def test_identities_out_of_order_are_refused(
    tmp_path: Path, identities: list[int], num_classes: int, problem: str
):
    with pytest.raises(ValueError, match=problem):
        insightface_rec.write(tmp_path, ((b"x", identity) for identity in identities), num_classes)


def test_too_few_names_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="shorter"):
        insightface_rec.write(tmp_path, [(b"a", 0), (b"b", 0)], 1, names=["a.jpg"])


def test_a_file_of_im2rec_has_an_image_at_key_0_and_no_header():
    reader = RecordReader(GOLDEN / "im2rec.rec", GOLDEN / "im2rec.idx")
    train = TrainSet(GOLDEN, reader)
    assert train.header is None
    assert train.keys.tolist() == list(range(20))
    assert train.labels.tolist() == [key % 7 for key in range(20)]
    assert train.num_classes == 7
    assert len(train.range_keys) == 0
    assert bytes(train.image_bytes(0)[:3]) == b"\xff\xd8\xff"


def test_an_image_with_a_vector_label_at_key_0_is_no_header(tmp_path: Path):
    records = {key: pack(Header(0, np.array([key, 1], np.float32), key, 0), image(key)) for key in range(3)}
    train = TrainSet.open(write_records(tmp_path, records))
    assert (train.header, train.keys.tolist(), train.labels.tolist()) == (None, [0, 1, 2], [0, 1, 2])


def test_scalar_labels_under_a_header_are_read_as_well(tmp_path: Path):
    records = {
        0: header(3, 4),
        **{key: pack(Header(0, 5.0, key, 0), image(key)) for key in (1, 2)},
        3: header(1, 3),
    }
    train = TrainSet.open(write_records(tmp_path, records))
    assert (train.keys.tolist(), train.labels.tolist(), train.num_classes) == ([1, 2], [5, 5], 6)


def test_property_says_the_number_of_classes_even_if_the_last_have_no_images(tmp_path: Path):
    assert TrainSet.open(write_records(tmp_path, labelled(0, 1), "10,112,112\n")).num_classes == 10


def test_a_property_that_says_no_number_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"property: wanted num_classes,height,width, got 'many'"):
        TrainSet.open(write_records(tmp_path, labelled(0), "many\n"))


@pytest.mark.parametrize("label", [0.5, -1.0, float(1 << 24), float("nan"), float("inf"), 1e30])
def test_a_label_that_is_no_exact_whole_number_is_named_with_its_record(tmp_path: Path, label: float):
    train = TrainSet.open(write_records(tmp_path, labelled(0, 3, label, 1)))
    wanted = rf"record 2 at byte {train.reader.offset(2)}: label .*: wanted a whole number from 0 to 16777215"
    with pytest.raises(RecordError, match=wanted):
        _ = train.labels
    with pytest.raises(RecordError, match=wanted):
        train.label_of(2)
    assert train.label_of(1) == 3


def test_the_largest_exact_label_is_fine(tmp_path: Path):
    assert TrainSet.open(write_records(tmp_path, labelled(0, 16777215))).labels.tolist() == [0, 16777215]


def test_a_label_beyond_the_classes_of_property_is_refused(tmp_path: Path):
    train = TrainSet.open(write_records(tmp_path, labelled(0, 2), "2,112,112"))
    with pytest.raises(
        RecordError, match=r"record 1 at byte .*: label 2.0: wanted a whole number below the 2 classes"
    ):
        _ = train.labels


def test_a_record_without_an_image_is_refused_when_its_image_is_asked_for(tmp_path: Path):
    records = {**labelled(0, 1), 2: pack(Header(0, 1.0, 2, 0), b"")}
    train = TrainSet.open(write_records(tmp_path, records))
    with pytest.raises(RecordError, match=r"record 2 at byte .*: it has no image"):
        train.image_bytes(2)


def test_a_missing_file_is_named(tmp_path: Path):
    (write_records(tmp_path, labelled(0)) / "train.rec").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.rec is missing"):
        TrainSet.open(tmp_path)


def test_records_without_an_index_are_walked_and_have_the_same_keys(tmp_path: Path):
    insightface_rec.write(tmp_path, [(image(key), key // 3) for key in range(9)], 3)
    indexed = TrainSet.open(tmp_path)
    (tmp_path / "train.idx").unlink()
    walked = TrainSet.open(tmp_path)
    assert walked.reader.idx_path is None
    assert walked.keys.tolist() == indexed.keys.tolist() == list(range(1, 10))
    assert walked.labels.tolist() == indexed.labels.tolist()
    assert walked.range_keys.tolist() == indexed.range_keys.tolist()
    assert [bytes(walked.image_bytes(key)) for key in (1, 9)] == [image(0), image(8)]


def test_a_record_file_of_any_name_is_opened_with_the_index_beside_it(tmp_path: Path):
    write_records(tmp_path, labelled(0, 1))
    for suffix in (".rec", ".idx"):
        (tmp_path / f"train{suffix}").rename(tmp_path / f"webface{suffix}")
    train = pickle.loads(pickle.dumps(TrainSet.open(tmp_path / "webface.rec")))
    assert (train.reader.idx_path, train.labels.tolist()) == (tmp_path / "webface.idx", [0, 1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda records: records | {0: header(3, 6)}, "images end before key 3, but record 3 holds one"),
        (lambda records: records | {0: header(0, 6)}, "images end before key 0.0"),
        (lambda records: records | {0: header(5, 2)}, "images end before key 5.0"),
        (lambda records: records | {0: header(float("nan"), 2)}, "images end before key nan"),
        (lambda records: records | {0: header(1, 1)}, "images end before key 1, but record 1 holds one"),
        (
            lambda records: {key: records[key] for key in (0, 1, 3, 4)},
            "keys 1 to 3 are images, but .* no key 2",
        ),
        (lambda records: records | {0: header(9, 9)}, "keys 1 to 8 are images, but the index has no key 5"),
        (
            lambda records: records | {0: pack(Header(1, np.array([4.0]), 0, 0), b"")},
            "images end before key 4.0",
        ),
    ],
)
def test_a_header_that_contradicts_the_file_is_an_error_and_not_a_smaller_set(
    tmp_path: Path, change: Callable[[dict[int, bytes]], dict[int, bytes]], problem: str
):
    images = {key: pack(Header(0, 0.0, key, 0), image(key)) for key in (1, 2, 3)}
    sound = {0: header(4, 5), **images, 4: header(1, 4)}
    assert len(TrainSet.open(write_records(tmp_path / "sound", sound))) == 3
    with pytest.raises(RecordError, match=f"record 0 at byte 0: its header says that {problem}"):
        TrainSet.open(write_records(tmp_path / "changed", change(sound)))


@pytest.mark.parametrize("last", [7, 8, 9, 10])
def test_a_header_that_float32_has_rounded_still_finds_the_last_image(
    tmp_path: Path, last: int, monkeypatch: pytest.MonkeyPatch
):
    # as if float32 held whole numbers exactly only below 4: the end must then be found in the file
    monkeypatch.setattr(insightface_rec, "EXACT_LABELS", 4)
    images = {key: pack(Header(0, 0.0, key, 0), image(key)) for key in range(1, last + 1)}
    records = {0: header(last + 1, last + 2), **images, last + 1: header(1, last + 1)}
    assert TrainSet.open(write_records(tmp_path, records)).keys.tolist() == list(range(1, last + 1))


def test_a_rounded_header_far_from_the_end_of_the_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(insightface_rec, "EXACT_LABELS", 4)
    images = {key: pack(Header(0, 0.0, key, 0), image(key)) for key in range(1, 31)}
    with pytest.raises(RecordError, match="near it no key is the first without one"):
        TrainSet.open(write_records(tmp_path, {0: header(15, 32), **images, 31: header(1, 31)}))


def test_a_set_can_be_shared_with_workers_of_any_kind(tmp_path: Path):
    insightface_rec.write(tmp_path, [(b"abc", 0), (b"defg", 1)], 2)
    train = TrainSet.open(tmp_path)
    assert len(pickle.dumps(train)) < 1000
    for method in ("fork", "spawn"):
        with get_context(method).Pool(1) as pool:
            assert pool.apply(TrainSet.label_of, (train, 2)) == 1
    assert bytes(pickle.loads(pickle.dumps(train)).image_bytes(2)) == b"defg"
