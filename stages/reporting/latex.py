"""A table as LaTeX for a paper: booktabs, the best in bold, spread over seeds, published numbers beside.

It wants the packages booktabs and adjustbox.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from stages.config.table import Column
from stages.reporting import wording
from stages.reporting.comparison import Cell, Comparison, Line

PACKAGES = ("booktabs", "adjustbox")
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "\u00b1": r"$\pm$", "\u2212": "$-$",
    "\u00d7": r"$\times$", "\u2193": r"$\downarrow$", "\u2191": r"$\uparrow$", "\u2264": r"$\le$", "\u2265": r"$\ge$",
    "\u00b7": r"$\cdot$", "\u2013": "--", "\u2014": "---", "\u2018": "`", "\u2019": "'", "\u201c": "``", "\u201d": "''",
    "\u2026": r"\dots{}", "\u00b0": r"$^\circ$", "\u00a0": "~",
}  # fmt: skip
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi",
    "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
}  # fmt: skip
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": "c", "\u030c": "v"}


def latex(comparison: Comparison) -> str:
    """Return the table as a float that a document includes."""
    table = comparison.table
    columns = "l" * 2 + "r" * len(table.columns)
    lines = [f"% {_comment(part)}" for part in (f"table {comparison.name} of facet", *wording.caveats(comparison))]
    lines += [f"% needs {', '.join(PACKAGES)}", r"\begin{table}", r"\centering", rf"\caption{{{_caption(comparison)}}}"]
    lines += [rf"\label{{tab:{comparison.name}}}", r"\begin{adjustbox}{max width=\linewidth}"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines.append(_line(["", "", *(_heading(column) for column in table.columns)]))
    lines.append(r"\midrule")
    for line in comparison.lines:
        lines.extend(_line(cells) for cells in _rows(line, table.columns))
    if comparison.overall.tau is not None:
        taus = (_tau(wording.agreement(found)) for found in comparison.columns)
        lines += [r"\midrule", _line([r"Kendall's $\tau$", "", *taus])]
    if comparison.overall.interval:
        lines.append(_line(["", "redrawn seeds", *(escape(wording.interval(found)) for found in comparison.columns)]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    r"""Return text escaped for LaTeX, in ASCII where possible; other characters are left to Unicode engines.

    >>> escape("50 % of h_1 & λ ± 0.1")
    '50 \\% of h\\_1 \\& $\\lambda$ $\\pm$ 0.1'
    >>> escape("Müller")
    'M\\"{u}ller'
    """
    return "".join(_escaped(character) for character in unicodedata.normalize("NFC", text))


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character
    *_, letter = unicodedata.name(character, "-").split()
    if unicodedata.name(character, "-") in (f"GREEK SMALL LETTER {letter}", f"GREEK CAPITAL LETTER {letter}"):
        command = letter.lower().replace("lamda", "lambda")
        command = command.capitalize() if character.isupper() else command
        if command in _GREEK:
            return f"$\\{command}$"
    plain = unicodedata.normalize("NFD", character)
    if len(plain) == 2 and plain[0].isascii() and plain[1] in _ACCENTS:
        return f"\\{_ACCENTS[plain[1]]}{{{plain[0]}}}"
    return character


def _rows(line: Line, columns: Sequence[Column]) -> Iterator[list[str]]:
    pairs = list(zip(line.cells, columns, strict=True))
    label = escape(line.label)
    if line.gathered is not None:
        yield [label, "measured", *(_measured(cell, column) for cell, column in pairs)]
        label = ""
    if line.gathered is None or any(cell.published is not None for cell in line.cells):
        what = "published" if line.gathered else "published only"
        yield [label, what, *(_published(cell, column) for cell, column in pairs)]


def _measured(cell: Cell, column: Column) -> str:
    if cell.missing:
        return rf"\emph{{{escape(cell.missing)}}}"
    number = escape(wording.number(cell.measured, column.decimals))
    shown = rf"\textbf{{{number}}}" if cell.best else number
    return shown + escape(wording.spread(cell, column.decimals))


def _published(cell: Cell, column: Column) -> str:
    number = escape(wording.number(cell.published, column.decimals))
    return rf"\textbf{{{number}}}" if cell.best_published else number


def _caption(comparison: Comparison) -> str:
    return " ".join(
        escape(part)
        for part in (
            f"{comparison.table.title}.",
            wording.verdict(comparison),
            f"Profile {comparison.scale.profile}, seeds: {wording.seeds(comparison)}.",
            wording.units(comparison),
            *wording.not_compared(comparison),
            f"Published: {comparison.table.source.strip()}",
        )
    )


def _tau(text: str) -> str:
    return "--" if text == wording.NOT_COMPARABLE else escape(text)


def _heading(column: Column) -> str:
    return escape(column.name) + ("" if column.higher_is_better else r" $\downarrow$")


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _comment(text: str) -> str:
    """Return text on one line and in ASCII, because an engine's input encoding also applies to comments."""
    return " ".join(text.split()).replace("\u03c4", "tau").encode("ascii", "replace").decode()
