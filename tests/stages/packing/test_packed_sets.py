"""A packed test set gives what its folder gives, to the last bit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import evaluate
from stages.config import evaluation
from stages.core.metrics.processing import Failure
from stages.core.recordio.header import Header, pack
from stages.core.recordio.reader import RecordReader
from stages.core.recordio.writer import RecordWriter
from stages.datasets import ijb, ijbs, pair_list, scface, tinyface
from stages.inspection import check
from stages.inspection.catalogue import KNOWN
from stages.io import packed_images
from stages.packing import pictures, plan, write
from stages.tools import inspect_data
from tests import mxnet_oracle
from tests.stages import small_sets

LOADERS: dict[str, Any] = {
    "ijb/IJBB": lambda folder: ijb.load(folder.parent, "IJBB"), "ijbs": ijbs.load, "tinyface": tinyface.load,
    "scface": scface.load, "adience": pair_list.load, "xqlfw": pair_list.load,
}  # fmt: skip
SUITES = {
    "ijb": evaluation.Ijb(sets=("IJBB",), protocols=("1:1", "1:N"), max_failed=0.5),
    "lq": evaluation.Lq(sets=("tinyface", "scface", "ijbs"), max_failed=0.5),
    "fiqa": evaluation.Fiqa(sets=("adience", "xqlfw", "IJBB"), fmr=(0.1,), max_failed=0.5),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Small sets of every layout, with a missing, an empty and a cut image each, and the same sets packed."""
    home = tmp_path_factory.mktemp("sets")
    loose, packed = home / "loose", home / "packed"
    small_sets.write_search(small_sets.write_ijb(loose / "ijb"))
    small_sets.write_ijbs(loose / "ijbs")
    small_sets.write_tinyface(loose / "tinyface")
    small_sets.write_scface(loose / "scface")
    small_sets.write_pair_list(loose / "adience")
    small_sets.write_xqlfw(loose / "xqlfw")
    spoil(sorted((loose / "ijb/IJBB/loose_crop").iterdir()))
    spoil(sorted((loose / "tinyface/aligned_pad_0.1_pad_high").rglob("*.jpg")))
    spoil(sorted((loose / "scface/aligned").glob("*_cam1_*.jpg")))
    spoil(sorted((loose / "adience/images").iterdir())[2:])
    spoil(sorted((loose / "xqlfw").rglob("*.jpg"))[:3])
    for name in LOADERS:
        (packed / name).parent.mkdir(parents=True, exist_ok=True)
        packed_of(loose / name, packed / name)
    return loose, packed


def spoil(paths: list[Path]) -> None:
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:100])


def packed_of(source: Path, target: Path) -> Path:
    write.write(source, target, plan.of(source), pictures.as_it_is)
    return target


def same(one: Any, other: Any) -> bool:
    """Return whether two images, or the reasons why there are none, are equal."""
    if isinstance(one, Failure) or isinstance(other, Failure):
        return bool(one == other)
    return np.array_equal(one, other)


@pytest.mark.parametrize("name", LOADERS)
def test_every_image_and_every_failure_is_that_of_the_folder(folders: tuple[Path, Path], name: str):
    loose, packed = (LOADERS[name](folder / name) for folder in folders)
    assert loose.names == packed.names
    pairs = list(zip(loose.images(), packed.images(), strict=True))
    assert all(same(*pair) for pair in pairs)
    assert name == "ijbs" or any(isinstance(one, Failure) for one, _ in pairs)
    assert not list((folders[1] / name).rglob("*.jpg")), "nothing of the folder is left but its lists"


@pytest.mark.parametrize("suite", SUITES)
def test_every_number_is_that_of_the_folder(folders: tuple[Path, Path], suite: str):
    one, other = (evaluate.measure(suite, folder, SUITES[suite], small_sets.embed) for folder in folders)
    assert one.metrics == other.metrics
    assert one.metrics
    assert one.details == other.details
    assert {name: table.rows for name, table in one.curves.items()} == {
        name: table.rows for name, table in other.curves.items()
    }


