"""The page for the browser, in headless Chromium: by mouse and by keyboard, and with hostile text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import biorel
import pytest
from service import Running, running

if os.name != "posix":
    pytest.skip("the browser is driven through POSIX file descriptors", allow_module_level=True)
from browser import Page, chromium

TEXT = "Velotrazine and 𝛽-nalexpidol interact. Avoid <img src=x onerror=alert(1)> & velotrazine with brelozine."
MARKED = ("Velotrazine", "𝛽-nalexpidol", "<img src=x onerror=alert(1)>", "brelozine")


@pytest.fixture(scope="module")
def service(run: biorel.Run) -> Iterator[Running]:
    """A service with a tiny model."""
    with running(run.model) as one:
        yield one


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A browser."""
    with chromium() as one:
        yield one


def mark(page: Page, mention: str, *, by_keyboard: bool) -> None:
    """Select a mention in the text and mark it."""
    place = f"const area = document.getElementById('text'), start = area.value.indexOf({json.dumps(mention)})"
    page.run(f"{{{place}; area.focus(); area.setSelectionRange(start, start + {json.dumps(mention)}.length)}}")
    if by_keyboard:
        page.press("Enter", 13, modifiers=2)
    else:
        page.run("document.getElementById('mark').click()")


def texts(page: Page, selector: str) -> Any:
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(one => one.textContent)")


def write(page: Page, text: str) -> None:
    script = "{const area = document.getElementById('text'); area.value = %s; area.dispatchEvent(new Event('input'))}"
    page.run(script % json.dumps(text))


def test_from_a_text_to_a_heat_map(service: Running, page: Page, run: biorel.Run) -> None:
    page.look()
    page.open(service.url + "/")
    page.wait_for("document.getElementById('model').textContent !== ''")
    write(page, TEXT)
    for number, mention in enumerate(MARKED):
        mark(page, mention, by_keyboard=number % 2 == 0)
    assert texts(page, "#entities li > span") == [f"{mention} drug" for mention in MARKED]
    shown = TEXT
    for mention in MARKED:
        shown = shown.replace(mention, f"{mention}drug", 1)
    assert texts(page, "#marked") == [shown]
    page.run("document.getElementById('find').click()")
    page.wait_for("!document.getElementById('found').hidden")
    rows = texts(page, "#pairs tr td:nth-child(-n+4)")
    found = {tuple(rows[start : start + 2]): rows[start + 2 : start + 4] for start in range(0, len(rows), 4)}
    # The two sentences have two entities each.
    first, second = (TEXT[:39].strip(), TEXT[39:].strip())
    for sentence, pair in ((first, MARKED[:2]), (second, MARKED[2:])):
        places = [(sentence.index(one), sentence.index(one) + len(one)) for one in pair]
        entities = [{"start": start, "end": end, "type": "drug"} for start, end in places]
        expected = run.model.predict([{"text": sentence, "entities": entities}]).iloc[0]
        assert found[pair] == [expected["relation"], f"{expected['probability']:.3f}"]
    assert len(found) == 2
    number = next(number for number, pair in enumerate(found) if pair == MARKED[2:])
    page.run(f"document.querySelectorAll('#pairs button')[{number}].click()")
    page.wait_for("!document.getElementById('explained').hidden")
    assert texts(page, "#heat") == [second]
    assert texts(page, "#heat .entity") == list(MARKED[2:])
    assert page.run("document.querySelectorAll('img').length") == 0
    weights = [float(one.rpartition(" ")[2]) for one in texts(page, "#words li")]
    assert weights == sorted(weights, reverse=True)
    shades = page.run("[...document.querySelectorAll('#heat span')].map(one => getComputedStyle(one).backgroundColor)")
    assert any("230, 159, 0, 0.6" in one for one in shades)
    before = page.run("document.getElementById('words').textContent")
    choose = "kind.value = 'gradient'; kind.dispatchEvent(new Event('change'))"
    page.run(f"{{const kind = document.getElementById('kind'); {choose}}}")
    page.wait_for(f"document.getElementById('words').textContent !== {json.dumps(before)}")
    assert page.errors() == []
    assert [url for url in page.requested() if not url.startswith((service.url, "data:", "about:"))] == []


