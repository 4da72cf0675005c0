"""Views: each is drawn from a stream of its own, whatever else is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from stages.core.images import augment
from stages.core.images.augment_views import VIEWS, Views
from stages.core.losses.sampler import Streams

ALWAYS = augment.Probabilities(1, 1, 1)
SIDE = 112


def picture(seed: int = 0) -> augment.Image:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def draw(views: Views, v: int, position: int, seed: int = 1, epoch: int = 2) -> augment.Image:
    return views.draw(v, picture(), Streams(seed).at(epoch, position, views.streams[v]))


def drawn(names: tuple[str, ...]) -> list[bytes]:
    views = Views(names, ALWAYS)
    return [draw(views, v, 3).tobytes() for v in range(len(views))]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_does_not_depend_on_the_others_asked_for(name: str):
    alone = drawn((name,))
    assert drawn(VIEWS)[VIEWS.index(name)] == alone[0]
    assert drawn(tuple(reversed(VIEWS)))[-1 - VIEWS.index(name)] == alone[0]


def test_the_training_view_is_the_configured_augmentation():
    wanted = augment.augment(picture(), ALWAYS, Streams(1).at(2, 3))
    assert drawn(("training",)) == [wanted.tobytes()]


def test_a_view_that_is_asked_for_twice_is_drawn_twice():
    first, second = drawn(("low", "low"))
    assert first != second
    assert first == drawn(("low",))[0]


def test_no_two_views_share_a_stream():
    streams = Views((*VIEWS, *VIEWS, *VIEWS), ALWAYS).streams
    assert len(set(streams)) == len(streams)
    # 0 is the order's
    assert min(streams) == 1


@pytest.mark.parametrize("name", ["clean", "high"])
def test_clean_and_high_views_are_the_image_or_its_mirror_image(name: str):
    views = Views((name,), ALWAYS)
    seen = [draw(views, 0, position).tobytes() for position in range(400)]
    assert set(seen) == {picture().tobytes(), picture()[:, ::-1].tobytes()}
    assert 0.4 < np.mean([pixels == picture().tobytes() for pixels in seen]) < 0.6


def test_high_and_low_views_flip_independently():
    views = Views(("high", "clean"), ALWAYS)
    flips = np.array(
        [[draw(views, v, n).tobytes() != picture().tobytes() for v in (0, 1)] for n in range(400)]
    )
    assert abs(np.corrcoef(flips.T)[0, 1]) < 0.15


@pytest.mark.parametrize("name", VIEWS)
def test_no_view_writes_to_the_image(name: str):
    image = picture()
    for position in range(10):
        Views((name,), ALWAYS).draw(0, image, np.random.default_rng(position))
    assert np.array_equal(image, picture())


def test_a_view_that_there_is_not_is_named_with_those_there_are():
    with pytest.raises(LookupError, match="no view 'blurred': there are training, clean, high, low"):
        Views(("training", "blurred"), ALWAYS)


def test_no_view_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one view"):
        Views((), ALWAYS)
