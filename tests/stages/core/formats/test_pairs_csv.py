"""Pairs of one's own: what columns mean, whose pictures they are, and lines that do not fit."""

from __future__ import annotations

import pytest

from stages.core.formats import pairs_csv

LINES = """a,b,same,fold,group
ann/1.jpg,ann/2.jpg,1,10,"Asian, East"
bob/1.jpg,"bob/2, old.jpg",1,2,African

ann/1.jpg,bob/1.jpg,0,2,
ann\\2.jpg,bob/1.jpg,0,10,African
"""


def test_pictures_are_counted_once_and_columns_are_read():
    found = pairs_csv.parse(LINES)
    assert found.names == ("ann/1.jpg", "ann/2.jpg", "bob/1.jpg", "bob/2, old.jpg")
    assert (found.first_P.tolist(), found.second_P.tolist()) == ([0, 2, 0, 1], [1, 3, 2, 2])
    assert found.is_same_P.tolist() == [True, True, False, False]
    assert found.fold_P.tolist() == [1, 0, 0, 1]  # 2 before 10
    assert found.groups == ("African", "Asian, East")
    assert found.group_P.tolist() == [1, 0, -1, 0]
    assert (found.identity_N.tolist(), found.identity_from) == ([0, 0, 1, 1], pairs_csv.FOLDERS)


def test_a_table_as_spreadsheets_write_it_is_the_same():
    as_written = "\ufeff" + LINES.replace("\n", "\r\n")
    assert pairs_csv.parse(as_written).names == pairs_csv.parse(LINES).names


def test_only_three_columns_are_needed_in_any_order():
    found = pairs_csv.parse("same,b,a\n1,2.png,1.png\n0,3.png,1.png\n")
    assert found.names == ("1.png", "2.png", "3.png")
    assert (found.fold_P, found.group_P, found.groups, found.identity_N) == (None, None, (), None)


def test_identities_are_those_of_the_columns_else_of_folders_that_no_pair_contradicts():
    columns = "a,b,same,identity_a,identity_b\nx/1.jpg,y/2.jpg,1,ann,ann\nx/1.jpg,x/3.jpg,0,ann,bob\n"
    found = pairs_csv.parse(columns)
    assert (found.identity_N.tolist(), found.identity_from) == ([0, 0, 1], pairs_csv.COLUMNS)
    without = "\n".join(",".join(line.split(",")[:3]) for line in columns.splitlines())
    assert pairs_csv.parse(without).identity_N is None  # x/ is not one person
    assert pairs_csv.parse(without).identity_from == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"should name the columns a, b, same, .*got ''"),
        ("a,b\n1,2\n", "should name the columns"),
        ("a,b,same,age\n", "should name the columns"),
        ("a,b,same,identity_a\n", "both identity_a and identity_b"),
        ("a,b,same\n", "lists no pairs"),
        ("a,b,same\n1,2,1\n1,2\n", "line 3: wanted 3 fields, got 2"),
        ("a,b,same\n\n1,2,yes\n", r"line 3: same should be 1 \(one person\) or 0 \(two\), got 'yes'"),
        ("a,b,same\n../x.jpg,2,1\n", r"line 2: a should be a picture's path in this folder, got '\.\./x\.jpg'"),
        ("a,b,same\n1,/x.jpg,1\n", "line 2: b should be a picture's path"),
        ("a,b,same\n1,,1\n", "line 2: b should be"),
        ("a,b,same,fold\n1,2,1,\n", "line 2: fold is empty"),
        ("a,b,same,identity_a,identity_b\n1,2,1,ann,bob\n", "line 2: same is 1, but the identities are ann and bob"),
        ("a,b,same,identity_a,identity_b\n1,2,1,ann,ann\n1,3,0,bob,eve\n", "line 3: 1 is of bob, before it was of ann"),
    ],
)
def test_a_line_that_does_not_fit_is_named(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        pairs_csv.parse(text)
