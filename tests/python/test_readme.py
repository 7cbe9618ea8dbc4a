"""The code of README and of the documentation's start page runs, block after block, as it stands.

Only the size differs: a tiny encoder instead of MiniLM, and two steps per training. The published corpora, which cannot
be shipped, and the reader's own files are replaced by the synthetic sample. Not run, but checked against the files that
they name: `make` and `pip install`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli import demo
from biorel.cli.main import main
from biorel.reproduction import published
from tiny_bert import write_encoder

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md"]
ABSTRACT = "1|t|Tamoquidol increases the concentration of brelozine.\n1|a|\n1\t0\t10\tTamoquidol\tChemical\tC1\n"
ABSTRACT += "1\t42\t51\tbrelozine\tChemical\tC2\n\n"


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each code block."""
    return re.findall(r"(?m)^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each command; a backslash continues a line."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def small(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    """The function on the tiny encoder, with few and short steps."""
    changes |= {"max_steps": 2, "max_length": 96, "progress": False}

    def run(corpus: biorel.Corpus, encoder: str = "minilm", **settings: Any) -> Any:
        assert encoder == "minilm"
        return function(corpus, **{**settings, **changes})

    return run


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the pages read; the encoder's path."""
    encoder = write_encoder(tmp_path / "encoder")
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.make_archive("DDICorpus-2013", "zip", biorel.sample_path("ddi"))
    shutil.copy(next(biorel.sample_path("aimed").glob("*.xml")), "AIMed.xml")
    rows = [
        f'"Tamoquidol {verb} the effect of brelozine in {count} patients.",tamoquidol,brelozine,{label}'
        for count in range(2, 42)
        for verb, label in (("enhances", "effect"), ("was given before", "none"))
    ]
    Path("pairs.csv").write_text("\n".join(["sentence,drug_a,drug_b,label", *rows]), encoding="utf-8")
    Path("new.csv").write_text(
        "sentence,drug_a,drug_b\nAspirin enhances warfarin.,aspirin,warfarin\n", encoding="utf-8"
    )
    Path("abstracts.pubtator").write_text(ABSTRACT, encoding="utf-8")
    Path("pubtator").mkdir()
    shutil.copy("abstracts.pubtator", "pubtator/1.pubtator")
    finetune = small(biorel.finetune, encoder=encoder)
    for module in (biorel, demo):
        monkeypatch.setattr(module, "finetune", finetune)
    monkeypatch.setattr(biorel, "compare", small(biorel.compare, encoders=[encoder]))
    return encoder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_the_page_runs(page: Path, tiny: Path) -> None:
    names: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
        elif language == "csv":
            # The table of the page is one that biorel reads.
            Path("page.csv").write_text(text, encoding="utf-8")
            columns = {"text": "sentence", "entity1": "drug_a", "entity2": "drug_b"}
            assert biorel.load_corpus("table", "page.csv", columns=columns, negative="none").negative == "none"
        else:
            assert language == "sh"
            for words in commands(text):
                check(words, tiny)
    assert "biorel" in names
    assert biorel.load("ddi-attention").head == "attention"


def check(words: list[str], encoder: Path) -> None:
    """Run a command of biorel; look up the names in one of make or pip."""
    if words[0] == "biorel":
        if words[1] == "finetune":
            words += ["--encoder", str(encoder), "--max-steps", "2", "--max-length", "96"]
        assert main(words[1:]) == 0, words
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"(?m)^{target}:", makefile) for target in words[1:]), words
    else:
        assert words[:2] == ["pip", "install"], words
        check_installation(words[2:])


def check_installation(arguments: list[str]) -> None:
    """Extras are declared, and the other packages are those that the Makefile installs."""
    names = [name for name in arguments if not name.startswith("--")]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in names:
        if extras := re.fullmatch(r"\.(?:\[([\w,]+)\])?", name):
            assert all(re.search(rf"(?m)^{extra} = \[", project) for extra in (extras[1] or "").split(",") if extra)
        else:
            assert f'--no-deps "{name}==' in (ROOT / "Makefile").read_text(encoding="utf-8")
            assert "--no-deps" in arguments


def test_links_and_pictures_exist() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
        assert len(links) > 8
        missing = [link for link in links if not (page.parent / link.split()[0]).exists()]
        assert not missing, page


