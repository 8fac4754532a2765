"""Finds secrets in addresses of storage, databases and servers: process lists and records would show them."""

import re
from urllib.parse import parse_qsl

# Names of query parameters that hold secrets: password, secret_key, access_token, sig, …
SECRET = re.compile(
    r"pass(?!file)|pwd|secret|token|credential|(api|access|private|account)[_-]?key|signature|^sig$|^key$",
    re.IGNORECASE,
)
LOCAL = ("file", "sqlite")


def secret_in(address: str) -> str | None:
    """Return what in an address is secret, as "a password before the @", without the secret; None if nothing.

    No URL parser splits off the part before the @: it stops at a slash, and keys of S3 hold slashes.
    """
    scheme, separator, rest = address.partition("://")
    if not separator or scheme.lower() in LOCAL:
        return None
    place, _, query = rest.partition("?")
    before, at, _ = place.rpartition("@")
    if at and ":" in before:
        return "a password before the @"
    if at and scheme.lower() in ("http", "https"):
        return "a user or token before the @"
    names = [name for name, value in parse_qsl(query) if value]
    return next((f"the parameter {name}" for name in names if SECRET.search(name)), None)
