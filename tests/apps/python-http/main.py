"""A web server of the standard library."""

import os
import platform
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Greets whatever is asked for."""

    def do_GET(self):
        """Answers with the version."""
        body = f"Hello from Python {platform.python_version()}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
