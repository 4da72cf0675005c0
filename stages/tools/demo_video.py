"""`facet demo-video`: compares models on increasingly blurred faces, as a video and as a curve."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from stages.core.errors import InputError, OperationError
from stages.embedding.embedder import Embedder
from stages.models import lookup
from stages.pictures import blur
from stages.pictures import detect as faces
from stages.pictures.blur import Gallery, Matcher, Probe
from stages.runtime import artifacts, files, places, program, progress
from stages.tools._screen import Canvas, Screen

EXAMPLES = """\
examples:
  facet demo-video --models baseline qgface --dataset demo --out blur.mp4 --plot blur.png
  facet demo-video --models baseline qgface --video talk.mp4 --gallery people/ --person anna --out blur.gif"""
CURVE = tuple(np.arange(0, 6.01, 0.5))
NOTHING = "no frame had a face: give a video of a person, or --dataset"


def main(arguments: argparse.Namespace) -> None:
    """Match, draw, write."""
    if arguments.out.suffix not in (".mp4", ".gif"):
        raise InputError(f"--out should end in .mp4 or .gif, got {arguments.out}")
    gallery, probes, known = sources(arguments)
    matchers = {name: Matcher(Embedder.load(lookup.find(name).backbone), gallery) for name in arguments.models}
    sigmas = [0.0, *arguments.blur]
    screen = Screen(gallery, arguments.models, ["original", *("blur" + "+" * n for n in range(1, len(sigmas)))])
    frames = (screen.draw(probe, sigmas, found) for probe, found in blur.match_frames(matchers, probes, sigmas))
    write_video(arguments.out, frames, arguments.frames_per_second)
    for model in arguments.models:
        counts = [screen.counts[model, level] for level in range(len(sigmas))]
        told = ", ".join(f"{title} {true}" for title, (true, _) in zip(screen.titles, counts, strict=True))
        print(f"{model}: true matches of {sum(counts[0])}: {told}")
    if arguments.plot:
        draw_curve(arguments.plot, blur.true_match_rates(matchers, known, CURVE))
    progress.say(f"written: {arguments.out}" + (f" and {arguments.plot}" if arguments.plot else ""))


def sources(arguments: argparse.Namespace) -> tuple[Gallery, Iterator[Probe], list[Probe]]:
    """Return the gallery, the probes to show, and those of known people, for the curve."""
    if arguments.video is None:
        gallery, known = blur.synthetic(places.eval_folder(arguments.dataset))
        return gallery, iter(known[: arguments.limit]), known
    if arguments.gallery is None:
        raise InputError("--video needs a --gallery: a folder with one picture per person")
    detect = faces.choose(arguments.detector)
    gallery = blur.gallery_of(arguments.gallery, detect)
    if arguments.person is not None and arguments.person not in gallery.names:
        raise InputError(f"--person {arguments.person} is not in the gallery: there are {', '.join(gallery.names)}")
    shown = blur.video_probes(arguments.video, detect, arguments.person, arguments.limit)
    known = list(shown) if arguments.plot else []
    return gallery, iter(known) if arguments.plot else shown, known


def write_video(out: Path, frames: Iterator[Canvas], frames_per_second: float) -> None:
    """Write frames as MP4 or GIF; a film that was there stays until the new one is whole.

    Raises:
        ValueError: there is no frame, or this OpenCV writes no MP4.
        OperationError: the film did not arrive on the disk.
    """
    first = next(frames, None)
    if first is None:
        raise InputError(NOTHING)
    every = itertools.chain((first,), frames)
    with files.replacing(out) as aside:
        if out.suffix == ".gif":
            pictures = [PillowImage.fromarray(frame[:, :, ::-1]) for frame in every]
            duration_ms = round(1000 / frames_per_second)
            pictures[0].save(aside, "GIF", save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0)
        else:
            aside.write_bytes(mp4(every, first.shape, frames_per_second))


def mp4(frames: Iterator[Canvas], shape: Sequence[int], frames_per_second: float) -> bytes:
    """Return the bytes of an MP4 of frames of one shape (height, width, 3).

    OpenCV writes to a path alone, and says nothing where a write fails: so it writes elsewhere, and is read back.

    Raises:
        ValueError: this OpenCV writes no MP4.
        OperationError: fewer frames can be read back than were written.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), frames_per_second, (shape[1], shape[0]))
        if not writer.isOpened():
            raise InputError("this OpenCV writes no .mp4: choose .gif")
        wanted = 0
        for frame in frames:
            writer.write(frame)
            wanted += 1
        writer.release()
        if (found := num_frames(path)) != wanted:
            raise OperationError(f"{path}: {found} of {wanted} frames arrived on the disk: is it full?")
        return path.read_bytes()


def num_frames(path: Path) -> int:
    """Return how many frames of a film can be read."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


def draw_curve(path: Path, rates: dict[str, list[float]]) -> None:
    """Draw the rate of true matches against blur, one line per model."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for name, values in rates.items():
        axes.plot(CURVE, [100 * value for value in values], marker="o", ms=3, label=name)
    axes.set_xlabel("Gaussian blur, standard deviation in pixels of 112")
    axes.set_ylabel("true matches, %")
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend()
    with artifacts.write_file(path) as aside:
        figure.savefig(aside, dpi=110, format=path.suffix.removeprefix(".") or "png")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    options = argparse.ArgumentParser(
        prog="facet demo-video",
        description="Show models side by side on increasingly blurred faces: nearest match, cosine, counts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--models", nargs="+", required=True, help="runs, names under models/, or folders")
    source = options.add_mutually_exclusive_group()
    source.add_argument("--dataset", default="demo", help="synthetic data set, whose people are known (demo)")
    source.add_argument("--video", help="video file, or a camera's number")
    options.add_argument("--gallery", type=Path, help="folder with one picture per person, for --video")
    options.add_argument("--person", help="name in the gallery of the person in the video; else nothing is counted")
    options.add_argument("--detector", help="YuNet's model file, or mtcnn (facenet-pytorch); default: YuNet if found")
    options.add_argument(
        "--blur", nargs="+", type=float, default=[1.5, 3.0], help="standard deviations of blur+, blur++ ... (1.5 3.0)"
    )
    options.add_argument("--out", type=Path, default=Path("blur.mp4"), help="output file, .mp4 or .gif (blur.mp4)")
    options.add_argument("--plot", type=Path, help="draw true matches against blur to this PNG")
    options.add_argument("--limit", type=int, default=100, help="maximum number of frames (100)")
    options.add_argument("--frames-per-second", type=float, default=2.0)
    return options


if __name__ == "__main__":
    sys.exit(program.run(main, parser()))
