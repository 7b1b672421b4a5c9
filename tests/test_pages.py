"""The Python of the README and of the pages runs as it stands, one block after the other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import kmeans_xp
from kmeans_xp import backends

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
# Each part is about another library, which may be missing.
IN_PARTS = "docs/migrating.md"


def parts(page: str) -> list[tuple[str, str]]:
    """Name and Python of a page, or of each part of one that stands alone."""
    text = (ROOT / page).read_text("utf-8")
    cut = re.split(r"^## ", text, flags=re.M) if page == IN_PARTS else [text]
    found = []
    for part in cut:
        blocks = re.findall(r"^```python\n(.*?)^```", part, re.M | re.S)
        name = f"{page}: {part.splitlines()[0]}" if page == IN_PARTS else page
        found += [(name, "".join(blocks))] if blocks else []
    return found


CODE = dict(part for page in PAGES for part in parts(page))


def test_the_pages_are_found():
    pages = {
        "README.md",
        "docs/index.md",
        "docs/batches.md",
        "docs/streams.md",
        "docs/same_bits.md",
    }
    others = {f"{IN_PARTS}: {name}" for name in ("scikit-learn", "scipy.cluster.vq", "faiss")}
    assert pages | others <= set(CODE)


@pytest.mark.parametrize("name", CODE)
def test_blocks_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        exec(compile(CODE[name], name, "exec"), {"__name__": "__main__"})
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("kmeans_xp"):
            raise
        pytest.skip(str(error))
    if name == "docs/same_bits.md":
        assert f"prints `{capsys.readouterr().out.strip()}`" in (ROOT / name).read_text("utf-8")


def test_the_reference_names_everything_public():
    listed = set(re.findall(r"^   ([\w.]+)$", (ROOT / "docs/api.rst").read_text("utf-8"), re.M))
    for name in dir(kmeans_xp):
        thing = getattr(kmeans_xp, name)
        parts = [f"{name}.{part}" for part in thing.__all__] if inspect.ismodule(thing) else [name]
        assert set(parts) <= listed


def test_the_page_about_the_house_names_every_room():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text.split("## Rooms")[1].split("\n**")[0], re.M)
    paths = [p for p in (ROOT / "kmeans_xp").iterdir() if p.suffix == ".py" or [*p.glob("*.py")]]
    rooms = {path.stem for path in paths} - {"__init__", "__main__"}
    assert set(re.findall(r"\w+", " ".join(rows))) == rooms


def test_the_contract_of_backends_names_every_function():
    named = re.findall(r"^`(\w+)\(", backends.__doc__, re.M)
    functions = dict(inspect.getmembers(backends.Backend, inspect.isfunction))
    assert sorted(named) == sorted(name for name in functions if not name.startswith("_"))
