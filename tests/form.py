"""The form of a notebook as rules: each takes a notebook and returns a sentence for each fault.

`NEW_FORM` is the one list of the notebooks that have taken it; it only grows.
"""

import ast
import base64
import itertools
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
NEW_FORM: list[str] = ["03_feature_extraction_vs_fine_tuning"]

FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1 *$", re.DOTALL | re.MULTILINE)
DISPLAYED = re.compile(r"\$\$.*?\$\$", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\([^)]*\)")
PATTERN = re.DOTALL | re.MULTILINE
DETAILS = re.compile(r"<details>\s*<summary>(\w+)</summary>(.*?)</details>", re.DOTALL)
# STYLE.md's left column, and the ordinary phrases in which such a word may stand
PRIVATE = {
    "learning rate": r"\brates?\b",
    "token or subword token": r"\b(?:word[- ])?pieces?\b",
    "tokens": r"\brunning words\b",
    "special token or punctuation": r"\bmarks?\b",
    "masked token, masked language modelling": (
        r"\bfill(?:s|ed|ing)? (?:\w+ )?gaps?\b|\b(?:each|every) gap\b|\bgaps? in (?:the )?texts?\b"
        r"|\bthe game\b"
    ),
    "baseline": r"\bfloors?\b",
    "trained from scratch": r"\brandom[- ]starts?\b",
    "random initialisation": r"\b(?:from|pure|weights? of|starts? as) noise\b",
    "ensemble": r"\bteams?\b",
    "CRF": r"\brandom fields?\b|\bwith(?:out)? the field\b",
    "epochs": (
        r"\b(?:\d+|one|two|three|four|five|eight|ten|few|many|more|several|of|the) pass(?:es)?\b"
        r"(?! through)"
        r"|\bpass(?:es)? over (?:the|all)\b"
    ),
    "length-bucketed batches": r"\bof (?:like|similar) length\b",
    "top layers": r"\bupper (?:\w+ )?layers?\b|\bdeep(?:er|est)? layers?\b",
    "missing, spurious": r"\b(?:missed|invented) (?:entit|name|mention|span)",
    "about 20 seconds": r"\b\d+:\d\d (?:minutes|hours)\b",
}
ORDINARY = re.compile(
    r"\b(?:learning|error|dropout|sampling|masking|decay|positive|negative)[- ]rates?\b|\bto rate\b"
    r"|\bpieces? of (?:advice|news|code|paper)\b|\bmarks? (?:the|an?|each|every|where)\b"
    r"|\b(?:question|quotation|exclamation|punctuation) marks?\b"
    r"|\bconditional random fields?\b|\b(?:football|sports|national) teams?\b",
    re.IGNORECASE,
)


