"""What a drawing must be, as rules on its SVG source: `faults` says in sentences what it is not."""

import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.path import Path

GROUNDS = {"white": "#ffffff", "black": "#111111"}
SHAPES = {"rect", "circle", "ellipse", "line", "polyline", "polygon", "path"}
REFUSED = {"script", "style", "foreignObject", "image", "use", "pattern", "animate", "set"}
INHERITED = ("fill", "stroke", "stroke-width", "font-size", "fill-opacity", "stroke-opacity",
             "text-anchor")  # fmt: skip
CONTRAST, SMALLEST, BYTES = 3.0, 11, 40_000


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Contrast ratio of two colours as WCAG 2 defines it, 1 to 21."""

    def luminance(colour: np.ndarray) -> float:
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        return float(linear[:3] @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def over(colour: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """A colour (red, green, blue, opacity) painted on an opaque ground."""
    return np.append(colour[:3] * colour[3] + ground[:3] * (1 - colour[3]), 1)


@dataclass
class Mark:
    """An element that is seen: its tag, its own and inherited attributes, and its place."""

    tag: str
    look: dict
    matrix: np.ndarray
    words: str = ""
    element: ElementTree.Element = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.tag} {self.words!r}" if self.words else f"{self.tag} {self.element.attrib}"

    def number(self, name: str, usual: float = 0) -> float:
        return float(str(self.look.get(name, usual)).removesuffix("px"))

    def colour(self, kind: str) -> np.ndarray | None:
        """Colour and opacity of the fill or stroke, None without one. Raises `ValueError`."""
        value = self.look.get(kind, "black" if kind == "fill" and self.tag != "line" else "none")
        if value in ("none", "transparent", "context-stroke", "context-fill"):
            return None
        opacity = self.number("opacity", 1) * self.number(f"{kind}-opacity", 1)
        colour = np.array(to_rgba(value))
        colour[3] *= opacity
        return colour if colour[3] and not (kind == "stroke" and self.stroke_width == 0) else None

    @property
    def stroke_width(self) -> float:
        return self.number("stroke-width", 1)

    @property
    def size(self) -> float:
        """Font size as it is drawn."""
        return self.number("font-size", 16) * abs(np.linalg.det(self.matrix[:2, :2])) ** 0.5

    def outline(self) -> np.ndarray:
        """Corners of the shape, of a text of narrow letters: (corners, 2), in the drawing."""
        at = self.number
        if self.tag == "text":
            wide = [unicodedata.east_asian_width(letter) in "WF" for letter in self.words]
            height = at("font-size", 16)
            width = height * sum(1 if is_wide else 0.42 for is_wide in wide)
            shift = {"middle": width / 2, "end": width}.get(self.look.get("text-anchor"), 0)
            left, top = at("x") - shift, at("y") - 0.7 * height
            corners = _box(left, top, width, 0.7 * height)
        elif self.tag == "rect":
            corners = _box(at("x"), at("y"), at("width"), at("height"))
        elif self.tag == "line":
            corners = np.array([[at("x1"), at("y1")], [at("x2"), at("y2")]])
        elif self.tag in ("circle", "ellipse"):
            across, down = (at("r"), at("r")) if self.tag == "circle" else (at("rx"), at("ry"))
            turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            corners = np.stack(
                [at("cx") + across * np.cos(turn), at("cy") + down * np.sin(turn)], 1
            )
        else:
            numbers = re.findall(r"-?\d*\.?\d+", self.look.get("points") or self.look.get("d", ""))
            corners = np.array(numbers[: len(numbers) // 2 * 2], float).reshape(-1, 2)
        return corners @ self.matrix[:2, :2].T + self.matrix[:2, 2]


def _box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def matrix(transform: str) -> np.ndarray:
    """The (3, 3) matrix of a `transform` attribute. Raises `ValueError` for one that is unknown."""
    result = np.eye(3)
    for name, text in re.findall(r"(\w+)\s*\(([^)]*)\)", transform):
        given, step = [float(n) for n in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)], np.eye(3)
        if name == "translate":
            step[: len(given), 2] = given
        elif name == "scale":
            step[0, 0], step[1, 1] = given[0], given[-1]
        elif name == "rotate":
            turn, centre = np.radians(given[0]), np.array([*given[1:], 0, 0][:2])
            step[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
            step[:2, 2] = centre - step[:2, :2] @ centre
        elif name == "matrix":
            step[:2] = np.reshape(given, (3, 2)).T
        else:
            raise ValueError(f"{name} is no transform that is measured here")
        result = result @ step
    return result


def marks(element, look=None, place=None) -> list[Mark]:
    """The shapes and texts of a drawing in the order in which they are painted."""
    look, place = look or {}, np.eye(3) if place is None else place
    own = dict(part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part)
    own = {**element.attrib, **{k.strip(): v.strip() for k, v in own.items()}}
    tag = element.tag.rpartition("}")[2]
    if tag in ("clipPath", "mask", "title", "desc"):
        return []
    place = place @ matrix(own.get("transform", ""))
    passed = {name: own.get(name, look.get(name)) for name in INHERITED}
    passed = {name: value for name, value in passed.items() if value is not None}
    passed["opacity"] = float(look.get("opacity", 1)) * float(own.get("opacity", 1))
    passed["aside"] = look.get("aside") or tag == "marker"  # an arrow's head, drawn elsewhere
    if tag == "tspan":  # it goes on where the text before it stands, unless it says where
        own["goes on"] = not {"x", "y"} <= own.keys()
        own = {"x": look.get("x", 0), "y": look.get("y", 0)} | own
    found, words = [], " ".join((element.text or "").split())
    if tag in SHAPES or (tag in ("text", "tspan") and words):
        kind = "text" if tag == "tspan" else tag
        found.append(Mark(kind, own | passed, place, words * (kind == "text"), element))
    if tag in ("text", "tspan"):
        passed |= {name: own[name] for name in ("x", "y") if name in own}
    return found + [mark for child in element for mark in marks(child, passed, place)]


def _structure(text: str, root) -> list[str]:
    found = [f"{len(text.encode()) / 1000:.0f} KB: 40 at most"] if len(text) >= BYTES else []
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    found += [f"has a <{tag}>" for tag in sorted(REFUSED & set(tags))]
    titles = [e.text or "" for e in root.iter() if e.tag.rpartition("}")[2] == "title"]
    found += [] if any(title.strip() for title in titles) else ["has no <title>"]
    found += [] if "text" in tags else ["has no <text>: letters are shapes"]
    found += [] if re.fullmatch(r"0 0 [\d.]+ [\d.]+", root.get("viewBox", "")) else ["no viewBox"]
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2].startswith("on"):
                found.append(f"runs a script {name}")
            leaves = name.rpartition("}")[2] == "href" and not value.startswith("#")
            if leaves or re.search(r"url\(\s*['\"]?(?!#)", value):
                found.append(f"refers to {value}")
    if "background" in root.get("style", ""):
        found.append("has a ground of its own")
    return found


def _seen(mark: Mark, painted: list[Mark]) -> list[str]:
    """Whether strokes, texts and shapes without a stroke stand out from white and black."""
    kind = "fill" if mark.tag == "text" or mark.colour("stroke") is None else "stroke"
    colour, found = mark.colour(kind), []
    for name, ground in GROUNDS.items() if colour is not None else ():
        ground = np.array(to_rgba(ground))
        middle = mark.outline().mean(axis=0) if mark.tag == "text" else None
        for shape in painted if mark.tag == "text" else ():
            fill, corners = shape.colour("fill"), shape.outline()
            if fill is not None and len(corners) > 2 and Path(corners).contains_point(middle):
                ground = over(fill, ground)
        ratio = contrast(over(colour, ground), ground)
        if ratio < CONTRAST:
            found.append(f"contrast of {ratio:.1f} on {name}: {mark}")
    return found


def faults(text: str) -> list[str]:
    """What is wrong with the source of a drawing, in sentences."""
    if re.search(r"<!DOCTYPE|<!ENTITY", text):
        return ["has a document type"]
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        return [f"is not well-formed: {error}"]
    found, texts, painted = _structure(text, root), [], []
    try:
        width, height = [float(n) for n in root.get("viewBox", "").split()[2:]]
        scale = float(root.get("width", f"{width}").removesuffix("px")) / width
        for mark in marks(root):
            found += _seen(mark, painted)
            if mark.tag == "text":
                texts += [mark] if not mark.look.get("goes on") else []
                if (size := mark.size * scale) < SMALLEST:
                    found.append(f"font size {size:.1f}, {SMALLEST} at least: {mark}")
            elif not mark.look.get("aside"):
                painted.append(mark)
                found += _filled(mark, width * height)
    except ValueError as error:
        return [*found, f"cannot be measured: {error}"]
    return found + _placed(texts, width, height)


def _filled(mark: Mark, area: float) -> list[str]:
    """No opaque rectangle covers the drawing, and no outline is filled by mistake."""
    if mark.tag in ("path", "polyline", "polygon") and "fill" not in mark.look:
        return [f"is filled black unless it says fill='none': {mark}"]
    fill = mark.colour("fill") if mark.tag == "rect" else None
    if fill is None or np.prod(np.ptp(mark.outline(), axis=0)) < 0.9 * area:
        return []
    return [f"has a ground of its own: {mark}"]


def _placed(texts: list[Mark], width: float, height: float) -> list[str]:
    """No text is cut off, and no two lie on one another."""
    found, boxes = [], []
    for mark in texts:
        corners = mark.outline()
        low, high = corners.min(axis=0), corners.max(axis=0)
        if (low < 0).any() or (high > [width, height]).any():
            found.append(f"is cut off: {mark}")
        for other, (low2, high2) in boxes:
            if (np.minimum(high, high2) - np.maximum(low, low2) > 1).all():
                found.append(f"lies on another: {mark}, {other}")
        boxes.append((mark, (low, high)))
    return found
