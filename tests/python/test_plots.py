"""Plots show what the tables contain."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import biorel
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def weights(run: biorel.Run) -> pd.DataFrame:
    return run.attention()


def words_of(weights: pd.DataFrame, number: int) -> pd.DataFrame:
    return weights[weights["instance"] == weights["instance"].unique()[number]]


def test_a_heat_map_shows_every_word_with_its_weight(weights: pd.DataFrame) -> None:
    words = words_of(weights, 3)
    page = biorel.heatmap(weights, 3).html()
    shown = ET.fromstring(page)
    [title, sentence] = list(shown)
    assert (title.text or "").startswith(words["instance"].iloc[0] + ", gold ")
    spans = list(sentence)
    assert [span.text for span in spans] == words["word"].tolist()
    shades = [float(re.findall(r"rgba\(230,159,0,([\d.]+)\)", span.get("style", ""))[0]) for span in spans]
    expected = 0.6 * words["weight"] / words["weight"].max()
    np.testing.assert_allclose(shades, expected, atol=1e-3)
    underlined = ["underline" in span.get("style", "") for span in spans]
    assert underlined == words["is_entity"].tolist()


def test_text_is_escaped(weights: pd.DataFrame) -> None:
    words = words_of(weights, 0).copy()
    words["word"] = "<script>alert('x')</script>"
    words["instance"] = "a&b<i>"
    words["predicted"] = '"><b>'
    page = biorel.heatmap(words).html()
    assert "<script" not in page
    assert "<b>" not in page
    assert ET.fromstring(page)[0].text == f'a&b<i>, gold {words["gold"].iloc[0]}, predicted "><b>'


def test_a_heat_map_as_a_file(weights: pd.DataFrame, tmp_path: Path) -> None:
    picture = biorel.heatmap(weights, [0, weights["instance"].iloc[-1]])
    for name, start in (("h.png", b"\x89PNG"), ("h.svg", b"<?xml"), ("h.pdf", b"%PDF"), ("h.html", b"<!doctype html>")):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(biorel.ConfigError, match=r"must end in \.html, \.svg, \.png or \.pdf"):
        picture.save(tmp_path / "h.docx")
    drawn = [text.get_text() for text in biorel.heatmap(weights, 5).plot().texts]
    assert drawn[1:] == words_of(weights, 5)["word"].tolist()
    axes = plt.subplots()[1]
    assert biorel.heatmap(weights, 5).plot(ax=axes) is axes


def test_the_lines_of_a_drawn_heat_map_have_the_given_length(weights: pd.DataFrame) -> None:
    for columns in (30, 40):
        texts: list[Any] = list(biorel.heatmap(weights, 5).plot(columns=columns).texts)
        ends = [text.get_position()[0] + len(text.get_text()) for text in texts]
        assert columns / 2 < max(ends) <= columns
        titles = [text.get_text() for text in texts if text.get_style() == "italic"]
        assert len(titles) > 1  # a long title continues in the next line
        assert " ".join(titles).startswith(words_of(weights, 5)["instance"].iloc[0])
    with pytest.raises(biorel.ConfigError, match="columns: must be at least 20, not 5"):
        biorel.heatmap(weights, 5).plot(columns=5)


def test_a_stem_without_an_interval_has_no_whisker(weights: pd.DataFrame) -> None:
    top = biorel.top_stems(weights, 2, samples=100).assign(low=[0.0, np.nan], high=[1.0, np.nan])
    [whisker] = [one for one in biorel.plot_stems(top).containers if hasattr(one, "has_xerr")]
    lines: Any = whisker.lines[2][0].get_segments()
    assert [len(line) > 0 for line in lines] == [True, False]


def test_an_unknown_instance(weights: pd.DataFrame) -> None:
    for wrong in ("nobody", 10_000):
        with pytest.raises(biorel.ConfigError, match="is not in the table of 142 pairs, such as DDI"):
            biorel.heatmap(weights, wrong)


def test_the_arguments_of_a_heat_map(weights: pd.DataFrame) -> None:
    positions = np.array([0, 3])
    assert biorel.heatmap(weights, positions[1]).instances == biorel.heatmap(weights, 3).instances
    assert biorel.heatmap(weights, positions).instances == biorel.heatmap(weights, [0, 3]).instances
    for wrong in (None, 1.5, slice(0, 2)):
        with pytest.raises(biorel.ConfigError, match="instance: must be an id, a position, or a list of them"):
            biorel.heatmap(weights, wrong)  # type: ignore[arg-type]
    with pytest.raises(biorel.ConfigError, match="weights: has no column stem; give the table of run.attention"):
        biorel.heatmap(weights.drop(columns="stem"))
    lacking = weights.assign(weight=weights["weight"].where(weights.index != 2))
    with pytest.raises(biorel.ConfigError, match="weights: the word `.*` of DDI.* has no weight"):
        biorel.heatmap(lacking)
    with pytest.raises(biorel.ConfigError, match="weights: must be a table, not NoneType"):
        biorel.heatmap(None)  # type: ignore[arg-type]


def test_bars_show_the_values_of_the_table(weights: pd.DataFrame) -> None:
    top = biorel.top_stems(weights, 5, samples=100)
    axes = biorel.plot_stems(top)
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], top["weight"])
    both = biorel.compare_stems(weights, samples=100).head(4)
    given = plt.subplots()[1]
    assert biorel.plot_stems(both, ax=given) is given
    widths = [bar.get_width() for bar in given.patches]
    np.testing.assert_allclose(widths, [*both["positive_relative"], *both["negative_relative"]])
    assert given.get_xlabel() == "mean attention, relative to uniform"
    with_baseline = biorel.plot_stems(biorel.compare_stems(weights, baseline=weights, samples=100).head(4))
    crosses = [line.get_xdata() for line in with_baseline.get_lines() if line.get_marker() == "x"]
    np.testing.assert_allclose(np.concatenate(crosses), widths)  # here the model is its own baseline
    stars = [label.get_text().endswith(" *") for label in given.get_yticklabels()]
    assert stars == (both["q"] < 0.05).tolist()
    # The legend is above the bars.
    figure: Any = given.figure
    figure.canvas.draw()
    assert given.get_legend().get_window_extent().y0 >= given.get_window_extent().y1 - 1
    with pytest.raises(biorel.ConfigError, match="top_stems or compare_stems"):
        biorel.plot_stems(weights)


def test_learning_curves(encoder: biorel.Encoder) -> None:
    run = biorel.finetune(
        biorel.load_sample("chemprot"), encoder, dev="dev", max_steps=4, eval_steps=2, max_length=96, progress=False
    )
    axes = biorel.plot_history(run)
    lines: dict[Any, Any] = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["loss of each step"].get_ydata(), run.history["loss"])
    np.testing.assert_allclose(lines["loss on dev"].get_ydata(), run.evaluations["loss"])
    assert "F1 on dev (right)" in lines


def test_the_confusion_matrix_counts_every_pair() -> None:
    table = pd.DataFrame({"gold": list("aabbb"), "predicted": ["a", "b", "b", None, "b"], "p_a": 0.5, "p_b": 0.5})
    axes = biorel.plot_confusion(table)
    counts = [text.get_text().split("\n")[0] for text in axes.texts]
    assert counts == ["1", "1", "0", "0", "2", "1"]  # columns a, b, none
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "none"]
    assert [label.get_text() for label in biorel.plot_confusion(table, ["b", "a"]).get_yticklabels()] == ["b", "a"]


def test_arguments_of_another_kind() -> None:
    wrong: Any = "run"
    with pytest.raises(TypeError, match="run must be a Run, as finetune returns it, not str"):
        biorel.plot_history(wrong)
    with pytest.raises(TypeError, match="predictions must be a Run or a table, not str"):
        biorel.plot_confusion(wrong)
    with pytest.raises(biorel.ConfigError, match="predictions: has no column gold, predicted"):
        biorel.plot_confusion(pd.DataFrame({"x": [1]}))


def test_without_matplotlib(weights: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert biorel.heatmap(weights)._repr_html_().startswith("<div")
    with pytest.raises(biorel.ConfigError, match=r'pip install "biorel\[plot\]"'):
        biorel.heatmap(weights).plot()
