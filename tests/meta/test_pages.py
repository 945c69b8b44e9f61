"""docs/ is true: its code runs, its help is click's own, and mkdocs builds it without a warning."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from meta import pages
from meta.pages import BEFORE, Block, Exports, PageError, Run, blocks, commands, compare

from lat_export.cli.program import cli

DOCS = ROOT / "docs"
# Pages that need more than a folder have a test of their own, which says so here.
OWN_TESTS = {"triton.md": "tests/deploy/test_triton_page.py"}
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_CODE = [name for name in PAGES if name not in OWN_TESTS and blocks((DOCS / name).read_text())]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_of_a_page_runs(name: str, exports: Exports, tmp_path: Path) -> None:
    ran, reasons = Run(DOCS / name, tmp_path, exports).all()
    assert ran or reasons
    print(f"{name}: {ran} blocks ran, {len(reasons)} did not")
    for reason in reasons:
        print(f"  not run: {reason}")


def test_what_is_not_run_says_why() -> None:
    """And is the smaller part."""
    found = [block for name in WITH_CODE for block in blocks((DOCS / name).read_text())]
    not_run = [block for block in found if block.why_not]
    in_readme = [line for block in blocks((ROOT / "README.md").read_text()) for line in commands(block.text)]
    for block in not_run:
        print(f"not run: {block.why_not}")
        if str(block.why_not).startswith("the README has the same command"):
            assert set(commands(block.text)) <= set(in_readme), block
    assert all(len(str(block.why_not).split()) > 2 for block in not_run)
    assert len(not_run) < len(found) / 4


def test_pages_with_tests_of_their_own_have_them() -> None:
    for page, test in OWN_TESTS.items():
        assert (DOCS / page).is_file()
        assert Path(page).name in (ROOT / test).read_text()


def test_every_command_has_its_page() -> None:
    assert {path.stem for path in (DOCS / "commands").glob("*.md")} == set(cli.commands)


def test_help_in_the_pages_is_that_of_the_program() -> None:
    """By words: click folds lines in its own way in each version."""
    writer = runpy.run_path(str(DOCS / "write_help.py"))
    for name in cli.commands:
        page = (DOCS / "commands" / f"{name}.md").read_text()
        assert page.split() == writer["with_help"](name, page).split(), "python docs/write_help.py"
        assert page.count("<!-- begin: help") >= 1


def test_a_changed_help_shows() -> None:
    writer = runpy.run_path(str(DOCS / "write_help.py"))
    page = (DOCS / "commands" / "run.md").read_text().replace("How many answers to rank", "How many", 1)
    assert writer["with_help"]("run", page) != page


def test_what_pages_have_run_before_is_in_the_first_one() -> None:
    first = [line for block in blocks((DOCS / "index.md").read_text()) for line in commands(block.text)]
    found = {before["command"] for name in PAGES for before in BEFORE.finditer((DOCS / name).read_text())}
    assert found
    assert found <= set(first)


def test_the_pictures_are_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are what the program draws: its lines, not its bytes, which are matplotlib's of some version."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import figures

    for name, palette in figures.PALETTES.items():
        committed = (figures.FIGURES / f"scaling-{name}.svg").read_text()
        assert figures.digest() in committed, "python benchmarks/figures.py"
        drawn = figures.scaling(palette)
        lines = re.findall(r'id="([a-z-]+\.[a-z-]+)"', drawn)
        assert len(lines) > 15
        assert re.findall(r'id="([a-z-]+\.[a-z-]+)"', committed) == lines
        assert palette.series[0] in committed
    for module in ("figures", "tables"):
        sys.modules.pop(module)


def test_the_example_of_a_report_is_one(exports: Exports, tmp_path: Path) -> None:
    """Of today's form: the headings of the one that the first export writes."""
    run = Run(DOCS / "index.md", tmp_path, exports)
    run.command("lat-export model golden/longformer/question-answering/checkpoint --to onnx --out demo/qa")
    pages = [DOCS / "figures" / "report.html", tmp_path / "demo" / "qa" / "report.html"]
    headings = [re.findall("<(?:h1|h2)[^>]*>[^<]*|<footer>.*", page.read_text()) for page in pages]
    assert headings[0] == headings[1], "python benchmarks/figures.py"
    assert len(headings[0]) > 5
    assert not re.search("/" + "(tmp|work|root|home)" + "/", pages[0].read_text())


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install mkdocs-material builds the pages")
    pytest.importorskip("material", reason="pip install mkdocs-material builds the pages")
    # Not with --quiet: a warning that is not logged is not counted either.
    done = build(ROOT / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "commands" / "model" / "index.html").is_file()
    other = shutil.copytree(DOCS, tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text())
    (other / "new.md").write_text("# In no menu\n\n[Nowhere](absent.md), [no place](index.md#absent)\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "other")
    assert done.returncode == 1
    for words in ("not included in the", "'absent.md'", "'#absent'"):
        assert words in done.stderr


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    return subprocess.run([*command, "--site-dir", str(site)], capture_output=True, text=True, check=False)


PAGE = """
<!-- not run: needs a cluster at hand -->
```bash
kubectl get pods
```

<!-- begin: help -->
```text
generated
```
<!-- end: help -->

```json title="a/b.json"
{}
```

```bash
echo one; echo two three
```

```text
one
two ...
```
"""


def run_of(text: str, folder: Path) -> Run:
    (folder / "page.md").write_text(text)
    (folder / "run").mkdir()
    return Run(folder / "page.md", folder / "run", Exports(folder))


def test_blocks_are_found_with_their_reasons(tmp_path: Path) -> None:
    found = blocks(PAGE)
    assert [(block.language, block.why_not, block.title) for block in found] == [
        ("bash", "needs a cluster at hand", None),
        ("json", None, "a/b.json"),
        ("bash", None, None),
        ("text", None, None),
    ]
    assert found[1].line == PAGE[: PAGE.index("```json")].count("\n") + 1
    run = run_of(PAGE, tmp_path)
    assert run.all() == (3, ["page.md:3: needs a cluster at hand"])
    assert (run.folder / "a" / "b.json").read_text() == "{}\n"


WRONG = [
    ("a command that fails", "```bash\nfalse\n```\n", "ended with 1"),
    ("one of ours", "```bash\nlat-export inspect nowhere\n```\n", "ended with 2"),
    ("other words", PAGE.replace("two ...", "two four"), "was not printed: two four"),
    ("another order", PAGE.replace("one\ntwo ...", "two ...\none"), "was not printed: one"),
    ("python", "```python\nassert False\n```\n", "page.md:1"),
    ("no language", "```\nx\n```\n", "no language"),
    ("another language", "```yaml\nx: 1\n```\n", "yaml"),
    ("output of nothing", "```text\nx\n```\n", "nothing was printed"),
]


@pytest.mark.parametrize(("text", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_page_that_is_wrong_is_caught(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=re.escape(words)):
        run_of(text, tmp_path).all()


def test_python_of_a_page_has_one_namespace(tmp_path: Path) -> None:
    text = "```python\nx = 1\n```\n```python\nprint(x + 1)\n```\n```text\n2\n```\n"
    assert run_of(text, tmp_path).all() == (3, [])


def test_an_export_of_several_pages_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def export(arguments: list[str]) -> str:
        calls.append(arguments)
        Path("demo/x").mkdir(parents=True)
        Path("demo/x/file").write_text(str(len(calls)))
        return "made\n"

    monkeypatch.setattr(pages, "in_this_process", export)
    text = "```bash\nlat-export model golden/a --to onnx --out demo/x\n```\n```text\nmade\n```\n"
    first = run_of(text, tmp_path)
    first.all()
    (tmp_path / "second").mkdir()
    second = Run(first.page, tmp_path / "second", first.exports)
    second.all()
    assert len(calls) == 1
    assert (second.folder / "demo" / "x" / "file").read_text() == "1"


def test_blanks_do_not_count_in_output() -> None:
    compare("a  b\n\nc", "x\na b\nc\n")
    with pytest.raises(PageError):
        compare("a b", "a bc")


def test_blocks_stay_plain() -> None:
    """Indented blocks, as in a list, would be shown and not be run."""
    for name in PAGES:
        assert not re.search(r"^[ \t]+```", (DOCS / name).read_text(), re.MULTILINE), name
    assert blocks("    ```bash\n") == []
    assert Block("bash", "x\n", 1) in blocks("```bash\nx\n```\n")