def notebook(name: str) -> nbformat.NotebookNode:
    """A notebook of the series by its stem."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)


def tagged(node, tag: str) -> list:
    """The code cells with a tag."""
    return [c for c in node.cells if c.cell_type == "code" and tag in c.metadata.get("tags", [])]


def code(node) -> list:
    return [c for c in node.cells if c.cell_type == "code" and c.source.strip()]


def prose(node) -> list[str]:
    """The Markdown cells as text: without code, comments, addresses and formulas."""
    texts = [cell.source for cell in node.cells if cell.cell_type == "markdown"]
    for pattern, instead in ((FENCE, ""), (COMMENT, ""), (DISPLAYED, ""), (LINK, r"\2")):
        texts = [pattern.sub(instead, text) for text in texts]
    return [re.sub(r"https?://\S+|</?\w+>", " ", text) for text in texts]


def lines_of(cell) -> list[str]:
    return cell.source.strip().splitlines()


def size(node) -> list[str]:
    """Few cells, few words, short cells, short paragraphs."""
    cells, words = code(node), sum(len(text.split()) for text in prose(node))
    alone = tagged(node, "stand-alone")
    found = [f"{len(cells)} code cells: 70 at most"] if len(cells) > 70 else []
    found += [f"{words:,} words of prose: 3,500 at most"] if words > 3500 else []
    median = statistics.median([len(lines_of(cell)) for cell in cells] or [0])
    found += [f"the median code cell has {median:g} lines: 8 at most"] if median > 8 else []
    for cell in cells:
        if len(lines_of(cell)) > 25 and cell not in alone:
            found.append(f"{len(lines_of(cell))} lines, 25 at most: {lines_of(cell)[0]}")
    for paragraph in paragraphs(node):
        if (count := len(paragraph.split())) > 90:
            found.append(f"a paragraph of {count} words, 90 at most: {paragraph[:60]}")
    return found


def paragraphs(node) -> list[str]:
    """Paragraphs and list items of the prose, without headings and tables."""
    text = "\n\n".join(prose(node))
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+[.)]) )|\n(?=\|)", text)
    return [" ".join(part.split()) for part in parts if part.strip()[:1] not in ("", "|", "#")]


def tags(node) -> list[str]:
    """The cells that the series' machinery looks for."""
    wanted = {"parameters": [1], "setup": [1, 2], "stand-alone": [1], "exercise": [3]}
    counts = {tag: len(tagged(node, tag)) for tag in wanted}
    known = {*wanted, "for-exercises"}
    found = [f"{counts[tag]} cells tagged {tag}" for tag, n in wanted.items()
             if counts[tag] not in n]  # fmt: skip
    others = {tag for cell in node.cells for tag in cell.metadata.get("tags", [])} - known
    return found + [f"the tag {tag} is not known" for tag in sorted(others)]


def opening(node) -> list[str]:
    """A question as the title, one picture, and a first result before the parameters."""
    first = node.cells[0].source if node.cells else ""
    title = first.partition("\n")[0]
    found = [] if re.fullmatch(r"# \d\d · .+\?", title) else [f"no question as title: {title!r}"]
    found += [] if re.search(r"!\[[^\]]+\]\(", first) else ["the first cell shows no picture"]
    win = []
    for cell in code(node):
        if "parameters" in cell.metadata.get("tags", []):
            break
        win.append(cell)
    aside = re.compile(r"\s*(#|$)|(from|import) ")
    written = [line for cell in win for line in lines_of(cell) if not aside.match(line)]
    if not win:
        return [*found, "nothing is won before the parameters"]
    found += [f"the win has {len(written)} lines: 6 at most"] if len(written) > 6 else []
    return found if any(cell.outputs for cell in win) else [*found, "the win shows no result"]


def private_words(node) -> list[str]:
    """Words of the series alone in place of the field's."""
    text = re.sub(r"^\*Default run:\*.*$", "", "\n\n".join(prose(node)), flags=re.MULTILINE)
    text = " ".join(re.sub(r"`[^`]*`|\$[^$\n]*\$", "·", text).split())
    text = ORDINARY.sub("·", text)
    return [
        f"{match[0]!r} (…{text[max(0, match.start() - 25) : match.end() + 15]}…): write {better}"
        for better, pattern in PRIVATE.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


def outputs(node) -> list[str]:
    """No warning, no progress bar, no heavy figure in what the cells put out."""
    found = []
    for cell in code(node):
        for output in cell.outputs:
            data, name = output.get("data", {}), lines_of(cell)[0]
            text = str(output.get("text", data.get("text/plain", "")))
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"an error or stderr: {name}")
            if re.search(r"\b\w*Warning\b", text):
                found.append(f"a warning: {name}")
            if "widget-view" in " ".join(data) or re.search(r"\d%\||it/s\]|\r", text):
                found.append(f"a progress bar: {name}")
            drawn = base64.b64decode(data.get("image/png", "")), data.get("image/svg+xml", "")
            if max(map(len, drawn)) >= 150_000:
                found.append(f"a figure of {max(map(len, drawn)) / 1000:.0f} KB: {name}")
    return found


