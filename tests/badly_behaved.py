"""A server with a behaviour, for hosts that we start: ``python badly_behaved.py BEHAVIOUR PORT [FILE]``.

Run as a file; it needs the standard library only.
"""

from __future__ import annotations

import http.server
import os
import sys
import time
from pathlib import Path


class Answers(http.server.BaseHTTPRequestHandler):
    """200 to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None: ...


def serve(port: int) -> None:
    http.server.HTTPServer(("127.0.0.1", port), Answers).serve_forever()


def leave_a_child(file: Path) -> None:
    """A grandchild in a session of its own, whose parent is gone; it notes its process id."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            file.write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    while not file.exists() or not file.read_text():
        time.sleep(0.01)


def main() -> None:
    behaviour, port = sys.argv[1], int(sys.argv[2])
    rest = [Path(name) for name in sys.argv[3:]]
    if behaviour == "ends":
        print("the model is broken")
        sys.exit(3)
    if behaviour == "silent":
        time.sleep(600)
    if behaviour == "elsewhere":
        serve(0)
    if behaviour == "taken":
        serve(int(rest[0].read_text()))
    if behaviour == "forks":
        leave_a_child(rest[0])
    if behaviour == "daemon":
        leave_a_child(rest[0])
        sys.exit(0)
    if behaviour == "talks":
        line = b"x" * 1023 + b"\n"
        os.write(1, b"the first line\n")
        for _ in range(40 * 1024):
            os.write(1, line)
        os.write(1, b"the last line\n")
    serve(port)


if __name__ == "__main__":
    main()
