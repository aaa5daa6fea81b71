"""Readers of the printed tables, which know only what stands on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PLACES = {"abc": "ABC", "casia": "CASIA", "emodb": "EmoDB", "iemocap": "IEMOCAP"}
"""Databases by the names that stand in print."""

_TAKEN_AWAY = re.compile(r"\\(?=[*\[\]<>|~_])|\*\*")


def markdown_rows(text: str) -> list[list[str]]:
    """The rows of every Markdown table as a person reads them: no bold, no escapes; heads with ``---`` below them."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[_TAKEN_AWAY.sub("", cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def latex_rows(text: str) -> list[list[str]]:
    """The rows of every LaTeX table as a person reads them, titles and lines of a group left out.

    A name that breaks is put together again.
    """
    made: list[list[str]] = []
    for part in re.findall(r"\\midrule\n(.*?)\\bottomrule", text, flags=re.DOTALL):
        for line in part.splitlines():
            if not line.endswith(r" \\") or line.startswith(r"\multicolumn"):
                continue
            cells = [read_latex(cell) for cell in line.removesuffix(r" \\").split(" & ")]
            if r"\enspace" in line:
                made[-1] = [f"{before} {after}".strip() for before, after in zip(made[-1], cells, strict=True)]
            else:
                made.append(cells)
    return made


_LATEX = {
    r"$\checkmark$": "✓",
    r"$\times$": "✗",
    r"\dagger": "†",
    r"\ddagger": "‡",
    r"\S": "§",
    r"$<$": "<",
    r"$>$": ">",
    r"$|$": "|",
    "$-$": "−",
    "''": '"',
    "--": "–",
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
}


def read_latex(cell: str) -> str:
    """A cell as a person reads it, without bold, size and colour."""
    for written, seen in _LATEX.items():
        cell = cell.replace(written, seen)
    cell = re.sub(r"\\(textbf|textcolor\{gray\}|scriptsize|enspace)(?![a-z]) ?", "", cell)
    cell = re.sub(r"\$\^\{(.*?)\}\$", r"\1", cell)
    return re.sub(r"(?<!\\)[{}]", "", cell).replace("\\", "").strip()


def printed_figures(folder: Path, ending: str = "") -> Iterator[tuple[str, str, str, str | None]]:
    """Each pair of figures of ours in print: database, WAR, UAR, and the interval where its table has intervals."""
    text = (folder / f"comparison{ending}.md").read_text(encoding="utf-8")
    place = ""
    for line in markdown_rows(text):
        if line[0] != "Database" and not set(line[0]) <= {"-"} or line[0] == "":
            place = line[0] or place
            if ("(ours" in line[1] or "re-run" in line[1]) and line[2] != "–":
                yield place, line[2].rstrip("†"), line[3].rstrip("†"), line[4]
    for sentence in re.findall(r"(?m)^[^|#\n].* on .*: WAR .*", text):
        place, war, uar, interval = re.search(
            r" on (.*?): WAR (.*?)(?: %)?†?, UAR ([\d.]+|–)(?: %)?†?( \\\[.*?\])?", sentence
        ).groups()
        if war != "–":
            yield place, war, uar, interval
    head: list[str] = []
    rows = markdown_rows((folder / f"ablation{ending}.md").read_text(encoding="utf-8"))
    for line, following in zip(rows, [*rows[1:], [""]], strict=False):
        head = line if set(following[0]) == {"-"} else head
        if line in (head, []) or set(line[0]) <= {"-"} or line[0] == "as printed":
            continue
        for i, title in enumerate(head):
            if title.endswith(": WAR") and line[i] != "–":
                yield title.removesuffix(": WAR"), line[i].rstrip("†"), line[i + 1].rstrip("†*"), None
