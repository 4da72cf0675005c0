"""Figures of heads: every published one, a run's own with its own statistics, the same bytes each time."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from stages.core.errors import InputError
from stages.run_page import head_figures, head_settings
from stages.run_page.head_settings import Setting
from stages.runtime import plugins
from stages.tools import draw


def as_png(drawn: head_figures.HeadFigure) -> bytes:
    stream = io.BytesIO()
    drawn.write(stream, "png")
    return stream.getvalue()


def test_every_published_head_is_drawn():
    # not of plugins.names: a head that somebody adds is one file, and `--run` draws it
    drawn = {setting.section["name"] for setting in head_settings.published()}
    assert drawn == {
        "adaface", "arcface", "combined", "cosface", "curricularface", "magface", "mv_softmax", "softmax", "sphereface", "uniface"
    }
    assert drawn <= set(plugins.names("heads"))


def test_the_same_heads_give_the_same_bytes():
    settings = head_settings.published()[-2:]
    assert as_png(head_figures.gradients(settings)) == as_png(head_figures.gradients(settings))
    assert head_figures.svg(head_figures.margins(settings)) == head_figures.svg(head_figures.margins(settings))


def test_only_heads_that_follow_the_norm_are_drawn_over_it():
    without = [Setting("a", {"name": "arcface", "margin": 0.5}), Setting("s", {"name": "softmax"})]
    assert head_figures.over_norm(without) is None
    drawn = head_figures.over_norm(head_settings.published())
    assert drawn is not None
    titles = [axes.get_title() for axes in drawn.figure.axes if axes.get_title()]
    assert titles == [
        "MagFace, margins 0.45 to 0.8: margin", "AdaFace, m 0.4, h 0.333: margin", "MagFace, margins 0.45 to 0.8: penalty"
    ]


def test_norms_are_the_heads_own_range_or_around_its_mean():
    assert Setting("", {"name": "magface", "min_norm": 2, "max_norm": 9}).norms() == (2, 9)
    state = {"batch_mean": 10.0, "batch_std": 2.0}
    assert Setting("", {"name": "adaface", "margin": 0.4, "h": 0.333}, state).norms() == (4, 16)
    assert Setting("", {"name": "softmax"}).norms() == (5, 35)


def test_a_statistic_that_a_head_does_not_have_is_refused():
    with pytest.raises(InputError, match="no statistic 'batch_mean', only t"):
        Setting("", {"name": "curricularface", "margin": 0.5}, {"batch_mean": 1.0}).build()


def a_run(folder: Path, head: str, curve: str) -> None:
    (folder / "resolved/runs").mkdir(parents=True)
    (folder / "resolved/runs/mine.yaml").write_text(f"train:\n  head: {head}\n")
    (folder / "results/mine").mkdir(parents=True)
    (folder / "results/mine/train.csv").write_text(curve)


def test_a_runs_head_has_the_statistics_that_its_training_ended_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path, "{name: adaface, margin: 0.3, h: 0.5}", "epoch,loss,norm_mean,norm_std\n1,3,20,100\n2,2,11.5,1.25\n")
    setting = head_settings.of_run("mine")
    assert setting.state == {"batch_mean": 11.5, "batch_std": 1.25}
    assert setting.title == "mine: adaface, margin 0.3, h 0.5"
    assert setting.norms() == (7.75, 15.25)


def test_a_unifaces_figure_has_the_threshold_that_its_training_ended_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path, "{name: uniface, margin: 0.4, scale: 32}", "epoch,loss,threshold\n1,3,0.1\n2,2,0.25\n")
    setting = head_settings.of_run("mine")
    assert setting.state == {"bias": 8.0}
    assert setting.build().statistics()["threshold"].item() == pytest.approx(0.25)


def test_a_long_title_is_drawn_smaller_so_that_its_panel_holds_it():
    short, long = "AdaFace", "a_run_with_quite_a_long_name: adaface, margin 0.4, h 0.333"
    section = {"name": "adaface", "margin": 0.4, "h": 0.333}
    for drawn in (head_figures.gradients, head_figures.margins):
        figure = drawn([head_settings.Setting(text, section) for text in (short, long)]).figure
        figure.draw_without_rendering()
        titles = {axes.title.get_text(): axes.title for axes in figure.axes if axes.title.get_text()}
        assert titles[short].get_fontsize() > titles[long].get_fontsize()
        renderer = figure._get_renderer()
        assert titles[long].get_window_extent(renderer).width <= figure.bbox.width / 2


def test_a_run_without_a_curve_is_drawn_with_the_assumed_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path, "{name: adaface, margin: 0.3, h: 0.5}", "epoch,loss\n")
    assert head_settings.of_run("mine").state == {"batch_mean": 20.0, "batch_std": 5.0}
    with pytest.raises(FileNotFoundError, match=r"resolved/runs/other\.yaml is missing"):
        head_settings.of_run("other")


def test_published_heads_are_chosen_by_name():
    titles = [setting.title for setting in head_settings.published(["adaface", "arcface"])]
    assert titles == ["ArcFace, m 0.5", "ArcFace as insightface computes it", "AdaFace, m 0.4, h 0.333"]
    assert len(head_settings.published()) == 13
    with pytest.raises(LookupError, match=r"no figure of a published head 'nonface', only of adaface, arcface"):
        head_settings.published(["nonface"])


def test_the_command_draws_published_heads_and_those_of_runs_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path, "{name: adaface, margin: 0.3, h: 0.5}", "epoch,loss\n")
    draw.main(draw.parser().parse_args(["heads", "--head", "cosface", "--run", "mine", "--format", "svg", "--out", "new"]))
    text = (tmp_path / "new/heads-margin.svg").read_text()
    assert "CosFace, m 0.35" in text
    assert "mine: adaface, margin 0.3" in text
    assert "ArcFace" not in text


def test_the_command_writes_each_figure_and_prints_its_caption(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    draw.main(draw.parser().parse_args(["heads", "--out", str(tmp_path / "new"), "--format", "svg"]))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "heads-gradient.svg", "heads-margin.svg", "heads-norm.svg"
    ]
    assert "heads-gradient.svg: Colour: how hard the loss pulls at the feature." in "".join(capfd.readouterr())
