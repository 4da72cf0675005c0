"""InsightFace training sets: ``train.rec``, ``train.idx``, ``train.lst``, ``property``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Config(BaseModel, extra="forbid", frozen=True):
    """How a record file is unpacked."""

    export: Literal["none", "folder"] = Field(
        "none", description="none: training reads the .rec; folder: the stored bytes as images/IDENTITY/KEY.jpg"
    )
    max_bad_records: int = Field(0, ge=0, description="more unreadable records than this fail the stage")
