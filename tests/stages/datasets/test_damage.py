"""Whatever happens to a list, its reader gives a set or one error that a person can read; never a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.datasets import ijb
from tests.stages import small_sets
from tests.stages.datasets.test_exact import LAYOUTS

LISTS = {
    "IJBB": ("*name_5pts_score.txt", "*face_tid_mid.txt", "*template_pair_label.txt"),
    "search": ("*gallery_S1.csv", "*gallery_S2.csv", "*probe_mixed.csv"),
    "ijbs": ("cs6_metadata.csv", "*single-booking_probe.csv", "*surveillance_probe.csv", "*_single_g1.csv",
             "*_booking_g2.csv", "*_surveillance_g1.csv"),
    "tinyface": ("probe*.mat", "gallery*.mat"),
    "scface": ("all.txt",),
    "adience": ("pair_list.txt",),
    "xqlfw": ("xqlfw_pairs.txt",),
}  # fmt: skip
# what a person's editor, a wrong download or a bad disk leaves
PIECES = [b"", b"\xff", b"\x00", b",", b"\t", b" ", b"\n", b"\r", b'"', b"-1", b"1e9", b"nan", b"x", b"#", "é٣".encode(),
          b"9" * 30, b"../", b"<html>"]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for name, layout in LAYOUTS.items():
        (folder / name).mkdir()
        layout.write(folder / name)
    (folder / "search").mkdir()
    small_sets.write_search(small_sets.write_ijb(folder / "search"))
    return folder


def refusal(name: str, folder: Path) -> str:
    """Return what a reader says of bad input, nothing if it takes it; any other exception is the test's."""
    try:
        if name == "search":
            ijb.load_search(folder, "IJBB")
        else:
            LAYOUTS[name].load(folder)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("name", "pattern"), [(name, one) for name, many in LISTS.items() for one in many])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_list_is_read_or_refused_in_one_sentence(
    whole: Path, name: str, pattern: str, data: st.DataObject
):
    path = next((whole / name).rglob(pattern))
    kept = path.with_name(path.name + ".kept")
    shutil.copy(path, kept)
    try:
        content = bytearray(kept.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(content)))
            length = data.draw(st.sampled_from([0, 1, 7, len(content)]))
            content[at : at + length] = data.draw(st.sampled_from(PIECES))
        path.write_bytes(content)
        said = refusal(name, whole / name)
        assert "\n" not in said
        assert not said or path.name in said or path.parent.name in said
    finally:
        kept.replace(path)
