"""Embeds images with a trained backbone, with the colour order, value range and size of its ``model.json``.

Shapes: N images, B batch, D feature dimensions.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stages.core.errors import InputError
from stages.core.images.pixels import SIDE, VALUE_RANGE, ColorOrder, ValueRange, from_rows, to_network
from stages.core.metrics.features import Features, Image
from stages.core.networks.fold_batch_norm import fold
from stages.embedding import feature_cache
from stages.models.model_files import Model, read_backbone
from stages.runtime.devices import choose

BATCH_SIZE = 64
GPU_BATCH_SIZE = 512
VERSION = 1  # of how images become features here: another one and nothing that was kept is used


class Embedder:
    """A backbone in evaluation mode; maps aligned BGR images to features."""

    def __init__(
        self,
        backbone: nn.Module,
        color_order: ColorOrder,
        device: torch.device,
        *,
        flip: bool = True,
        value_range: ValueRange = VALUE_RANGE,
        network: str | None = None,
        most: int | None = None,
    ) -> None:
        self.network = network
        self.batch_size = batch_size(device, most)
        self.color_order: ColorOrder = color_order
        self.value_range = value_range
        self.device, self.flip = device, flip
        self.overlaps = device.type != "cpu"
        """Whether the next batch is read while the device computes this one."""
        # channels last and without batch norms: 1.5 times as fast on a CPU
        self.backbone = fold(backbone).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls, run_folder: Path, device: torch.device | None = None, *, flip: bool = True, keep: bool = False
    ) -> Embedder:
        """Return the embedder of a trained run.

        Args:
            run_folder: with ``model.json`` and ``weights.pt``.
            device: None: as ``FACET_DEVICE`` says.
            flip: embed the mirrored images too, which takes twice the time.
            keep: keep features under ``.facet/embeddings``, and take from there what another stage has embedded.

        Raises:
            FileNotFoundError: there is no model.
            ValueError: model and weights do not belong together.
        """
        backbone, model = read_backbone(run_folder)
        device = device or choose()
        network = fingerprint(model, device) if keep and feature_cache.limit_bytes() else None
        if network is not None:
            feature_cache.prune(network)
        return cls(
            backbone, model.color_order, device, flip=flip, value_range=model.value_range, network=network
        )

    def __call__(self, images: Iterable[Image]) -> Features:
        """Return the features of aligned images, uint8 (112, 112, 3), blue first, in their order.

        Images and their mirror images go through the network together, ``self.batch_size`` at a time, the last batch
        filled up: a batch of one fixed size gives each image the same bits whatever else is in it, and whatever
        the number of threads (measured, and held by a test). What a shelf has is not embedded again.

        Raises:
            ValueError: an image of another size or type, or a feature that is not finite.
        """
        rest = iter(images)
        first = next(rest, None)
        if first is None:
            raise InputError("no image to embed")
        _check(first)
        made = _Pass(self, None if self.network is None else feature_cache.Shelf(self.network))
        with made.alone(first):
            for image in itertools.chain([first], rest):
                _check(image)
                made.add(image)
            made.finish()
        feature_ND, *flipped = made.sides
        if not np.isfinite(feature_ND).all():
            raise InputError("the backbone's features are not finite: its training diverged")
        return Features(feature_ND, flipped[0] if flipped else None)

    @torch.inference_mode()
    def embed(self, image_BHW3: np.ndarray) -> Tensor:
        """Return feature_BD of one batch of images, uint8, on the device, which may still be computing them."""
        image_B = torch.from_numpy(image_BHW3)
        if self.device.type == "cuda":
            image_B = image_B.pin_memory()
        image_B3HW = from_rows(image_B.to(self.device, non_blocking=True))
        feature_BD: Tensor = self.backbone(to_network(image_B3HW, self.color_order, self.value_range))
        return feature_BD.float()


Waiting = tuple[int, int, Image, feature_cache.Key]
"""Side, row, image, key."""


def batch_size(device: torch.device, most: int | None = None) -> int:
    """Return the number of images in a batch, the same for all batches of an embedder.

    Args:
        device: where it computes.
        most: that fit beside what else is in a GPU's memory; None: nothing else is.

    >>> batch_size(torch.device("cpu"), 8), batch_size(torch.device("cuda"), 128), batch_size(torch.device("cuda"))
    (64, 128, 512)
    """
    return BATCH_SIZE if device.type == "cpu" else min(GPU_BATCH_SIZE, most or GPU_BATCH_SIZE)


class _Pass:
    """One pass over images: cached features are returned at once, the others are computed in batches."""

    def __init__(self, embedder: Embedder, shelf: feature_cache.Shelf | None) -> None:
        self.embedder, self.shelf = embedder, shelf
        self.num_sides = 2 if embedder.flip else 1
        self.num_images = 0
        self.sides: list[np.ndarray] = []
        self.size = embedder.batch_size
        self.waiting: list[Waiting] = []
        self.started: list[tuple[list[Waiting], Tensor]] = []
        """Batches that the device may still be computing: none on a CPU, else one at most between two images."""

    def alone(self, first: Image) -> AbstractContextManager[None]:
        """Return a lock against concurrent passes over the same images."""
        return nullcontext() if self.shelf is None else self.shelf.one_pass(feature_cache.key_of(first, mirrored=False))

    def add(self, image: Image) -> None:
        """Take the next image."""
        row, self.num_images = self.num_images, self.num_images + 1
        key = b"" if self.shelf is None else feature_cache.key_of(image, mirrored=False)
        for side in range(self.num_sides):
            side_key = key[:-1] + bytes([side])
            found = None if self.shelf is None else self.shelf.get(side_key)
            if found is not None:
                self._store(side, [row], found[np.newaxis])
                continue
            self.waiting.append((side, row, image[:, ::-1] if side else image, side_key))
            if len(self.waiting) == self.size:
                self._run()

    def finish(self) -> None:
        """Embed the waiting images, and cut the arrays to size."""
        if self.waiting:
            self._run()
        while self.started:
            self._keep(*self.started.pop(0))
        self.sides = [side_ND[: self.num_images] for side_ND in self.sides]

    def _run(self) -> None:
        """Start a batch, and keep what the device has computed meanwhile."""
        image_BHW3 = np.zeros((self.size, SIDE, SIDE, 3), np.uint8)
        for place, (_, _, image, _) in enumerate(self.waiting):
            image_BHW3[place] = image
        self.started.append((self.waiting, self.embedder.embed(image_BHW3)))
        self.waiting = []
        while len(self.started) > int(self.embedder.overlaps):
            self._keep(*self.started.pop(0))

    def _keep(self, images: list[Waiting], device_feature_BD: Tensor) -> None:
        feature_BD = device_feature_BD.cpu().numpy()[: len(images)]
        for side in range(self.num_sides):
            places = [place for place, (of, _, _, _) in enumerate(images) if of == side]
            if places:
                self._store(side, [images[place][1] for place in places], feature_BD[places])
        if self.shelf is not None:
            finite = [place for place in range(len(images)) if np.isfinite(feature_BD[place]).all()]
            self.shelf.put([images[place][3] for place in finite], feature_BD[finite])

    def _store(self, side: int, rows: list[int], feature_RD: np.ndarray) -> None:
        while len(self.sides) < self.num_sides:
            self.sides.append(np.zeros((1024, feature_RD.shape[1]), np.float32))
        if rows[-1] >= len(self.sides[side]):
            # the C library moves large arrays by their pages: no second copy
            self.sides[side].resize((2 * (rows[-1] + 1), feature_RD.shape[1]), refcheck=False)
        self.sides[side][rows] = feature_RD


def _check(image: Image) -> None:
    if image.shape != (SIDE, SIDE, 3) or image.dtype != np.uint8:
        raise InputError(f"wanted aligned images, uint8 ({SIDE}, {SIDE}, 3), got {image.dtype} {image.shape}")


def fingerprint(model: Model, device: torch.device) -> str:
    """Return a digest of everything that a feature depends on except the image."""
    on_gpu = device.type == "cuda"
    what = {
        "version": VERSION,
        "model": model.model_dump(mode="json"),
        "torch": torch.__version__,
        "batch": batch_size(device),
        "device": torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability(),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]
