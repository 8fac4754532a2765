"""Figures: each is drawn whole; what can't be drawn says why."""

import io

import numpy as np
import pytest
from PIL import Image

from analysis import figures
from analysis.charts.curves import learning_curves
from analysis.charts.gantt import gantt
from analysis.charts.search import evolution, pareto, slices
from analysis.charts.space import importance, pairs, parallel_coordinates
from analysis.record.store import AnalysisError
from analysis.record.sweeps import sweeps
from analysis.record.tables import load


@pytest.fixture(scope="module")
def three(client):
    return load(client, "three")


def test_every_chart_is_drawn_whole(three):
    """Nothing lies outside the canvas: labels that are cut off show up here."""
    for draw in (
        learning_curves,
        evolution,
        slices,
        importance,
        pairs,
        parallel_coordinates,
        gantt,
        pareto,
    ):
        figure = draw(three)
        file = io.BytesIO()
        figure.savefig(file, dpi=50)
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 > -0.05 and box.y0 > -0.05, draw.__name__
        assert box.x1 < width + 0.05 and box.y1 < height + 0.05, draw.__name__
        assert np.asarray(Image.open(file)).std() > 1


def test_curves_of_other_features_are_not_drawn_beside_a_sweep(client, tmp_path, capsys):
    arguments = ["--sweep", "three", "--tracking-uri", client.tracking_uri, "--output", str(tmp_path)]
    assert figures.main([*arguments, "--only", "seed-bands", "--beside", "inception"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "Left out seed-bands: The sweeps' scores differ in extractor: not comparable." in said


def test_a_sweep_stands_beside_itself_once(client, three):
    twins = [sweep.sweep_id for sweep in sweeps(client) if sweep.name == "twin"]
    wanted = ("three", three.sweep.sweep_id, *twins, twins[0])
    assert [name for name, _ in figures.comparison(client, three, wanted)] == [
        "three",
        *(f"twin ({sweep_id})" for sweep_id in twins),
    ]


def test_scores_of_other_epochs_have_no_color_among_those_of_the_last(three):
    panel = evolution(three).axes[1]
    whole, partial = panel.collections
    finished = three.trials[three.complete]
    assert list(whole.get_offsets()[:, 0]) == list(finished["number"])
    np.testing.assert_allclose(whole.get_array(), three.objective[finished.index])
    others = three.scored()[~three.complete[three.scored().index]]
    assert len(others) and list(partial.get_offsets()[:, 0]) == list(others["number"])
    assert len(partial.get_facecolor()) == 0
    assert panel.get_legend().get_texts()[0].get_text() == "not trained to the end"


def test_who_was_not_fully_trained_is_hollow(three):
    for axes in (evolution(three).axes[0], slices(three).axes[0]):
        faces = {line.get_label(): line.get_markerfacecolor() for line in axes.get_lines()}
        assert faces["finished"] != "none" and faces["stopped"] == "none"


def test_the_command_draws_what_it_can_and_says_what_it_cannot(client, tmp_path, capsys):
    arguments = ["--sweep", "three", "--tracking-uri", client.tracking_uri, "--output", str(tmp_path)]
    assert figures.main([*arguments, "--only", "gantt", "posterior", "--form", "svg"]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "three" / "gantt.svg").read_text().count("<svg") == 1
    assert "Left out posterior: Sweep 'three' has no posterior on record" in said
    assert figures.main([*arguments, "--only", "samples"]) == 2
    assert "The record has no weights of trial" in capsys.readouterr().out
    assert figures.main([*arguments, "--only", "mandala"]) == 2
    assert "There is no figure 'mandala'; there are: curves, seed-bands" in capsys.readouterr().err


def test_a_posterior_on_record_is_drawn_and_an_earlier_version_s_of_one_number_too(three, monkeypatch):
    names = [name for name in three.space if name in three.settings][:2]
    curve = {
        "grid": [1.0, 2.0],
        "mean": [3.0, 4.0],
        "band": 2 * [[3.0, 4.0]],
        "band_of_run": 2 * [[3.0, 4.0]],
    }
    curves = [curve | {"name": name, "gain": [0.0, 1.0], "at": {"other": 2.0}} for name in names]

    def figure_of(recorded):
        monkeypatch.setattr(figures, "belief_of", lambda *_: {"finals": {}} | recorded)
        return figures.posterior(None, three)

    drawn = figure_of({"beliefs": curves})
    assert [axes.get_lines()[0].get_ydata().tolist() for axes in drawn.axes[:2]] == [[3.0, 4.0]] * 2
    assert "other = 2" in drawn.get_supxlabel()
    assert len(figure_of(curves[0]).axes) == 2
    for recorded, said in (({}, "has no posterior"), ({"beliefs": [{"name": "lr"}]}, "by another version")):
        with pytest.raises(AnalysisError, match=said):
            figure_of(recorded)


def test_one_figure_that_fails_leaves_the_others(client, tmp_path, capsys, monkeypatch):
    def fail(tables):
        raise RuntimeError("no such layer\nat all")

    monkeypatch.setattr(figures, "slices", fail)
    arguments = ["--sweep", "three", "--tracking-uri", client.tracking_uri, "--output", str(tmp_path)]
    assert figures.main([*arguments, "--only", "slices", "gantt"]) == 0
    assert "Left out slices: RuntimeError: no such layer\n" in capsys.readouterr().out
    assert (tmp_path / "three" / "gantt.png").exists()
