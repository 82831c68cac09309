"""Checks of the notebooks' exercises: a module a notebook, a function an exercise."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps


@dataclass(frozen=True, repr=False)
class Outcome:
    """What a check found: whether the exercise is solved, and a remark or what is missing."""

    solved: bool
    said: str

    def __repr__(self) -> str:
        return f"{'solved' if self.solved else 'not yet'}: {self.said}"

    def _repr_markdown_(self) -> str:
        return f"> {'**solved**' if self.solved else '*not yet*'}: {self.said}"


def exercise(check: Callable[..., str] | None = None, *, in_place: bool = False) -> Callable:
    """Decorate a check, which takes the reader's functions or values, asserts what they should do
    and returns a remark: it then returns an `Outcome` and never raises. A function that returns
    None is not yet written, unless it works `in_place`."""
    if check is None:
        return partial(exercise, in_place=in_place)

    @wraps(check)
    def outcome(*answers, **named) -> Outcome:
        with warnings.catch_warnings(action="ignore"):
            try:
                given = inspect.signature(check).bind(*answers, **named).arguments.items()
                return Outcome(True, check(**{n: _tried(n, value, in_place) for n, value in given}))
            except AssertionError as missing:
                return Outcome(False, " ".join(str(missing).split()) or "the result is not right")
            except (Exception, SystemExit) as fault:
                return Outcome(False, f"the check cannot use your answer ({_said(fault)})")

    return outcome


def _tried(name: str, answer, in_place: bool):
    """The answer unless it is empty; a function then tells its faults as what is missing."""
    assert not any(answer is empty for empty in (None, ...)), f"`{name}` is empty"

    def function(*arguments, **named):
        try:
            result = answer(*arguments, **named)
        except (Exception, SystemExit) as fault:
            raise AssertionError(f"your `{name}` raised {_said(fault)}") from None
        assert in_place or not any(result is e for e in (None, ...)), f"`{name}` returned None"
        return result

    return wraps(answer)(function) if inspect.isroutine(answer) else answer


def _said(fault: BaseException) -> str:
    what = " ".join(f"{type(fault).__name__}: {fault}".split())[:200].replace("`", "'")
    return f"`{what.removesuffix(':')}`"  # in backticks nothing is markup
