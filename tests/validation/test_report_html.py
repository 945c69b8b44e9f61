"""The HTML page and the schema of a report: whole, safe, the same every time, and they bite."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from math import inf
from typing import Any

import jsonschema
import pytest
from conftest import ROOT

from lat_export.pipeline import Exported
from lat_export.stages.bundle import REPORT_FILE, REPORT_PAGE
from lat_export.validation.compare import HISTOGRAM_DECADES, not_comparable
from lat_export.validation.report import (
    FAILED,
    PASSED,
    CaseFigures,
    Divergence,
    LayerError,
    Probe,
    Provenance,
    Repeated,
    Report,
    Row,
    SubjectReport,
)
from lat_export.validation.report_html import report_html
from lat_export.validation.tolerance import Tolerance, Tolerances

Export = Callable[..., Exported]
SCHEMA = json.loads((ROOT / "exporter" / "lat_export" / "validation" / "report.schema.json").read_text())
HOSTILE = "</title><script>alert('x')</script>\"' onload=\"x\" <img src=http://e.vil/a.png> $x$ _\x00\u202e"
VOID = {"meta", "br", "hr", "img", "link", "input"}
BINS = len(HISTOGRAM_DECADES) + 1


def row(case: str = "B=1 N=4 padding=none globals=none", output: str = "logits", **changed: Any) -> Row:
    figures: dict[str, Any] = {
        "max_abs": 1e-6,
        "p99_abs": 9e-7,
        "relative_l2": 1e-7,
        "cosine": 1.0,
        "max_ulp": 3.0,
        "nan": 0,
        "inf": 0,
        "histogram": (1,) * BINS,
        "tolerance": 1e-5,
        "verdict": PASSED,
    }
    return Row(case, output, **{**figures, **changed})


def provenance(**changed: Any) -> Provenance:
    tolerances = Tolerances((Tolerance(1e-3, "half precision in the head", output="logits"),), "mine.json")
    golden = {
        "family": "yoso",
        "task": "fill-mask",
        "tensors_sha256": "a" * 64,
        "cases": 2,
        "case_names": ["one", "two"],
        "computed_by": {"transformers": 1, "lat-export reference": 1},
        "origin": {"seed": 7, "options": {"num_hash": None}},
    }
    fields = {"golden": golden, "files": {"model.onnx": "b" * 64}, "tolerances": tolerances.to_json(), **changed}
    return Provenance(environment={"lat-export": "1", "python": "3"}, **fields)


def passed() -> Report:
    rows = tuple(row(f"B=1 N={2**power} padding=none", name) for power in range(9) for name in ("a", "b"))
    figures = (CaseFigures(rows[0].case, {"label agreement": 0.5}), CaseFigures(rows[2].case, {"label agreement": 1.0}))
    return Report(
        (SubjectReport("model.onnx", rows, figures=figures, repeated=Repeated(3, ()), forms={"layer.0.Op": "body"}),)
    )


def failed() -> Report:
    lost = row("B=1 N=8 padding=none", **vars(not_comparable(nan=3)), verdict=FAILED, remark="NaN or Inf")
    rows = (
        row(),
        row(relative_l2=0.2, verdict=FAILED, rows=512),
        lost,
        row(tolerance=0.03, remark="hash codes may flip"),
    )
    layers = (LayerError(-1, 0.0), LayerError(0, 1e-7), LayerError(1, inf))
    probes = (Probe(3, ("x", "y"), inf, False), Probe(1, ("x",), 1e-9, True))
    divergence = Divergence(("ort", "PyTorch"), "one", True, 1e-5, 1, ("MatMul m", "Add a"), 1e-9, inf, 2, probes)
    subjects = (
        SubjectReport(
            "model.onnx",
            rows,
            left_out=1,
            layers=layers,
            repeated=Repeated(2, ("one",)),
            forms={"layer.0.Op": "plugin", "layer.1.Op": "plugin"},
        ),
        SubjectReport("good.onnx", (row(),), forms={"layer.0.Op": "native", "layer.1.Op": "body"}),
        SubjectReport("engine", (), remark="no GPU"),
    )
    return Report(subjects, provenance(), divergence)


def not_run() -> Report:
    return Report((SubjectReport("engine", (), remark="no GPU"),))


def partial() -> Report:
    return Report((*passed().subjects, *not_run().subjects))


def unsteady() -> Report:
    return Report((SubjectReport("engine", (row(),), repeated=Repeated(2, ("one",))),))


def agreeing() -> Report:
    return Report(passed().subjects, divergence=Divergence(("a", "b"), "one", False, 1e-5))


REPORTS = (passed, failed, not_run, partial, unsteady, agreeing, lambda: Report(()))


def hostile(data: Any) -> Any:
    """Every text of a report that is no verdict, made hostile; names of figures and forms too."""
    if isinstance(data, dict):
        return {key: value if key == "verdict" else hostile(value) for key, value in data.items()}
    if isinstance(data, list):
        return [hostile(value) for value in data]
    return HOSTILE + data if isinstance(data, str) and data != "all" else data


class Page(HTMLParser):
    """Tags that close in order, ids that are unique, and all that a page could fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data

    def all_of(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "additionalProperties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def check(data: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_the_schema_is_one_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = list(objects(SCHEMA))
    assert len(found) >= 9
    for form in found:
        assert form["additionalProperties"] is False
        assert sorted(form["required"]) == sorted(form["properties"])
        assert all(field["description"] for field in form["properties"].values())


@pytest.mark.parametrize("make", REPORTS)
def test_reports_are_what_the_schema_says(make: Callable[[], Report]) -> None:
    check(json.loads(json.dumps(make().to_json(), allow_nan=False)))


@pytest.mark.parametrize(("family", "target"), [("longformer", "onnx"), ("yoso", "ort")])
def test_a_bundle_holds_a_report_of_that_form_and_its_page(exported: Export, family: str, target: str) -> None:
    bundle = exported("question-answering", target, family).bundle
    data = json.loads((bundle.folder / REPORT_FILE).read_text())
    check(data)
    assert (bundle.folder / REPORT_PAGE).read_text(encoding="utf-8") == report_html(data)
    assert bundle.manifest["files"][REPORT_PAGE]["role"] == "report"


def lacking(data: dict[str, Any]) -> None:
    del data["subjects"][0]["rows"][0]["max_ulp"]


def lacking_on_top(data: dict[str, Any]) -> None:
    del data["divergence"]


def surplus(data: dict[str, Any]) -> None:
    data["subjects"][0]["rows"][0]["more"] = 1


def unknown_verdict(data: dict[str, Any]) -> None:
    data["subjects"][0]["rows"][0]["verdict"] = "perhaps"


def row_that_did_not_run(data: dict[str, Any]) -> None:
    data["subjects"][0]["rows"][0]["verdict"] = "not run"


def pass_of_nothing(data: dict[str, Any]) -> None:
    data["subjects"][0]["rows"] = []


def pass_with_a_failed_row(data: dict[str, Any]) -> None:
    data["subjects"][0]["rows"][0]["verdict"] = "failed"


def pass_with_other_bits(data: dict[str, Any]) -> None:
    data["subjects"][0]["repeated"]["changed"] = ["one"]


def pass_of_infinity(data: dict[str, Any]) -> None:
    data["subjects"][0]["rows"][0]["relative_l2"] = None


def failure_without_one(data: dict[str, Any]) -> None:
    data["verdict"] = "failed"


def not_run_though_all_did(data: dict[str, Any]) -> None:
    data["verdict"] = "not run"


def other_version(data: dict[str, Any]) -> None:
    data["report"] = 1


def unknown_form(data: dict[str, Any]) -> None:
    data["subjects"][0]["forms"]["layer.0.Op"] = "somehow"


def forms_of_what_did_not_run(data: dict[str, Any]) -> None:
    data["verdict"] = data["subjects"][0]["verdict"] = "not run"
    data["subjects"][0]["rows"] = []


def no_digest(data: dict[str, Any]) -> None:
    data["files"] = {"model.onnx": "b" * 63}


@pytest.mark.parametrize(
    "spoil",
    [
        lacking,
        lacking_on_top,
        surplus,
        unknown_verdict,
        row_that_did_not_run,
        pass_of_nothing,
        pass_with_a_failed_row,
        pass_with_other_bits,
        pass_of_infinity,
        failure_without_one,
        not_run_though_all_did,
        other_version,
        no_digest,
        unknown_form,
        forms_of_what_did_not_run,
    ],
)
def test_the_schema_refuses(spoil: Callable[[dict[str, Any]], None]) -> None:
    data = passed().to_json()
    check(data)
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        check(data)


@pytest.mark.parametrize("make", REPORTS)
@pytest.mark.parametrize("change", [copy.deepcopy, hostile])
def test_the_page_is_whole_and_fetches_nothing(make: Callable[[], Report], change: Callable[[Any], Any]) -> None:
    text = report_html(change(make().to_json()))
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "image", "foreignobject", "base", "form"}
    assert "<script" not in text
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset")]
    assert all(target.startswith("#") for target in [*page.all_of("href"), *page.all_of("xlink:href")])
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    ids = page.all_of("id")
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in page.all_of("href")} <= set(ids)
    assert set(page.all_of("aria-labelledby")) <= set(ids)
    assert "\x00" not in text
    assert "\u202e" not in text
    text.encode("utf-8")


