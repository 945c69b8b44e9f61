"""What an HTML report says of its own making: tolerances, forms, golden tensors, machine, digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lat_export.validation.report_markup import (
    Content,
    Markup,
    bound,
    code,
    counted,
    element,
    facts,
    folded,
    join,
    scientific,
    section,
    table,
)

TRANSFORMERS = "transformers"
DIGEST_LENGTH = 64


def override_note(tolerances: dict[str, Any]) -> Content:
    """A user's own tolerances, told where the verdict is: a pass by them is another pass."""
    overrides = tolerances.get("overrides") or []
    if not overrides:
        return ""
    file = tolerances.get("file") or "a table given in code"
    words: list[Content] = [
        element("strong", "Tolerances were overridden."),
        f" Before the built-in table, {counted(len(overrides), 'line')} of ",
        code(file),
        ": ",
        join((_short(row) for row in overrides), "; "),
        ".",
    ]
    return element("p", *words, css="note")


def _short(row: dict[str, Any]) -> str:
    scope = [f"{name} {row[name]}" for name in ("target", "precision", "op", "output") if row[name] != "*"]
    return f"{bound(row['relative_l2'])} for {', '.join(scope) or 'everything'} ({row['reason']})"


def reference_note(golden: dict[str, Any]) -> Content:
    """Cases that transformers did not compute are compared with this project's own code: readers must know."""
    others = {name: count for name, count in golden.get("computed_by", {}).items() if name != TRANSFORMERS}
    if not others:
        return ""
    total, names = sum(others.values()), ", ".join(others)
    return element(
        "p", f"{total} of {golden['cases']} cases are compared with {names} instead of transformers.", css="note"
    )


def tolerance_section(report: dict[str, Any]) -> Markup:
    tolerances = report["tolerances"]
    return section(
        "tolerances",
        "Tolerances",
        element("p", "The largest relative L2 error |out - ref| / |ref| that passes. NaN and infinities never pass."),
        override_note(tolerances),
        _used(report),
        _lines(f"From {tolerances.get('file') or 'code'}, before the built-in ones", tolerances.get("overrides")),
        _lines("Built in", tolerances.get("built_in")),
    )


def _used(report: dict[str, Any]) -> Content:
    """Which tolerances judged how many comparisons: hash codes that may flip widen a row's own."""
    used = Counter(
        (row["tolerance"], row["remark"] if row["verdict"] == "passed" else "")
        for subject in report["subjects"]
        for row in subject["rows"]
    )
    if not used:
        return ""
    rows = sorted(used.items(), key=lambda item: (-item[1], str(item[0])))
    return join(
        [
            element("h3", "Applied"),
            table(
                "tolerances that were applied",
                ("tolerance", "comparisons", "remark of these"),
                ((bound(tolerance), f"{count:,}", remark) for (tolerance, remark), count in rows),
                ("tolerance", "comparisons"),
                css="worded",
            ),
        ]
    )


def _lines(title: str, rows: list[dict[str, Any]] | None) -> Content:
    if not rows:
        return ""
    names = ("target", "precision", "op", "output")
    lines = table(
        title,
        ("relative L2", *names, "reason"),
        ([bound(row["relative_l2"]), *(_all(row[name]) for name in names), row["reason"]] for row in rows),
        ("relative L2",),
        css="worded",
    )
    return join([element("h3", title), lines])


def _all(name: str) -> str:
    return "all" if name == "*" else name


def form_section(subjects: list[dict[str, Any]]) -> Markup:
    """What ran each lat node of each artifact: counts, and the nodes by name."""
    ran = [subject for subject in subjects if subject["forms"]]
    if not ran:
        return section("forms", "Attention nodes", element("p", "Nothing ran, or the model has no lat nodes."))
    counts = [
        (subject["subject"], code(op), form, str(count))
        for subject in ran
        for (op, form), count in Counter(
            (name.rpartition(".")[2], form) for name, form in subject["forms"].items()
        ).items()
    ]
    nodes = dict.fromkeys(name for subject in ran for name in subject["forms"])
    each = table(
        "form of each node",
        ("node", *(subject["subject"] for subject in ran)),
        ([code(name), *(subject["forms"].get(name, "") for subject in ran)] for name in nodes),
        css="worded",
    )
    return section(
        "forms",
        "Attention nodes",
        element("p", "What ran each lat node, as the engine itself told after its first run."),
        table("forms of lat nodes", ("artifact", "op", "ran as", "nodes"), counts, ("nodes",)),
        folded("Node by node", each),
    )


def golden_section(golden: dict[str, Any]) -> Markup:
    if not golden:
        return section("golden", "Golden tensors", element("p", "Where they come from was not recorded."))
    computed = ", ".join(f"{counted(count, 'case')} by {name}" for name, count in golden["computed_by"].items())
    rows: list[tuple[str, Content]] = [
        ("computed by", computed or "nobody: there are no cases"),
        ("tensors SHA-256", code(golden["tensors_sha256"])),
        *_flat(golden["origin"]),
    ]
    names = element("ul", *(element("li", name) for name in golden["case_names"]), css="names")
    return section(
        "golden",
        "Golden tensors",
        element("p", "The inputs and the reference outputs that all artifacts were compared with."),
        facts("origin of the golden tensors", rows),
        folded(counted(golden["cases"], "case"), names),
    )


def _flat(data: dict[str, Any], path: str = "") -> Iterator[tuple[str, Content]]:
    """The origin's form is the golden manifest's affair: whatever it holds is shown."""
    for name, value in data.items():
        here = f"{path} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, here)
        elif isinstance(value, str) and len(value) == DIGEST_LENGTH:
            yield here, code(value)
        elif isinstance(value, float):
            yield here, scientific(value)
        else:
            yield here, "none" if value is None else str(value)


def machine_section(environment: dict[str, str]) -> Markup:
    if not environment:
        return section("environment", "Environment", element("p", "Not recorded."))
    return section("environment", "Environment", facts("machine and versions", environment.items()))


def digest_section(files: dict[str, str]) -> Markup:
    if not files:
        return section("digests", "SHA-256 of the artifacts", element("p", "Not recorded."))
    rows = ((name, code(digest)) for name, digest in files.items())
    return section("digests", "SHA-256 of the artifacts", facts("digests", rows))
