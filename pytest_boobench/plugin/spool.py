"""Where measured cells go when the store fails in the middle of a session: a file of JSON lines beside it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pytest_boobench.errors import StoreError
from pytest_boobench.record import CellRecord, to_plain
from pytest_boobench.units import count


class Spool:
    """A file that is made when it is needed; ``trouble`` is the store's last error, empty while all went well."""

    def __init__(self, rootdir: Path, session_uid: str) -> None:
        self._folders = (rootdir / ".boobench", Path(tempfile.gettempdir()))
        self._name = f"spool-{session_uid}.jsonl"
        self._path: Path | None = None
        self._count = 0
        self.trouble = ""

    def keep(self, record: CellRecord, error: StoreError) -> None:
        """Append the record, at the first place that takes it."""
        self.trouble = str(error)
        line = json.dumps(to_plain(record)) + "\n"
        for folder in self._folders:
            try:
                folder.mkdir(exist_ok=True)
                with (folder / self._name).open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError:
                continue
            self._path = folder / self._name
            self._count += 1
            return

    def describe(self) -> str:
        """What happened, and where the records are."""
        kept = f"{count(self._count, 'cell')} kept in {self._path}" if self._path else "no file took the records either"
        return f"the store failed: {self.trouble}; {kept}"
