"""Tables for the page's template: cells with their links, and what a narrow page shows below a row's name.

This module only builds values, and knows neither HTML nor where a link leads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfser.errors import counted
from tfser.report.tables.table import Column, Row, Table, beneath, known, shown

_META = frozenset(
    {
        "reference",
        "printed_protocol",
        "printed_selection",
        "averaging",
        "printed_seeds",
        "seeds",
        "folds",
        "whose",
        "second",
    }
)
"""Columns that a narrow page shows below the row's name; check marks are shown there too."""


def prepared(table: Table, link: Callable[[tuple[str, ...]], str], name: str = "") -> dict[str, Any]:
    """Prepare a table for the template.

    Args:
        table: the table.
        link: key of a configuration to the target of its numbers.
        name: the table's id; by default its own name.
    """
    columns = [c for c in table.columns if c.paper]
    stub = next((c for c in columns if c.key == table.stub), None)
    head, *rest = [c for c in columns if c is not stub]
    meta = {c.key: c.key in _META or any(isinstance(row.values.get(c.key), bool) for row in table.rows) for c in rest}
    groups: list[dict[str, Any]] = []
    for column in rest:
        if groups and (groups[-1]["name"], groups[-1]["meta"]) == (column.group, meta[column.key]):
            groups[-1]["span"] += 1
        else:
            groups.append({"name": column.group, "meta": meta[column.key], "span": 1})
    rows = []
    for row in table.rows:
        about = {c.key: row.about_keys.get(c.key, row.about) for c in rest}
        rows.append(
            {
                "ours": row.ours,
                "grey": row.grey,
                "stub": shown(stub, row) if stub else "",
                "name": shown(head, row),
                "meta": " · ".join(said for c in rest if meta[c.key] and (said := _said(c, row))),
                "cells": [_cell(c, row, link(about[c.key]) if about[c.key] else "", meta[c.key]) for c in rest],
            }
        )
    return {
        "id": name or table.name,
        "title": table.title,
        "caption": table.caption,
        "stub": stub.title if stub else "",
        "groups": groups if any(group["name"] for group in groups) else [],
        "head": head.title,
        "columns": [{"title": c.title, "kind": _kind(c, meta[c.key])} for c in rest],
        "rows": rows,
        "notes": table.paper_notes,
    }


def _kind(column: Column, meta: bool, mark: bool = False) -> str:
    """Return the names of the cell's classes."""
    kinds = (("n", column.numeric), ("meta", meta), ("mark", mark), ("small", column.small))
    return " ".join(name for name, is_so in kinds if is_so)


def _cell(column: Column, row: Row, link: str, meta: bool) -> dict[str, Any]:
    value = row.values.get(column.key)
    return {
        "text": shown(column, row),
        "beneath": beneath(column, row),
        "best": column.key in row.best,
        "link": link if column.numeric and not column.published and known(value) else "",
        "kind": _kind(column, meta, isinstance(value, bool)),
        "mark": {True: "with", False: "without"}[value] if isinstance(value, bool) else "",
    }


def _said(column: Column, row: Row) -> str:
    """Write a cell in words that need no column title; empty for an empty one."""
    text, value = shown(column, row), row.values.get(column.key)
    if isinstance(value, bool):
        return f"{column.title} {text}"
    if column.key in ("printed_seeds", "seeds") and text:
        return counted(int(text), "seed") if text.isdigit() else f"{text} seeds"
    if column.key == "folds" and text[:1].isdigit():
        return "1 fold" if text == "1" else f"{text} folds"
    if column.key == "second":
        return f"minus {text}"
    return f"{column.title.lower()} not stated" if text == "not stated" else text
