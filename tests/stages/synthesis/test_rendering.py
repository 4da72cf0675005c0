"""Rendering in several processes, from one in which OpenCV has threads."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT

RENDERS = """
import cv2
import numpy as np
from stages.synthesis.plan import Picture, Sitting
from stages.synthesis.rendering import draw_all

cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)  # starts the threads
sittings = [Sitting(stream=0, identity=n, pictures=(Picture(slot=n, quality=0.9),)) for n in range(2)]
print([drawn[0].slot for drawn in draw_all(1, sittings, 2)])
"""


def test_a_process_with_threads_of_opencv_renders_in_others() -> None:
    # a worker that crashes is replaced for ever: the time limit ends what would never end
    done = subprocess.run([sys.executable, "-c", RENDERS], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[0, 1]\n"), done.stderr
