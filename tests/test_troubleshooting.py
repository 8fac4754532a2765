"""docs/troubleshooting: each sentence that answers bad input stands there, and no other one does."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "troubleshooting"
PACKAGES = ("trainables", "searchers", "analysis", "cluster")
FAMILIES = {
    "UsageError", "ClusterError", "DataError", "MetricError", "AnalysisError", "OwnCodeError", "SpaceError",
    "TrackingError", "StoreError", "BackgroundError",
}  # fmt: skip
GAP = "…"


def trees():
    """Return the packages' modules by their path, as syntax trees."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {path: ast.parse(path.read_text()) for path in paths}


def family(modules):
    """Return the names of FAMILIES and of all classes that inherit from one of them."""
    found, bases = set(FAMILIES), {}
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


def spoken(node):
    """Return a message as a reader sees it, each value as a gap: "there is no split …"."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(spoken, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spoken(node.left) + spoken(node.right)
    return GAP


@cache
def sentences():
    """Return the sentences of the code by their place; one that only passes another's on is none."""
    modules = trees()
    names, found = family(modules), {}
    for path, tree in modules.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            if node.func.__dict__.get("id", node.func.__dict__.get("attr")) in names:
                said = re.sub(f"{GAP}+", GAP, " ".join(spoken(node.args[0]).split()))
                if re.search(r"\w", said):
                    found[f"{path.relative_to(ROOT)}:{node.lineno}"] = said
    return found


def explained():
    """Return the sentences that the pages explain: terms of definition lists."""
    text = "\n".join(path.read_text() for path in sorted(PAGES.glob("*.md")))
    return [a or b for a, b in re.findall(r"^(?:`` (.+) ``|`([^`].*)`)$", text, flags=re.MULTILINE)]


def test_every_sentence_has_its_cause_and_remedy():
    known = set(explained())
    assert len(known) > 300
    assert {place: said for place, said in sentences().items() if said not in known} == {}


def test_no_page_explains_what_nobody_says():
    assert sorted(set(explained()) - set(sentences().values())) == []


def test_each_sentence_is_explained_once():
    found = explained()
    assert sorted({said for said in found if found.count(said) > 1}) == []
