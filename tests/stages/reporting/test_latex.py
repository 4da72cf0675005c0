"""A table as LaTeX: what no engine forgives is counted, since none is at hand here."""

from __future__ import annotations

import re

import pytest

from stages.config.table import Gathered, Scale, Table
from stages.reporting.comparison import Comparison, compare
from stages.reporting.latex import escape, latex


def three_seeds() -> Comparison:
    """Two rows of three seeds and one published only, under names with everything LaTeX takes amiss."""
    shown = Table.model_validate(
        {
            "title": "50 % of λ_g & friends #1 {a}",
            "source": "Müller’s “Δ”, table 1 – p. 3",
            "columns": [
                {"name": "TAR@FAR=0.01%", "metric": "s.x"},
                {"name": "EDC_AUC", "metric": "s.y", "unit": "fraction", "higher_is_better": False, "decimals": 3},
            ],
            "rows": {
                "a": {"label": "A_1 & B", "run": "a", "published": {"TAR@FAR=0.01%": 90.0}},
                "b": {"label": "1 - BRISQUE^2", "run": "b", "published": {"TAR@FAR=0.01%": 91.0}},
                "c": {"label": "C\\D", "published": {"TAR@FAR=0.01%": 92.0}},
            },
        }
    )
    runs = {
        key: [
            Gathered(
                run=f"{key}_s{seed}", weights_sha256="0", parameters={"seed": seed}, unmeasured={}, curves={},
                measured={"s": {"x": value + seed / 100, "y": 0.5 - seed / 10}},
            )
            for seed in range(3)
        ]
        for key, value in (("a", 0.2), ("b", 0.4))
    }  # fmt: skip
    return compare("t_1", shown, Scale(profile="demo"), runs)


def body(text: str) -> str:
    return re.sub(r"^%.*\n", "", text, flags=re.MULTILINE)


def test_every_line_of_the_table_has_a_cell_for_each_column():
    text = body(latex(three_seeds()))
    (spec,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 2 * 2 + 1 + 2
    assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(spec)}


def test_braces_and_environments_are_closed_in_order():
    text = body(latex(three_seeds()))
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []


def test_all_is_ascii_and_the_best_is_bold_with_its_spread():
    text = latex(three_seeds())
    assert text.isascii()
    assert r"1 - BRISQUE\textasciicircum{}2 & measured & \textbf{41.00} $\pm$ 1.00 & " in text
    assert r"C\textbackslash{}D & published only & \textbf{92.00} & " in text
    assert r"\caption{50 \% of $\lambda$\_g \& friends \#1 \{a\}." in text
    assert r"M\"{u}ller'" in text


@pytest.mark.parametrize("character", list("#$%&_{}~^\\"))
def test_what_latex_takes_for_a_command_is_written_with_one(character: str):
    assert escape(f"a{character}b") == f"a{escape(character)}b"
    assert escape(character).startswith("\\")


def test_what_has_no_command_stays_for_engines_that_take_it():
    assert escape("模型 Å") == "模型 Å"