def test_hostile_names_are_shown_as_text() -> None:
    words = Page(report_html(hostile(failed().to_json()))).words
    assert "<script>alert('x')</script>" in words
    assert "$x$" in words


@pytest.mark.parametrize("make", REPORTS)
def test_the_same_report_gives_the_same_bytes(make: Callable[[], Report]) -> None:
    assert report_html(make().to_json()) == report_html(json.loads(json.dumps(make().to_json())))


def test_a_matplotlibrc_changes_nothing() -> None:
    import matplotlib

    plain = report_html(failed().to_json())
    with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 30, "axes.facecolor": "red"}):
        assert report_html(failed().to_json()) == plain
        assert matplotlib.rcParams["font.size"] == 30


def headline(report: Report) -> str:
    found = re.search(r"<h1>(.*?)</h1>", report_html(report.to_json()))
    assert found
    return re.sub(r"<.*?>", "", found[1])


def test_the_verdict_comes_first_in_words() -> None:
    assert headline(passed()) == "\u2713 Passed: the artifact computes what the reference computes"
    assert headline(failed()) == "\u2715 Failed: 1 of 3 artifacts lost parity, 1 passed, 1 not run"
    assert headline(not_run()) == "\u2013 Not run: nothing is known of the artifact"
    assert headline(partial()) == "\u2013 Not run in full: 1 of 2 artifacts passed, 1 did not run"
    assert headline(Report(())) == "\u2013 Not run: there was no artifact to check"


