"""Reads addresses of storage, databases and servers: the file behind one, and secrets, which records show."""

import re
from pathlib import Path
from urllib.parse import parse_qsl

# Names of query parameters that hold secrets: password, secret_key, access_token, sig, …
SECRET = re.compile(
    r"pass(?!file)|pwd|secret|token|credential|(api|access|private|account)[_-]?key|signature|^sig$|^key$"
    r"|^auth$|authorization|bearer|jwt",
    re.IGNORECASE,
)
LOCAL = ("file", "sqlite")
# Some drivers take parameters behind semicolons, and servers hand tokens out behind a #.
SEPARATORS = re.compile("[&;#]")
SQLITE = "sqlite:///"


def database_path(address: str) -> Path | None:
    """Return the file of a SQLite address, without its query (?timeout=60); None for other databases."""
    if not address.startswith(SQLITE):
        return None
    return Path(address.removeprefix(SQLITE).partition("?")[0])


def below(address: str, name: str) -> str:
    """Return the address of what has a name in a bucket's folder; the address's options stay at its end."""
    place, mark, options = address.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


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
    _, colon, port = before.partition(":") if at else place.partition(":")
    if colon and not at and "@" in query and not re.match(r"\d*(/|$)", port):
        return "a password before the @"  # with a question mark in it
    return _secret_parameter(SEPARATORS.sub("&", rest.replace("?", "&")))


def _secret_parameter(query: str) -> str | None:
    """Return which parameter of a query is secret; ODBC's connections are such queries in a parameter."""
    for name, value in parse_qsl(query):
        if SECRET.search(name) and value:
            return f"the parameter {name}"
        if ";" in value and (what := _secret_parameter(value.replace(";", "&"))):
            return what
    return None
