"""An endpoint for h2spec, on a free port: it takes its time, so that what a case sends arrives before the answer."""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 0.2
# Longer than every window that a case sets.
ANSWER = b"x" * 4096


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the same bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Wait, then answer."""
        time.sleep(SECONDS)
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(ANSWER)

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self.do_GET()

    def do_POST(self) -> None:
        """As GET."""
        self.close_connection = True  # with a body that may be chunked, and is not read
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """With room for every connection of a run."""

    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
server.serve_forever()