@pytest.mark.parametrize("name", LOADERS)
def test_records_are_in_the_order_of_evaluation_and_as_mxnet_writes_them(folders: tuple[Path, Path], name: str, tmp_path: Path):
    folder = folders[1] / name
    reader = RecordReader(folder / "images.rec", folder / "images.idx")
    offsets = [reader.offset(int(key)) for key in reader.keys]
    assert offsets == sorted(offsets)
    assert list(reader.keys) == sorted(reader.keys)
    with RecordWriter(tmp_path / "a.rec", tmp_path / "a.idx") as writer:
        for key in reader.keys:
            header, image = reader.entry(int(key))
            writer.write(int(key), pack(Header(0, header.label, int(key), 0), bytes(image)))
    for suffix in (".rec", ".idx"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (folder / f"images{suffix}").read_bytes()


@pytest.mark.mxnet
@pytest.mark.skipif(mxnet_oracle.PYTHON is None, reason=mxnet_oracle.NOT_SET)
def test_mxnet_reads_every_packed_image(folders: tuple[Path, Path], tmp_path: Path):
    for name in LOADERS:
        folder = folders[1] / name
        for suffix in (".rec", ".idx"):
            shutil.copyfile(folder / f"images{suffix}", tmp_path / f"a{suffix}")
        mxnet_oracle.ask("read", tmp_path)
        found = {key: unpacked for key, _, unpacked in json.loads((tmp_path / "read.json").read_text())["by_index"]}
        reader = RecordReader(folder / "images.rec", folder / "images.idx")
        assert found.keys() == set(reader.keys.tolist())
        for key, (_, label_bits, number, _, image) in found.items():
            header, ours = reader.entry(key)
            assert np.array(label_bits, np.uint32).view(np.float32) == header.label
            assert (number, bytes.fromhex(image)) == (key, bytes(ours))


def test_the_table_has_what_is_known_of_each_image(folders: tuple[Path, Path]):
    import pandas as pd

    table = pd.read_parquet(folders[1] / "ijb/IJBB/images.parquet")
    chosen = ijb.load(folders[0] / "ijb", "IJBB")
    assert table["path"].tolist() == [f"loose_crop/{name}" for name in chosen.names]
    assert table["template"].tolist() == chosen.template_N.tolist()
    assert table["media"].tolist() == chosen.media_N.tolist()
    assert np.array_equal(np.stack(table["landmarks"]).reshape(-1, 5, 2), chosen.landmarks_N52)
    missing = table[table["key"] < 0]
    assert missing["problem"].tolist() == ["No such file or directory"]
    assert set(pd.read_parquet(folders[1] / "tinyface/images.parquet")["subject"]) >= {1, 6, tinyface.NOBODY}


def test_adience_without_a_list_is_all_pairs_of_the_packed_images(tmp_path: Path):
    small_sets.write_pair_list(tmp_path / "adience").unlink()
    packed_of(tmp_path / "adience", tmp_path / "packed/adience")
    one, other = (pair_list.load(folder) for folder in (tmp_path / "adience", tmp_path / "packed/adience"))
    assert one.names == other.names
    assert np.array_equal(one.is_same_P, other.is_same_P)
    assert all(same(*pair) for pair in zip(one.images(), other.images(), strict=True))


def test_an_image_list_of_ijbs_counts_as_it_does_in_the_folder(tmp_path: Path):
    small_sets.write_ijbs(tmp_path / "ijbs")
    faces = sorted(path.relative_to(tmp_path / "ijbs").as_posix() for path in (tmp_path / "ijbs/aligned").rglob("*.jpg"))
    (tmp_path / "ijbs/image_list_1.csv").write_text("path\n" + "\n".join([*faces[5:], "aligned/1/videos_10_99.jpg"]) + "\n")
    packed_of(tmp_path / "ijbs", tmp_path / "packed/ijbs")
    one, other = (ijbs.load(folder) for folder in (tmp_path / "ijbs", tmp_path / "packed/ijbs"))
    assert (one.names, one.num_unused) == (other.names, other.num_unused)
    assert all(same(*pair) for pair in zip(one.images(), other.images(), strict=True))
    assert sum(isinstance(image, Failure) for image in other.images()) == 1


def test_files_of_two_packed_sets_that_are_mixed_are_refused(folders: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(folders[1] / "scface", tmp_path / "scface")
    for name in (packed_images.INDEX, packed_images.RECORDS):
        shutil.copy(folders[1] / "tinyface" / name, tmp_path / "scface" / name)
    with pytest.raises(ValueError, match="have different keys: files of two packed sets are mixed"):
        scface.load(tmp_path / "scface")
    (tmp_path / "scface" / packed_images.TABLE).unlink()
    with pytest.raises(FileNotFoundError, match=r"images\.parquet is missing: a packed set has"):
        scface.load(tmp_path / "scface")


def test_a_damaged_record_is_a_failure_of_its_image(folders: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(folders[1] / "scface", tmp_path / "scface")
    reader = RecordReader(tmp_path / "scface/images.rec", tmp_path / "scface/images.idx")
    key = int(reader.keys[3])
    with (tmp_path / "scface/images.rec").open("r+b") as stream:
        stream.seek(reader.offset(key))
        stream.write(b"oops")
    found = scface.load(tmp_path / "scface").image(key)
    assert isinstance(found, Failure)
    assert "damaged" in found.reason


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "suite", "options"), [
    ("ijb/IJBB", "ijb", evaluation.Ijb(sets=("IJBB",), protocols=("1:1", "1:N"))),
    ("tinyface", "lq", evaluation.Lq(sets=("tinyface",))), ("scface", "lq", evaluation.Lq(sets=("scface",))),
])  # fmt: skip
def test_real_faces_packed_give_equal_images_and_numbers(shared: Path, tmp_path: Path, name: str, suite: str, options: Any):
    source, target = shared / "faces/eval" / name, tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    packed_of(source, target)
    loose, packed = LOADERS[name](source), LOADERS[name](target)
    assert loose.names == packed.names
    assert all(same(*pair) for pair in zip(loose.images(), packed.images(), strict=True))
    one, other = (evaluate.measure(suite, folder, options, small_sets.embed) for folder in (shared / "faces/eval", tmp_path))
    assert (one.metrics, one.details) == (other.metrics, other.details)


@pytest.mark.parametrize("name", LOADERS)
def test_doctor_finds_in_a_packed_set_what_it_finds_in_the_folder(folders: tuple[Path, Path], name: str):
    known = KNOWN[Path(name).name]
    here = dataclasses.replace(known, place=f"{name}/")
    loose, packed = (check.examine(folder, here) for folder in folders)
    assert not packed.missing
    assert not packed.unusable
    assert (packed.counts, packed.odd) == (loose.counts, loose.odd)
    assert name == "ijbs" or any("are missing" in odd for odd in packed.odd)


@pytest.mark.parametrize("name", LOADERS)
def test_inspect_knows_a_packed_set(folders: tuple[Path, Path], name: str):
    sight = inspect_data.see(folders[1] / name)
    assert sight.kind.startswith(KNOWN[Path(name).name].title)
    assert str(sight.facts["layout"]).startswith("packed (images.rec); ")
    parts = inspect_data.see(folders[1]).facts
    assert name in parts
    assert "training set" not in str(parts[name])
