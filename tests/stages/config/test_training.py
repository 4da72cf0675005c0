"""The schedule: warm-up, milestones and what they are counted in."""

from __future__ import annotations

import math

import pytest

from stages.config.training import Schedule, Validation
from tests.stages.small_training import config


def schedule(**fields: object) -> Schedule:
    base = {"epochs": 6, "batch_size": 8, "learning_rate": 0.1, "milestones": (2, 4), "gamma": 0.1}
    return Schedule.model_validate(base | fields)


def test_the_rate_falls_at_the_first_step_of_an_epoch_after_each_milestone():
    rates = [schedule().rate(step, steps_per_epoch=10) for step in (0, 19, 20, 39, 40, 59)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_warm_up_rises_from_near_zero_in_equal_parts():
    rates = [schedule(warmup_epochs=0.5).rate(step, steps_per_epoch=10) for step in range(6)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_a_schedule_without_an_epoch_is_refused():
    with pytest.raises(ValueError, match="epochs"):
        schedule(epochs=0)


def test_the_margin_rises_from_none_to_whole_and_is_whole_at_once_without_a_warm_up():
    shares = [schedule(margin_warmup_epochs=0.4).margin_share(step, steps_per_epoch=10) for step in range(6)]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    assert schedule().margin_share(0, steps_per_epoch=10) == 1


def test_a_polynomial_falls_every_step_from_the_end_of_the_warm_up_to_nothing_after_the_last():
    poly = schedule(decay="polynomial", milestones=(), power=1, warmup_epochs=1)
    rates = [poly.rate(step, steps_per_epoch=10) for step in (0, 9, 10, 35, 59)]
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.05, 0.1 / 50])
    squared = schedule(decay="polynomial", milestones=(), power=2)
    assert squared.rate(30, steps_per_epoch=10) == pytest.approx(0.025)


def test_insightfaces_rate_without_warm_up_is_theirs():
    """PolynomialLRWarmup with 0 warm-up iterations and power 1: base * (1 - step / total)."""
    poly = schedule(decay="polynomial", milestones=(), epochs=20)
    for step in (0, 1, 77, 199):
        assert poly.rate(step, steps_per_epoch=10) == pytest.approx(0.1 * (1 - step / 200))


def test_a_cosine_falls_every_step_from_the_end_of_the_warm_up_to_the_final_rate():
    cosine = schedule(decay="cosine", milestones=(), warmup_epochs=1)
    rates = [cosine.rate(step, steps_per_epoch=10) for step in (0, 9, 10, 35, 59)]
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.05, 0.1 * (1 + math.cos(math.pi * 49 / 50)) / 2])
    raised = schedule(decay="cosine", milestones=(), final_learning_rate=0.02)
    assert raised.rate(30, steps_per_epoch=10) == pytest.approx(0.06)


def test_a_cosine_is_that_of_cvlfaces_scheduler():
    """timm's CosineLRScheduler(t_initial=50, warmup_t=10, warmup_lr_init=0, warmup_prefix=True), timm 1.0.31, at rate 0.1."""
    theirs = {
        10: 0.1, 11: 0.09990133642141358, 24: 0.08187119948743449, 35: 0.05, 47: 0.015772644703565566,
        58: 0.0003942649342761118, 59: 9.866357858642206e-05,
    }  # fmt: skip
    cosine = schedule(decay="cosine", milestones=(), warmup_epochs=1)
    # in the warm-up theirs is a step behind: 0 in the first
    assert [cosine.rate(step, steps_per_epoch=10) for step in theirs] == pytest.approx(list(theirs.values()), rel=1e-9)


def test_the_averages_decay_is_small_at_first_where_it_warms_up():
    warm = schedule(ema_decay=0.999, ema_warmup=True)
    assert [warm.ema_decay_at(step) for step in (1, 8, 10**6)] == pytest.approx([2 / 11, 0.5, 0.999])
    assert schedule(ema_decay=0.999).ema_decay_at(1) == 0.999


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"decay": "polynomial"}, "milestones"), ({"warmup_epochs": 6}, "warmup_epochs 6.0 should be less than epochs 6"),
     ({"decay": "cosine"}, "no effect with decay: cosine"), ({"final_learning_rate": 0.01}, "is for decay: cosine"),
     ({"decay": "cosine", "milestones": (), "final_learning_rate": 0.2}, "should not be above learning_rate 0.1"),
     ({"nesterov": True, "momentum": 0}, "nesterov is for SGD with momentum, got optimiser sgd, momentum 0.0"),
     ({"nesterov": True, "optimiser": "adamw"}, "got optimiser adamw"), ({"betas": (0.9, 1)}, "betas should be two"),
     ({"ema_warmup": True}, "ema_warmup needs an ema_decay")],
)  # fmt: skip
def test_a_schedule_that_contradicts_itself_is_refused(fields: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        schedule(**fields)


def test_the_best_of_no_validation_cannot_be_kept():
    with pytest.raises(ValueError, match="`keep: best` needs every_epochs of at least 1, got 0"):
        Validation.model_validate({"keep": "best"})


def test_an_average_that_is_not_made_cannot_be_kept():
    with pytest.raises(ValueError, match=r"validation\.keep: ema needs schedule\.ema_decay, got none"):
        config(validation={"keep": "ema"})