def test_code_fits_the_column() -> None:
    for page in [*PAGES, *(ROOT / "docs").glob("*.md")]:
        lines = [line for language, text in blocks(page) for line in text.splitlines() if language in ("python", "sh")]
        assert not [line for line in lines if len(line) > 92], page.name


def test_no_table_has_an_empty_header() -> None:
    for page in [*PAGES, *(ROOT / "docs").glob("*.md")]:
        assert not re.findall(r"(?m)^\|(?: *\|)+\n\|[-|: ]+\|$", page.read_text(encoding="utf-8")), page.name


def test_every_figure_is_drawn_for_both_themes_and_used() -> None:
    texts = "\n".join(page.read_text(encoding="utf-8") for page in [*PAGES, *(ROOT / "docs").glob("*.md")])
    drawn = {path.name for path in (ROOT / "docs" / "figures").glob("*.svg")}
    assert drawn == set(re.findall(r"figures/([\w-]+\.svg)", texts))
    lights = {name.removesuffix("-light.svg") for name in drawn if name.endswith("-light.svg")}
    darks = {name.removesuffix("-dark.svg") for name in drawn if name.endswith("-dark.svg")}
    assert lights == darks
    assert len(drawn) == 2 * len(lights)


def test_anchors_are_headings() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, anchor in re.findall(r"\]\((docs/[^)#]+)#([^)]+)\)", text):
        titles = re.findall(r"(?m)^#+ (.*)$", (ROOT / name).read_text(encoding="utf-8"))
        slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in slugs, (name, anchor)


def test_the_numbers_are_those_of_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    printed = [published.RESULTS[head]["aimed"].f1 for head in ("cls", "attention")]
    assert f"reports {printed[0]} and {printed[1]} with BioBERT" in " ".join(text.split())
    rows = re.findall(r"(?m)^\| (MiniLM|BERT-base), (32-bit numbers|bf16) \| (.+) \|$", text)
    assert len(rows) == 4
    for encoder, numbers, figures in rows:
        file = ROOT / "benchmarks" / "results" / "bench" / f"one-pass{'-base' if encoder == 'BERT-base' else ''}.json"
        programs = json.loads(file.read_text(encoding="utf-8"))["programs"]
        speeds = {
            label: statistics.median(run["sentences_per_second"] for run in runs) for label, runs in programs.items()
        }
        ours, theirs = ("bf16", "bf16 autocast") if numbers == "bf16" else ("f32", "fp32")
        expected = [
            speeds[f"biorel {ours}, one pass, entity-attention"],
            speeds[f"biorel {ours}, each pair, attention"],
            speeds[f"PyTorch {theirs}, group_by_length, attention"],
            max(speeds[f"PyTorch {theirs}, padded to {length}, attention"] for length in ("128", "the longest")),
        ]
        assert figures == " | ".join(f"{speed:.1f}" for speed in expected), encoder


@pytest.mark.parametrize("page", ["README.md", "docs/paper.md"])
def test_the_scores_are_those_of_the_trials(page: str) -> None:
    """Of AIMed the mean of the folds of the seeds that have all ten; of the others the mean of the seeds."""
    trials = pd.read_csv(ROOT / "benchmarks" / "results" / "scores" / "trials.tsv", sep="\t")
    trials = trials[trials["data"] == "test"]
    complete = trials.groupby(["corpus", "form", "seed"])["fold"].transform("size") == trials["corpus"].map(
        {"aimed": 10}
    ).fillna(1)
    means = 100 * trials[complete].groupby(["form", "corpus"])["f1"].mean()
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = {
        "attention-1e-4-corrected": r"MiniLM, `attention`.*?",
        "one-pass": r"MiniLM, (?:one pass with )?`entity-attention`.*?",
    }
    for form, row in rows.items():
        [figures] = re.findall(rf"(?m)^\| {row} \| ([\d. |]+) \|$", text)
        assert figures == " | ".join(f"{means[form, name]:.1f}" for name in ("aimed", "ddi", "chemprot")), form
    printed = " | ".join(str(published.RESULTS["attention"][name].f1) for name in ("aimed", "ddi", "chemprot"))
    assert re.search(rf"(?m)^\|.*BioBERT.* \| {re.escape(printed)} \|$", text)
