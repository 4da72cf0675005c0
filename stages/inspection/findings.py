"""What `facet doctor` says of one set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stages.core.formats.file_names import readable

SAMPLE = 32  # images decoded of each set, spread evenly
SWAPPED = "red and blue seem swapped: faces are redder than blue; were RGB images written by OpenCV?"


@dataclass
class Found:
    """What exists of a set: counts, missing files, why it cannot be used, and oddities."""

    missing: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    unusable: str = ""
    odd: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    where: str = ""
    """Place in the data set's folder, as it is there."""

    def readable(self) -> Found:
        """Return it with names that are not UTF-8 as text that can be printed."""
        return replace(
            self, unusable=readable(self.unusable), odd=[*map(readable, self.odd)], notes=[*map(readable, self.notes)]
        )