def stand_alone(node) -> list[str]:
    """One cell of 15 to 40 lines that imports public libraries alone."""
    found = []
    for cell in tagged(node, "stand-alone"):
        count = len(lines_of(cell))
        found += [f"{count} lines, not 15 to 40"] if not 15 <= count <= 40 else []
        for part in ast.walk(ast.parse(cell.source)):
            names = [alias.name for alias in getattr(part, "names", []) if hasattr(alias, "name")]
            names = [part.module or "."] if isinstance(part, ast.ImportFrom) else names
            if isinstance(part, ast.Import | ast.ImportFrom):
                own = [n for n in names if n.partition(".")[0] in ("helpers", "")]
                found += [f"imports {name}, which is the series' own" for name in own]
    return found


@dataclass(frozen=True)
class Exercise:
    """An exercise of a notebook: what its cells hold. `check` is the last line of the stub's cell,
    `stub` the lines before it, `solution` the fence in the folded solution."""

    title: str
    stub: str
    check: str
    hint: str
    solution: str

    def outcome(self, answer: str, names: dict):
        """What the check says of an answer in place of the stub; `names` stay as they are."""
        names = dict(names)
        for source in (self.stub, answer):
            exec(compile(source, f"<{self.title}>", "exec"), names)
        return eval(self.check, names)


def exercises(node) -> list[Exercise]:
    """The exercises of a notebook. Raises `ValueError`, which says what one lacks."""
    found = []
    for cell in tagged(node, "exercise"):
        place = node.cells.index(cell)
        before, after = node.cells[place - 1], node.cells[place + 1 : place + 3]
        due = f"### Exercise {len(found) + 1} · "
        heading = re.search(rf"^{due}\S.*$", before.source, re.MULTILINE)
        if before.cell_type != "markdown" or not heading:
            raise ValueError(f"no heading '{due}…' before the cell of an exercise")
        title = heading[0].removeprefix("### ")
        behind = itertools.takewhile(lambda c: c.cell_type == "markdown", after)
        folded = dict(DETAILS.findall("\n".join(c.source.partition("### ")[0] for c in behind)))
        fences = re.findall(r"^```python\n(.*?)^```", folded.get("Solution", ""), PATTERN)
        last = ast.parse(cell.source).body[-1]
        stub = "\n".join(cell.source.splitlines()[: last.lineno - 1])
        for right, fault in (
            (isinstance(last, ast.Expr), "the last line of its cell is no check"),
            (re.search(r"\.\.\.  # your code", stub), "its stub has no '...  # your code'"),
            (folded.get("Hint", "").strip(), "no folded hint"),
            (len(fences) == 1, f"{len(fences)} fences of Python in its folded solution, not one"),
        ):
            if not right:
                raise ValueError(f"{title}: {fault}")
        found.append(Exercise(title, stub, ast.unparse(last), folded["Hint"], fences[0]))
    return found


def wrong_answers(text: str) -> dict[str, list[str]]:
    """Exercise -> the fences of Python under its heading, `## Exercise 1`."""
    parts = re.split(r"^## (Exercise \d+)\b.*$", text, flags=re.MULTILINE)[1:]
    fences = [re.findall(r"^```python\n(.*?)^```", part, PATTERN) for part in parts[1::2]]
    return dict(zip(parts[::2], fences, strict=True))


def folded(node) -> list[str]:
    """Hints, solutions and answers are folded, and nothing is left open."""
    text = "\n\n".join(c.source for c in node.cells if c.cell_type == "markdown")
    found = [] if text.count("<details>") == text.count("</details>") else ["a fold is not closed"]
    kinds = {kind for kind, _ in DETAILS.findall(text)} - {"Hint", "Solution", "Answer"}
    found += [f"a fold is called {kind}" for kind in sorted(kinds)]
    try:
        exercises(node)
    except (ValueError, SyntaxError) as fault:
        found.append(str(fault))
    return found


RULES = (folded, size, tags, opening, private_words, outputs, stand_alone)
