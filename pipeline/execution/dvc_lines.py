"""Lines that DVC 3.67 itself prints about a stage, between those of the stage's program."""

from __future__ import annotations

BEGIN = ("Running stage '", "> ", "Updating lock file '", "Generating lock file '", "Stage '", "Verifying outputs in ")


def is_dvcs(line: str) -> bool:
    """Whether DVC printed a line, as far as can be seen from it.

    >>> is_dvcs("Updating lock file 'dvc.lock'"), is_dvcs("lfw 0.9917  cfp_fp 0.9512")
    (True, False)
    """
    return line.startswith(BEGIN)
