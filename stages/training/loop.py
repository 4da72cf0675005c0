"""The training loop of train_backbone, after AdaFace train_val.py, with checkpoints to resume from.

The weights depend on the configuration and the records and on nothing else: not on how many processes load, nor on
whether the training was killed and resumed. (Bit for bit on one machine's CPU; on a GPU as far as kernels allow;
with another number of processes up to rounding.)

Shapes: V views, B batch of this process.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import torch
from torch import Tensor, nn

from stages.config.training import Config
from stages.core.errors import InputError
from stages.core.losses.head import HeadOutput
from stages.runtime import program, progress
from stages.training import other_checkpoints
from stages.training.checkpoints import Checkpoints, Snapshot
from stages.training.dataset import Batch, Records, Samples, load, order_of
from stages.training.distributed import Processes
from stages.training.initial import Start
from stages.training.speed import Speed
from stages.training.step import Stepper

CHECKPOINT_S = 600.0
"""Longest time without a checkpoint, in seconds; there is one after every epoch as well."""
LOG_STEPS = 20
"""Steps between two measurements; reading the loss makes a GPU wait."""

LogPoint = Callable[..., None]
"""Takes a step and named values, as `progress.log_point`."""
Validate = Callable[[nn.Module], Mapping[str, float]]
"""Maps a backbone to numbers: accuracies by test set, their mean as ``avg``, ``SUITE.METRIC`` of other suites."""
SCORE = "validation_best_by"
"""The number that the best weights are chosen by, where `best_by` says so."""


@dataclass
class Sums:
    """Sums over the steps of an epoch, on the device: no synchronisation until they are read."""

    num_images: int = 0
    num_steps: int = 0
    total_3: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def add(self, output: HeadOutput, processes: Processes) -> None:
        """Add one step: loss (per step), hits and target cosines (per image)."""
        hits, cosine = output.hit_B.double().sum(), output.target_cosine_B.double().sum()
        # every process has the loss of the whole batch
        step_3 = torch.stack([output.loss.detach().double() / processes.size, hits, cosine])
        self.total_3 = self.total_3.to(step_3.device) + step_3
        self.num_images += len(output.hit_B) * processes.size
        self.num_steps += 1

    def means(self, processes: Processes) -> dict[str, float]:
        """Return mean loss, share of images nearest their own centre, and mean cosine with it, over all processes."""
        loss, hits, cosine = processes.sum(self.total_3).tolist()
        return {
            "loss": loss / self.num_steps,
            "accuracy": hits / self.num_images,
            "target_cosine": cosine / self.num_images,
        }


class Training:
    """One training run: its networks, optimiser and position, all of which a checkpoint holds."""

    def __init__(
        self,
        config: Config,
        records: Records,
        processes: Processes | None = None,
        validate: Validate | None = None,
        start: Start | None = None,
        log_point: LogPoint = progress.log_point,
    ) -> None:
        assert (start is None) == (config.initial is None)
        self.config, self.records, self.validate, self.log_point = config, records, validate, log_point
        self.processes = processes or Processes()
        ranks = self.processes
        config.check_parts(ranks.size)  # FACET_PROCS may say another number than the run
        self.order = order_of(records, config, ranks.rank, ranks.size)
        if not ranks.alike(int(records.fingerprint[:15], 16)):
            raise InputError(f"the processes see different records of {config.dataset}: let them share data/unpacked")
        self.stepper = Stepper(config, records.num_classes, self.order, self.processes, start)
        self.networks = self.stepper.networks
        self.step = 0
        self.note = ""
        self.sums = Sums()
        self.speed = Speed(self.processes.device)
        self.history: list[dict[str, float]] = []
        self.looked: dict[str, float] = {}
        """Results of the last validation in this epoch."""
        self.best: dict[str, float] = {}
        """Step and epoch of the best validation so far, and its results."""

    @property
    def num_steps(self) -> int:
        """Number of steps of the whole training run."""
        return self.config.schedule.epochs * self.order.steps_per_epoch

    def run(self, checkpoints: Checkpoints, label: str) -> None:
        """Train to the end, from the last checkpoint if there is one; on SIGTERM write another one and stop.

        Raises:
            ValueError: the loss is not finite, or an image cannot be decoded.
            OSError: a checkpoint cannot be written.
            Terminated: SIGTERM came; what was done is kept.
        """
        self.resume(checkpoints, label)
        lines = progress.Progress(label, (self.num_steps - self.step) * self.order.size, "images")
        saved_s, between_s = time.monotonic(), _seconds_between_checkpoints()
        with until_terminated() as is_terminated:
            for batch in self.speed.over(self.batches(), self.order.size):
                output = self.advance(*batch)
                ended = self.step % self.order.steps_per_epoch == 0
                told = ended or self.step % LOG_STEPS == 0
                if told:
                    self.report(output)
                self.look()
                if ended:
                    self.end_epoch(output)
                # the best weights so far are kept as a checkpoint
                due, stopped = ended or self.best.get("step") == self.step, False
                if told or between_s <= 0 or self.processes.size == 1:
                    late = self.processes.is_first and time.monotonic() - saved_s >= between_s
                    due, stopped = self.processes.any(due or late, is_terminated())
                if due or stopped:
                    checkpoints.save(self.snapshot())
                    saved_s = time.monotonic()
                if stopped and self.step < self.num_steps:
                    raise program.Terminated
                if self.processes.is_first:
                    lines.advance(self.order.size, note=self.note)

    def resume(self, checkpoints: Checkpoints, label: str) -> None:
        """Resume from the last checkpoint if there is one.

        Raises:
            ValueError: there are checkpoints, and all are damaged.
            OSError: none could be written.
        """
        checkpoints.prepare()
        snapshot = checkpoints.last(self.stepper.span, self.processes.device)
        if snapshot is None:
            if self.processes.is_first and (told := other_checkpoints.sentence(checkpoints)):
                progress.say(f"{label}: {told}")
            return
        self.load(snapshot)
        if self.processes.is_first:
            progress.say(f"{label}: resumed after step {self.step} of {self.num_steps}")

    def batches(self) -> Iterator[Batch]:
        """Yield the remaining batches."""
        views = self.networks.objective.views
        drawn = self.config.augmentation
        low = drawn.low_view.probabilities()
        samples = Samples(self.records, drawn.probabilities(), self.config.seed, views, low, self.stepper.brisque)
        return load(samples, self.order, self.step, self.num_steps, self.processes.device)

    def advance(self, *batch: Tensor) -> HeadOutput:
        """Make one step, on what ``batches`` yields."""
        output = self.stepper.advance(self.step, *batch)
        self.step += 1
        self.sums.add(output, self.processes)
        return output

    def report(self, output: HeadOutput) -> None:
        """Log one measurement, and stop if the loss is not finite."""
        loss, means = float(output.loss.detach()), self.sums.means(self.processes)
        rate = self.stepper.optimiser.param_groups[0]["lr"]
        if not math.isfinite(loss) or not math.isfinite(means["loss"]):
            raise InputError(
                f"the loss is {loss} at step {self.step} of {self.num_steps} (learning rate {rate:g}): "
                "lower schedule.learning_rate or lengthen schedule.warmup_epochs"
            )
        self.note = f"loss {loss:.3f}"
        if self.processes.is_first:
            terms = {name: float(value) for name, value in output.terms.items()}
            left = {"steps_left": float(self.num_steps - self.step)}
            values = means | {"loss": loss, "learning_rate": rate} | terms | self.speed.lap() | left
            self.log_point(self.step, **values)

    def end_epoch(self, output: HeadOutput) -> None:
        """Record the results of the epoch."""
        terms = {name: float(value) for name, value in output.terms.items()}
        rate = self.stepper.optimiser.param_groups[0]["lr"]
        epoch = len(self.history) + 1
        means = self.sums.means(self.processes)
        self.history.append({"epoch": epoch, **means, "learning_rate": rate, **terms, **self.looked})
        self.sums, self.looked = Sums(), {}

    def look(self) -> None:
        """Evaluate the backbone after this step, if it is due, and remember the best; all processes share the work."""
        wanted = self.config.validation
        if self.validate is None or not self.is_due():
            return
        self.speed.pause()  # it is no part of a step's time
        found = dict(self.validate(self.networks.backbone))
        score = wanted.score(found)
        self.looked = {f"validation_{name}": value for name, value in found.items()}
        if wanted.best_by and score is not None:
            self.looked[SCORE] = score
        if self.stepper.average is not None:
            averaged = self.validate(self.stepper.average.backbone)
            self.looked |= {f"validation_ema_{name}": value for name, value in averaged.items()}
        if self.processes.is_first:
            self.log_point(self.step, **self.looked)
        if score is not None and score > self.best.get(SCORE, self.best.get("validation_avg", -math.inf)):
            epoch = -(-self.step // self.order.steps_per_epoch)
            self.best = {"step": self.step, "epoch": epoch, **self.looked}

    def is_due(self) -> bool:
        """Return whether the backbone is evaluated after this step: by epochs, by steps, and after the last."""
        wanted = self.config.validation
        epoch, within = divmod(self.step, self.order.steps_per_epoch)
        by_epochs = wanted.every_epochs and not within and epoch % wanted.every_epochs == 0
        by_steps = wanted.every_steps and self.step % wanted.every_steps == 0
        return bool(by_epochs or by_steps or (wanted.is_wanted and self.step == self.num_steps))

    def snapshot(self) -> Snapshot:
        """Return everything that later processes, of any number, need to resume."""
        shared, rows, own = self.stepper.state()
        sums = {**vars(self.sums), "total_3": self.processes.sum(self.sums.total_3)}
        shared |= {"sums": sums, "history": self.history, "looked": self.looked, "best": self.best}
        shared["speed"] = self.speed.state()
        span = self.stepper.span
        best_step = int(self.best["step"]) if self.best else None
        return Snapshot(self.step, shared, rows, span.start, self.records.num_classes, own, best_step)

    def load(self, snapshot: Snapshot) -> None:
        """Restore a ``snapshot``."""
        self.stepper.load_state(snapshot.shared, snapshot.rows, snapshot.own)
        self.step = snapshot.step
        self.sums = Sums(**snapshot.shared["sums"])
        if not self.processes.is_first:
            self.sums.total_3 = torch.zeros_like(self.sums.total_3)  # the first one has the sum of all
        self.history, self.best = snapshot.shared["history"], snapshot.shared["best"]
        self.looked = snapshot.shared["looked"]
        self.speed.load(snapshot.shared["speed"])


@contextmanager
def until_terminated() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGTERM was received; SIGTERM has no other effect meanwhile.

    A step is not cut in two: what it would leave half done could not be written down.
    """
    came = []

    def take(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGTERM, take)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


def _seconds_between_checkpoints() -> float:
    given = os.environ.get("FACET_CHECKPOINT_SECONDS", str(CHECKPOINT_S))
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise InputError(f"FACET_CHECKPOINT_SECONDS should be a number of seconds (0: after every step), got {given!r}")
    return seconds
