"""Drawings of the notebooks: found, used, described, light, legible on white and on black."""

import re
from pathlib import Path

import drawings
import form
import numpy as np
import pytest
from drawings import faults
from form import NEW_FORM, ROOT
from nbformat.v4 import new_markdown_cell, new_notebook

FOLDER = ROOT / "notebooks" / "figures"
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*)[^)]*\)")


def images(node) -> list[tuple[str, str]]:
    """Alternative text and address of each image in the Markdown of a notebook."""
    texts = [cell.source for cell in node.cells if cell.cell_type == "markdown"]
    texts = [form.FENCE.sub("", text) for text in texts]
    return [found for text in texts for found in IMAGE.findall(text)]


def shown(node, folder: Path) -> list[str]:
    """What is wrong with how a notebook shows its drawings, which lie in `folder`/figures."""
    found = []
    for words, address in images(node):
        if not re.fullmatch(r"figures/[\w-]+\.svg", address):
            found.append(f"{address} is no figures/….svg")
        elif not (folder / address).is_file():
            found.append(f"{address} is missing")
        if len(words) < 20:
            found.append(f"{address} is not described: {words!r}")
    tags = [c.source for c in node.cells if c.cell_type == "markdown" and "<img" in c.source]
    return found + ["an <img> tag: write ![…](figures/….svg)"] * len(tags)


@pytest.mark.parametrize("name", NEW_FORM)
def test_a_notebook_shows_drawings_that_are_there_and_describes_them(name):
    assert shown(form.notebook(name), FOLDER.parent) == []


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*")), ids=lambda file: file.stem)
def test_a_drawing_keeps_the_rules(file):
    assert file.suffix == ".svg"
    assert faults(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*")), ids=lambda file: file.stem)
def test_a_drawing_is_shown_by_a_notebook(file):
    users = [n for n in (ROOT / "notebooks").glob("*.ipynb") if file.name in n.read_text("utf-8")]
    assert users


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("![An arrow that is twice as long](figures/x.svg)", ""),
        ("```\n![](none.svg)\n```", ""),
        ("![An arrow that is twice as long](figures/y.svg)", "figures/y.svg is missing"),
        ("![An arrow](figures/x.svg)", "figures/x.svg is not described: 'An arrow'"),
        ("![An arrow that is twice as long](https://x.y/z.svg)", "z.svg is no figures/….svg"),
        ("![An arrow that is twice as long](../figures/x.svg)", "../figures/x.svg is no figures"),
        ('<img src="figures/x.svg">', "an <img> tag"),
    ],
)
def test_how_a_notebook_shows_a_drawing_is_measured(source, fault, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "x.svg").touch()
    found = shown(new_notebook(cells=[new_markdown_cell(source)]), tmp_path)
    assert fault in " / ".join(found)
    assert bool(found) == bool(fault)


# --- rules of a drawing ---------------------------------------------------------------------------

GOOD = """
<rect x="10" y="20" width="80" height="30" fill="#0072b2" fill-opacity="0.15" stroke="#0072b2"/>
<g transform="translate(10 20)" fill="#7a7a7a"><text x="40" y="20" text-anchor="middle">a layer
</text></g>
<rect x="110" y="20" width="80" height="30" fill="#222" stroke="#7a7a7a"/>
<text x="115" y="40" style="fill: white; font-size: 12px">in white</text>
<path d="M10 80L90 80" stroke="#d55e00" fill="none" marker-end="url(#head)"/>
<line x1="10" y1="85" x2="90" y2="85" stroke="#7a7a7a" style="stroke-width: 2px"/>
<circle cx="150" cy="70" r="4" fill="#0072b2"/>
<ellipse cx="170" cy="70" rx="9" ry="4" fill="#0072b2"/>
<polygon points="100,70 110,70 105,78" fill="#0072b2"/>
<text y="65" fill="#7a7a7a">one <tspan fill="#d55e00">two</tspan></text>
<defs><marker id="head" refX="6" refY="3"><path d="M0 0L6 3L0 6z" fill="#d55e00"/></marker></defs>
"""


def svg(body: str = GOOD, root: str = 'viewBox="0 0 200 100"') -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {root} font-size="13">'
    return f"{head}<title>Two layers</title>{body}</svg>"


def test_a_good_drawing_has_no_fault():
    assert faults(svg()) == []


def line(**look) -> str:
    look = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in look.items())
    return GOOD + f'<path d="M10 90L90 90"{look}/>'


