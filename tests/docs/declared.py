"""What the snippets of the documents take for granted: variables, files, and what api.example.com answers."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import trustme

API: Final = "https://api.example.com"
SECRET: Final = "s3cret-of-the-reader"
ADDRESS: Final = "https://hooks.example.com/s3cret-of-the-reader"

ENVIRONMENT: Final = {
    **dict.fromkeys(("RATES_TOKEN", "SHOP_SECRET", "SHOP_PASSWORD", "API_KEY", "PGPASSWORD", "DB_PASSWORD"), SECRET),
    **dict.fromkeys(("CHAT_URL", "RATES_PING", "DAEMON_PING", "HOOK_URL"), ADDRESS),
    "MAIL_URL": "mailto://me:s3cret@example.com",
    "PROXY_URL": "http://reader:s3cret@proxy.example.com:3128",
    "HOME": "/home/reader",
}
"""The variables that a snippet may name."""
SECRET_FILES: Final = ("secrets/rates_token", "/run/secrets/rates_token", "new-token")
CREDENTIALS: Final = ("rates_token", "shop_secret")
CERTIFICATES: Final = ("certs/ca.pem", "certs/client.pem", "certs/client.key")

ITEMS: Final = [{"id": number, "title": f"Item {number}", "price": 10 + number} for number in range(1, 6)]
FEED: Final = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><guid>n1</guid><title>First</title><link>https://example.com/1</link></item>
<item><guid>n2</guid><title>Second</title><link>https://example.com/2</link></item></channel></rss>"""
ANSWERS: Final = {
    "/v1/rates": ("application/json", json.dumps({"EUR": 1, "CZK": 25.1})),
    "/v1/prices": ("application/json", json.dumps({"prices": [{"sku": "A1", "price": "9.90"}]})),
    "/v1/items": ("application/json", json.dumps({"data": ITEMS, "next": None})),
    "/v1/stock.csv": ("text/csv", "sku;count\nA1;3\nB2;0\n"),
    "/news.xml": ("application/rss+xml", FEED),
}

PROJECT: Final = {
    "manage.py": """import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "made up"
INSTALLED_APPS = ["prices"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
""",
    "prices/__init__.py": "",
    "prices/management/__init__.py": "",
    "prices/management/commands/__init__.py": "",
}
"""What is in /srv/shop before a reader adds to it: a Django project with an empty app."""


def project(folder: Path) -> None:
    """Put the project into ``folder``, and the table that its migrations would make into its database."""
    for name, content in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    with closing(sqlite3.connect(folder / "db.sqlite3")) as database:
        database.execute("CREATE TABLE prices_price (id INTEGER PRIMARY KEY, sku TEXT UNIQUE, price DECIMAL)")


@lru_cache(maxsize=1)
def _certificates() -> tuple[bytes, bytes, bytes]:
    authority = trustme.CA()
    issued = authority.issue_cert("client.example.com")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return authority.cert_pem.bytes(), chain, issued.private_key_pem.bytes()


def furnish(folder: Path) -> dict[str, str]:
    """Put the files that a snippet may name into ``folder``, and return the variables."""
    for name in (*SECRET_FILES, *(f"credentials/{name}" for name in CREDENTIALS)):
        path = folder / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET, encoding="utf-8")
    for name, content in zip(CERTIFICATES, _certificates(), strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return {**ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(folder / "credentials")}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, text = ANSWERS.get(self.path.partition("?")[0], ("text/plain", ""))
        self.send_response(200 if text else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def api() -> Iterator[str]:
    """Serve what api.example.com answers; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
