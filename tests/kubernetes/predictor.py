"""An endpoint at an address that answers every POST with its name, and prints its port."""

import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the name."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Reads the body and answers."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = f'{{"name": "{sys.argv[2]}"}}'.encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keeps quiet."""


server = http.server.ThreadingHTTPServer((sys.argv[1], 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