def text(words: str = "words", **look) -> str:
    look = {"x": 110, "y": 90, "fill": "#7a7a7a"} | look
    look = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in look.items())
    return f"{GOOD}<text{look}>{words}</text>"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (svg("<rect>"), "is not well-formed"),
        ('<!DOCTYPE svg [<!ENTITY a "b">]>' + svg(), "has a document type"),
        (svg(GOOD + f"<!--{'x' * 40_000}-->"), "KB: 40 at most"),
        (svg(GOOD + "<script>alert(1)</script>"), "has a <script>"),
        (svg(GOOD + "<style>text {fill: red}</style>"), "has a <style>"),
        (svg(GOOD + '<foreignObject width="9" height="9"/>'), "has a <foreignObject>"),
        (svg(GOOD + '<image href="data:image/png;base64,xx"/>'), "has a <image>"),
        (svg(GOOD + '<g onclick="alert(1)"/>'), "runs a script onclick"),
        (svg(GOOD + '<a href="https://x.y/"/>'), "refers to https://x.y/"),
        (svg(line(stroke="#7a7a7a", fill="url(https://x.y/#z)")), "refers to url(https://x.y/#z)"),
        (svg().replace("Two layers", " "), "has no <title>"),
        (svg(re.sub("(?s)<text.*?</text>", "", GOOD)), "has no <text>"),
        (svg(root=""), "no viewBox"),
        (svg(root='viewBox="10 0 200 100"'), "no viewBox"),
        (svg(root='viewBox="0 0 200 100" style="background: white"'), "has a ground of its own"),
        (svg('<rect width="200" height="100" fill="white"/>' + GOOD), "has a ground of its own"),
        (svg('<rect width="100%" height="100%" fill="white"/>' + GOOD), "cannot be measured"),
        (svg(line(stroke="#000000", fill="none")), "contrast of 1.1 on black: path"),
        (svg(line(stroke="#ffffff", fill="none")), "contrast of 1.0 on white: path"),
        (svg(line(stroke="#dddddd", fill="none")), "on white: path"),
        (svg(line(stroke="#7a7a7a", fill="none", stroke_opacity="0.4")), "on white: path"),
        (svg(line(stroke="#7a7a7a", fill="none", opacity="0.4")), "on black: path"),
        (svg(line(stroke="currentColor", fill="none")), "cannot be measured"),
        (svg(line(stroke="url(#gradient)", fill="none")), "cannot be measured"),
        (svg(line(stroke="#7a7a7a")), "is filled black unless it says fill='none'"),
        (svg(GOOD + '<circle cx="9" cy="9" r="5" fill="#eeeeee"/>'), "on white: circle"),
        (svg(GOOD + '<circle cx="9" cy="9" r="5"/>'), "contrast of 1.1 on black: circle"),
        (svg(GOOD.replace('6z" fill="#d55e00"', '6z" fill="#000"')), "on black: path"),
        (svg(text(fill="black")), "contrast of 1.1 on black: text 'words'"),
        (svg(GOOD + '<text x="110" y="90">words</text>'), "contrast of 1.1 on black: text 'words'"),
        (svg(text(fill="#eee")), "on white: text 'words'"),
        (svg(text("<tspan fill='black'>words</tspan>")), "on black: text 'words'"),
        (
            svg(GOOD.replace("fill: white", "fill: #444")),
            "contrast of 1.6 on white: text 'in",
        ),
        (svg(GOOD.replace('fill="#222"', 'fill="none"')), "on white: text 'in white'"),
        (svg(text(font_size=10)), "font size 10.0, 11 at least: text 'words'"),
        (svg(text(transform="scale(0.5)", font_size=20)), "font size 10.0, 11 at least"),
        (svg(root='viewBox="0 0 200 100" width="100"'), "font size 6.0, 11 at least"),
        (svg(text(x=180)), "is cut off: text 'words'"),
        (svg(text(text_anchor="end", x=20)), "is cut off"),
        (svg(text("汉字", x=175)), "is cut off"),
        (svg(text(transform="translate(0 20)")), "is cut off"),
        (svg(text(transform="skewX(20)")), "cannot be measured: skewX"),
        (svg(text(x=118, y=44)), "lies on another: text 'words', text 'in white'"),
    ],
)
def test_a_drawing_that_breaks_a_rule_is_told_so(source, fault):
    assert fault in " / ".join(faults(source))


def test_contrast_is_that_of_wcag():
    white, black, grey = np.ones(4), np.array([0, 0, 0, 1.0]), np.array([0x77 / 255] * 3 + [1])
    assert drawings.contrast(white, black) == drawings.contrast(black, white) == 21
    assert drawings.contrast(grey, white) == pytest.approx(4.48, abs=0.005)  # known of #777777


def test_transforms_are_those_of_svg():
    for transform, right in [
        ("translate(3)", (4, 2)),
        ("translate(3, 4) scale(2)", (5, 8)),
        ("rotate(90)", (-2, 1)),
        ("rotate(180 1 1)", (1, 0)),
        ("matrix(1 0 0 2 5 0)", (6, 4)),
    ]:
        assert (drawings.matrix(transform) @ [1, 2, 1])[:2] == pytest.approx(right)
