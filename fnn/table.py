"""Rows of text as a table."""

from __future__ import annotations

from collections.abc import Sequence


def table(
    head: Sequence[str], body: Sequence[Sequence[str]], last: Sequence[str] | None = None, left: int = 1
) -> str:
    """Columns as wide as their longest cell.

    Args:
        head: The names of the columns.
        body: The rows.
        last: A row below a rule, such as the totals.
        left: How many columns are set from the left; the others end at one place.

    Example:
        >>> print(table(("path", "values"), [("conv1", "80"), ("head", "1,290")]))
        path   values
        ─────────────
        conv1      80
        head    1,290
    """
    rows = [head, *body, *([] if last is None else [last])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths, left) for row in rows]
    rule = "─" * len(lines[0])
    lines.insert(1, rule)
    if last is not None:
        lines.insert(-1, rule)
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    pairs = enumerate(zip(row, widths, strict=True))
    return "  ".join(f"{c:<{w}}" if i < left else f"{c:>{w}}" for i, (c, w) in pairs).rstrip()


def one_line(text: str) -> str:
    r"""Somebody else's text as one line, which cannot drive the terminal: ESC is no part of it.

    Example:
        >>> one_line("a\nb\x1b[2J")
        'a b�[2J'
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
