"""What notebooks show, and LaTeX."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import biorel
import matplotlib.pyplot as plt
from biorel._html import curve_html, fields_html, title_html
from biorel.evaluation.scores import Scores
from biorel.reproduction.report import Report, Section


def test_a_corpus_shows_its_table() -> None:
    shown = biorel.load_sample("ddi")._repr_html_()
    assert re.findall("<td>(406|142)</td>", shown) == ["406", "142"]
    assert "no relation: false" in shown
    # A wide table scrolls, and the names of the splits are on the left.
    assert re.search("<div style='overflow-x:auto'><table style='margin-left:0'", shown)
    assert re.findall("<td style='text-align:left'>(\\w+)</td>", shown) == ["train", "test"]


def test_a_run_shows_its_scores_protocol_and_loss(run: biorel.Run) -> None:
    shown = run._repr_html_()
    assert run.scores.protocol in shown
    assert f"{run.scores.set_index('class').loc['micro', 'f1']:.3f}" in shown
    assert "NaN" not in shown
    assert "&lt;NA&gt;" not in shown
    points = re.search("points='([^']*)'", shown)
    assert points is not None
    assert len(points[1].split()) == len(run.history)
    # Colours are inherited, so that a dark theme is followed.
    assert not re.search("(?<![-a-z])(color|background)[:=]", shown)


def test_a_model_shows_its_card(run: biorel.Run) -> None:
    shown = run.model._repr_html_()
    for text in (run.model.head, run.model.identity, "mechanism"):
        assert text in shown


def test_texts_are_escaped() -> None:
    for shown in (title_html("<b>", "&"), fields_html({"<i>": "<script>"}), curve_html([1.0, 0.5], "<loss 'x'>")):
        ElementTree.fromstring(f"<div>{shown}</div>")
        assert not re.search("<(b|i|script|loss)>", shown)
    scores = Scores({"class": ["<b>"]})
    scores.attrs["protocol"] = "a < b"
    assert "a &lt; b" in scores._repr_html_()
    assert "&lt;b&gt;" in scores._repr_html_()


def test_the_curve_of_constant_values() -> None:
    for values in ([], [0.0], [1.0, 1.0]):
        ElementTree.fromstring(curve_html(values, "loss"))


def test_the_pictures_of_a_report_have_the_colour_of_its_text(run: biorel.Run, tmp_path: Path) -> None:
    for style in ("default", "dark_background"):
        with plt.style.context(style):
            report = Report("", [], [Section("", [], pictures={"history": biorel.plot_history(run)})])
        colours = set(re.findall(r"(?:fill|stroke): (#\w+|\w+)", report.html_body()))
        assert "currentColor" in colours
        assert not colours & {"#000000", "#ffffff", "black", "white"}
        report.write(tmp_path)
        # The file has a background, and is XML.
        assert "background: white" in (ElementTree.parse(tmp_path / "history.svg").getroot().get("style") or "")


def test_scores_are_printed_without_missing_values(run: biorel.Run) -> None:
    text = repr(run.scores)
    assert "NA" not in text
    assert text.endswith(run.scores.protocol)
    row = next(line.split() for line in text.splitlines() if " effect " in line)
    assert int(row[-2]) == run.scores.set_index("class").loc["effect", "support"]


def test_latex_keeps_the_protocol(run: biorel.Run) -> None:
    scores = run.scores
    text = scores.to_latex()
    assert f"\\caption{{{scores.protocol}}}" in text
    assert "NaN" not in text
    assert "<NA>" not in text
    scores.attrs["protocol"] = "F1 of `a_b`, 95 %"
    assert r"\caption{F1 of `a\_b`, 95 \%}" in scores.to_latex()
    assert r"\caption{ours}" in scores.to_latex(caption="ours")


def test_confusion_of_a_run_has_percentages(run: biorel.Run) -> None:
    for style in ("default", "dark_background"):
        with plt.style.context(style):
            axes = biorel.plot_confusion(run)
        texts = [text.get_text() for text in axes.texts]
        assert len(texts) == len(run.corpus.labels) ** 2
        counts = [int(text.split("\n")[0].replace(",", "")) for text in texts]
        assert sum(counts) == len(run.predictions())
        first = counts[: len(run.corpus.labels)]
        assert texts[0].split("\n")[1] == f"{first[0] / sum(first):.0%}"
        # An empty cell has the background's colour, and its text is legible on it.
        empty = axes.texts[counts.index(0)] if 0 in counts else None
        if empty is not None:
            assert empty.get_color() == ("black" if style == "default" else "white")
        plt.close(axes.figure)