def test_what_did_not_run_is_never_called_passed() -> None:
    words = Page(report_html(not_run().to_json())).words
    assert "no GPU. Nothing is known of its numbers." in words
    assert "passed" not in words.lower()


def test_a_failed_report_says_where_and_why() -> None:
    words = Page(report_html(failed().to_json())).words
    for part in (
        *("passed", "failed", "not run", "no GPU"),
        "2 of 4 comparisons in 2 cases failed",
        "NaN or Inf",
        "They part in layer 1: the error rises from 1.0e-09 to \u221e",
        "MatMul m",
        "Tolerances were overridden.",
        "1e-03 for output logits (half precision in the head)",
        "1 of 2 cases are compared with lat-export reference instead of transformers",
        "2 runs, other bits in 1 case",
        "1 case left out",
        "20,000 times",
        "512 positions",
        "plugin",
        "a" * 64,
        "b" * 64,
    ):
        assert part in words, part


def test_failures_come_first_and_long_tables_fold() -> None:
    rows = tuple(row(f"case {index}", relative_l2=1e-7 * index) for index in range(100))
    bad = row("the bad case", relative_l2=1.0, verdict=FAILED)
    text = report_html(Report((SubjectReport("x", (*rows, bad)),)).to_json())
    table = text[text.index('id="cases"') :]
    assert table.index("the bad case") < table.index("<details>") < table.index("case 99") < table.index("case 98")
    assert "100 more comparisons, all passed" in table


def test_the_least_of_a_tasks_figures_is_shown() -> None:
    text = report_html(passed().to_json())
    assert "0.5000" in text[text.index('id="figures"') : text.index('id="histogram"')]
