"""Tables and sentences that show any label or text as it stands, never as HTML or a formula."""

from __future__ import annotations

import re
from html import escape as _html

import pandas as pd
from pandas.io.formats.style import Styler


def styled(
    frame: pd.DataFrame, formats=None, *, index: bool = True, left: bool = False, **options
) -> Styler:
    """`frame` with all texts escaped; `left` aligns its cells. `formats` and `options` are those of
    `Styler.format`: to call it again undoes the escaping."""
    shown = frame.map(lambda value: value if pd.api.types.is_scalar(value) else str(value)).style
    shown.format(formats, escape="html", **options)
    shown.set_table_attributes('class="tex2jax_ignore mathjax_ignore"')
    for axis in (0, 1):
        shown.format_index(lambda label: _html(str(label)), axis=axis)
        shown.format_index_names(lambda name: _html(str(name)), axis=axis)
    if not index:
        shown.hide(axis="index")
    return shown.set_properties(**{"text-align": "left"}) if left else shown


def escape(text: object) -> str:
    """`text` for a sentence in Markdown, its white space as single spaces and every mark of
    punctuation as an HTML entity: no markup, link or formula. Inside backticks use `<code>`."""
    marks = re.sub(r"[!-/:-@\[-`{-~]", lambda m: f"&#{ord(m[0])};", " ".join(str(text).split()))
    return marks.replace("&#36;", "<span>&#36;</span>")  # MathJax joins no dollars across elements
