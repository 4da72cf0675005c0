"""YAML is read as DVC reads it, so that a file has one meaning; what is written is the same to both versions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.runtime import yaml_text

ROOT = Path(__file__).resolve().parents[3]
NOTATIONS = (
    "4e-1 1e5 1E+5 .5 5. 1_000 012 0o17 0x1F -0x1F 0b11 +7 -0 1.5e3 1e 1_0.5 1.2.3 -.inf .NaN nan yes no on off y "
    "true TRUE True false ~ null Null 12:30 1:2:3 2026-11-29 'no' \"4e-1\" 0o8 0x -"
)


def of_dvc(text: str) -> object:
    # as dvc.utils.strictyaml has it
    return YAML(typ="safe", pure=True).load(text)


def same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return (type(left), left) == (type(right), right)


@pytest.mark.parametrize("notation", NOTATIONS.split())
def test_a_value_is_what_dvc_reads(notation: str):
    text = f"value: {notation}"
    try:
        wanted = of_dvc(text)["value"]
    except Exception:
        with pytest.raises(yaml.YAMLError):
            yaml_text.parse(text)
        return
    assert same(yaml_text.parse(text)["value"], wanted)


def test_every_file_of_the_project_is_what_dvc_reads():
    paths = [path for part in ("*", "profiles/**/*", "tables/*", "ablations/*", "graph/*/*") for path in ROOT.glob(f"{part}.yaml")]
    assert len(paths) > 40
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert repr(yaml_text.parse(text)) == repr(of_dvc(text)), path


@given(st.text("0123456789eE+-._:xobnyof~ #'", max_size=8) | st.floats(allow_nan=False) | st.integers() | st.booleans())
def test_what_is_written_is_read_alike_by_both_versions(value: object):
    text = yaml_text.dump({"value": value})
    assert same(yaml_text.parse(text)["value"], value)
    assert same(yaml.safe_load(text)["value"], value)
    assert same(of_dvc(text)["value"], value)
