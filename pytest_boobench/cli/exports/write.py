"""Door 2: rows -> JSON lines or CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from pytest_boobench.cli.plain import to_json
from pytest_boobench.reports.plain import without_nan


def write_jsonl(rows: Iterable[Mapping[str, Any]], file: IO[str]) -> int:
    """An object a line, its fields in the rows' order; gives back how many. What is not finite is null."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007  # wanted after the loop
        file.write(to_json(row, indent=None) + "\n")
    return count


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], file: IO[str]) -> int:
    """A head and a line for each row, as RFC 4180 but for the line ends; gives back how many. Blanks are empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        writer.writerow([without_nan(row[name]) for name in columns])
    return count