def test_marks_follow_the_text(service: Running, page: Page) -> None:
    page.open(service.url + "/?marks")
    page.wait_for("document.getElementById('model').textContent !== ''")
    write(page, "Give velotrazine with brelozine and nalexpidol.")
    for mention in ("velotrazine", "brelozine", "nalexpidol"):
        mark(page, mention, by_keyboard=False)
    write(page, "Do give velotrazine with brelozene and nalexpidol.")
    assert texts(page, "#entities li > span") == ["nalexpidol drug"]
    write(page, "nalexpidol.")
    assert texts(page, "#entities li > span") == ["nalexpidol drug"]
    page.run("document.querySelector('#entities button').click()")
    assert texts(page, "#entities li") == []
    page.run("document.getElementById('find').click()")
    assert texts(page, "#error") == ["Mark at least two entities first."]
    page.run("document.getElementById('text').setSelectionRange(0, 0); document.getElementById('mark').click()")
    assert texts(page, "#error") == ["Select an entity in the text first."]


def test_the_page_by_keyboard_alone(service: Running, page: Page) -> None:
    """Everything is reached with Tab, has a name, and the example leads to a heat map."""
    page.open(service.url + "/?keyboard")
    page.wait_for("document.getElementById('model').textContent !== ''")
    focus = "document.activeElement.id || document.activeElement.getAttribute('aria-label')"

    def reach(name: str) -> None:
        for _ in range(40):
            page.press("Tab", 9)
            if str(page.run(focus)).startswith(name):
                page.press("Enter", 13)
                return
        raise AssertionError(f"{name} is not reached")

    reach("example")
    reach("find")
    page.wait_for("!document.getElementById('found').hidden")
    assert page.run(focus) == "found-title"
    reach("Show the words for")
    page.wait_for("!document.getElementById('explained').hidden")
    assert page.run(focus) == "explained-title"
    nameless = """[...document.querySelectorAll('button, select, input, textarea')].filter(one =>
        !one.hidden && !one.textContent.trim() && !one.labels?.length && !one.getAttribute('aria-label')).length"""
    assert page.run(nameless) == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1000, 360])
def test_the_page_fits_and_is_legible(service: Running, page: Page, tmp_path: Path, dark: bool, width: int) -> None:
    page.look(width=width, dark=dark)
    page.open(f"{service.url}/?{dark}{width}")
    page.wait_for("document.getElementById('model').textContent !== ''")
    page.run("document.getElementById('example').click(); document.getElementById('find').click()")
    page.wait_for("!document.getElementById('found').hidden")
    page.run("document.querySelector('#pairs button').click()")
    page.wait_for("!document.getElementById('explained').hidden")
    assert page.run("document.documentElement.scrollWidth") <= width
    contrast = """(() => {
      const channels = colour => colour.match(/[\\d.]+/g).map(Number);
      const light = colour => channels(colour).slice(0, 3).map(one => one / 255)
        .map(one => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
        .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
      const behind = one => {
        const colour = getComputedStyle(one).backgroundColor;
        return channels(colour)[3] === 0 && one.parentElement ? behind(one.parentElement) : colour;
      };
      return Math.min(...[...document.querySelectorAll('p, button, td, label, small, .dim, h1, h2, a')]
        .filter(one => one.offsetParent && one.textContent.trim() && !one.disabled).map(one => {
          const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }));
    })()"""
    assert page.run(contrast) >= 4.5
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_the_description_of_the_api(service: Running, page: Page, run: biorel.Run) -> None:
    page.look()
    before = len(page.errors())
    page.open(service.url + "/docs")
    page.wait_for("document.querySelectorAll('h2').length > 0")
    assert texts(page, "h2") == ["POST /predict", "POST /explain", "POST /documents", "GET /health", "GET /metrics"]
    shown = texts(page, "main")[0]
    assert all(f"p_{label}" in shown for label in run.model.labels)
    assert "Velotrazine increases the clearance of nalexpidol." in shown
    assert page.errors()[before:] == []
