"""Door 3, the process around a run: it keeps pytest's output and its exit code, so that both outlive the page's server.

Run as a file, without the package and with the standard library only. Its one argument is a JSON object: "command" (a
list of texts) and "folder". It leads the session and process group in which pytest runs: a signal to the group is what
Ctrl-C is in a terminal, and this process outlives it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

OUTPUT, EXIT = "output.log", "exit.json"
MOST_BYTES = 2 * 2**20
"""Of the output; of a longer one the beginning and the end are kept."""
TAIL_BYTES = 2**18
_LOOK_EVERY_S = 1.0
NOT_STARTED = 127


class KeptOutput:
    """What pytest writes: at once, up to the limit; then its last part, at the end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._left = MOST_BYTES
        self._tail = bytearray()
        self._dropped = 0

    def write(self, text: bytes) -> None:
        """A full disk loses output, and never stops pytest."""
        now, later = text[: self._left], text[self._left :]
        with suppress(OSError):
            self._file.write(now)
        self._left -= len(now)
        self._tail += later
        if (more := len(self._tail) - TAIL_BYTES) > 0:
            del self._tail[:more]
            self._dropped += more

    def close(self) -> None:
        """Add what was held back."""
        note = b"\n[%d bytes left out]\n" % self._dropped if self._dropped else b""
        with suppress(OSError):
            self._file.write(note + bytes(self._tail))
            self._file.close()


def follow(process: subprocess.Popen[bytes], output: KeptOutput) -> int:
    """The exit code of the process, after all that it wrote. Its own children may hold the pipe open longer."""
    assert process.stdout is not None  # noqa: S101  # it was opened with a pipe
    pipe = process.stdout.fileno()
    while True:
        ended = process.poll() is not None
        while select.select([pipe], [], [], 0.0 if ended else _LOOK_EVERY_S)[0]:
            text = os.read(pipe, 65_536)
            if not text:
                return process.wait()
            output.write(text)
        if ended:
            return process.wait()


def main() -> None:
    """Start pytest, follow it to its end, and write how it ended."""
    told = json.loads(sys.argv[1])
    folder = Path(told["folder"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # a handler, which pytest does not inherit
    output = KeptOutput(folder / OUTPUT)
    try:
        process = subprocess.Popen(  # noqa: S603  # a list, no shell
            told["command"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        code = follow(process, output)
    except OSError as error:
        output.write(f"{error}\n".encode())
        code = NOT_STARTED
    output.close()
    new = folder / f"{EXIT}.new"
    new.write_text(json.dumps({"exit_code": code, "ended_at": time.time()}), encoding="utf-8")
    new.replace(folder / EXIT)


if __name__ == "__main__":
    main()
