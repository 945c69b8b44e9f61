"""A report as one HTML file: no scripts, nothing fetched, the same bytes for the same report.

Reading order: the verdict in words, the figures that matter, where it goes wrong, the comparisons, the provenance.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from lat_export.validation.report import FAILED, NOT_RUN, PASSED
from lat_export.validation.report_cases import case_section
from lat_export.validation.report_errors import error_section, histogram_section, layer_section, sampled_section
from lat_export.validation.report_markup import (
    SIGNS,
    Content,
    Markup,
    bound,
    by_severity,
    code,
    counted,
    element,
    folded,
    html,
    join,
    of_tolerance,
    scientific,
    section,
    table,
    verdict_mark,
)
from lat_export.validation.report_provenance import (
    digest_section,
    form_section,
    golden_section,
    machine_section,
    override_note,
    reference_note,
    tolerance_section,
)

STYLE_FILE = Path(__file__).with_name("report.css")
# Even where something slipped through the escaping, a browser runs and fetches nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_html(report: dict[str, Any]) -> str:
    """The whole file.

    Args:
        report: `Report.to_json()`, or what was read from a report.json.
    """
    sections = [
        _verdict_section(report),
        _figure_section(report["subjects"]),
        _divergence_section(report["divergence"]),
        layer_section(report["subjects"]),
        sampled_section(report["subjects"]),
        histogram_section(report),
        error_section(report["subjects"]),
        case_section(report),
        tolerance_section(report),
        form_section(report["subjects"]),
        golden_section(report["golden"]),
        machine_section(report["environment"]),
        digest_section(report["files"]),
    ]
    body = join(sections, "\n").html
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Parity report: {html(report["verdict"])}</title>
<style>
{STYLE_FILE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{body}
</main>
<footer>{html(_footer(report))}</footer>
</body>
</html>
"""


def _footer(report: dict[str, Any]) -> str:
    version = report["environment"].get("lat-export", "of unknown version")
    return f"lat-export {version}, report version {report['report']}"


def _verdict_section(report: dict[str, Any]) -> Markup:
    subjects = report["subjects"]
    css = {PASSED: "passed", FAILED: "failed"}.get(report["verdict"], "not-run")
    items = [
        element(
            "li",
            element("div", verdict_mark(subject["verdict"]), element("strong", subject["subject"]), css="name"),
            element("p", _sentence(subject)),
        )
        for subject in subjects
    ]
    return Markup(
        f'<header class="{css}">\n<p class="kind">{html(_kind(report))}</p>\n'
        f'<h1><span aria-hidden="true">{SIGNS.get(report["verdict"], "?")}</span> {html(_headline(report))}</h1>\n'
        f"{element('ul', *items, css='verdicts').html}\n"
        f"{html(override_note(report['tolerances']))}{html(reference_note(report['golden']))}\n</header>"
    )


def _kind(report: dict[str, Any]) -> str:
    """As "Parity report: longformer, question-answering, fp16"; of float32 nothing is said."""
    model = [report["golden"][name] for name in ("family", "task") if name in report["golden"]]
    model += [report["precision"]] if report.get("precision", "fp32") != "fp32" else []
    return "Parity report" + (f": {', '.join(model)}" if model else "")


def _headline(report: dict[str, Any]) -> str:
    verdicts = Counter(subject["verdict"] for subject in report["subjects"])
    total = sum(verdicts.values())
    if not total:
        return "Not run: there was no artifact to check"
    if report["verdict"] == PASSED:
        return (
            "Passed: the artifact computes what the reference computes"
            if total == 1
            else (f"Passed: {total} of {total} artifacts compute what the reference computes")
        )
    if report["verdict"] == FAILED:
        words = [f"Failed: {verdicts[FAILED]} of {counted(total, 'artifact')} lost parity"]
        words += [f"{verdicts[PASSED]} passed"] if verdicts[PASSED] else []
        words += [f"{verdicts[NOT_RUN]} not run"] if verdicts[NOT_RUN] else []
        return ", ".join(words)
    if not verdicts[PASSED]:
        return f"Not run: nothing is known of the {'artifact' if total == 1 else counted(total, 'artifact')}"
    return f"Not run in full: {verdicts[PASSED]} of {total} artifacts passed, {verdicts[NOT_RUN]} did not run"


def _sentence(subject: dict[str, Any]) -> str:
    rows = subject["rows"]
    if subject["verdict"] == NOT_RUN:
        return f"{subject['remark'] or 'no reason was recorded'}. Nothing is known of its numbers."
    worst = by_severity(rows)[0]
    failed = sum(row["verdict"] == FAILED for row in rows)
    cases = counted(len({row["case"] for row in rows}), "case")
    compared = f"{counted(len(rows), 'comparison')} in {cases}"
    where = f"{worst['output']}, {worst['case']}"
    if failed:
        why = f" ({worst['remark']})" if worst["remark"] else ""
        words = f"{failed} of {compared} failed. Worst: relative L2 {scientific(worst['relative_l2'])}{why} in {where}"
        words += f", where {bound(worst['tolerance'])} is the most that passes."
    else:
        words = f"{compared}. Nearest to its tolerance: relative L2 {scientific(worst['relative_l2'])}, "
        words += f"{of_tolerance(worst)} of {bound(worst['tolerance'])}, in {where}."
    changed = (subject["repeated"] or {"changed": []})["changed"]
    if changed:
        words += f" Run again, {counted(len(changed), 'case')} gave other bits."
    if subject["left_out"]:
        words += f" {counted(subject['left_out'], 'case')} left out: outside of what it was built for."
    return words


def _figure_section(subjects: list[dict[str, Any]]) -> Markup:
    names = list(dict.fromkeys(name for subject in subjects for name in _least(subject)))
    numeric = ("worst relative L2", "tolerance", "of tolerance", "comparisons", "cases left out")
    shares = tuple(f"least {name}" for name in names)
    columns = ("artifact", "verdict", *numeric, *shares, "run again", "seconds")
    rows = [
        [
            subject["subject"],
            verdict_mark(subject["verdict"]),
            *_numbers(subject),
            *(_share(subject, name) for name in names),
            _again(subject),
            f"{subject['seconds']:.1f}" if subject["rows"] else "",
        ]
        for subject in subjects
    ]
    changed = [
        folded(
            f"Other bits when run again: {counted(len(again['changed']), 'case')} of {subject['subject']}",
            element("ul", *(element("li", name) for name in again["changed"]), css="names"),
        )
        for subject in subjects
        if (again := subject["repeated"]) and again["changed"]
    ]
    parts = [table("figures of each artifact", columns, rows, (*numeric, *shares, "seconds"), "reflow"), *changed]
    if names:
        parts.append(element("p", "Shares of the task are the least over all cases; they are reported, not judged."))
    return section("figures", "Figures", *parts)


def _numbers(subject: dict[str, Any]) -> list[Content]:
    if not subject["rows"]:
        return ["", "", "", "0", ""]
    worst = by_severity(subject["rows"])[0]
    return [
        scientific(worst["relative_l2"]),
        bound(worst["tolerance"]),
        of_tolerance(worst),
        f"{len(subject['rows']):,}",
        str(subject["left_out"]),
    ]


def _least(subject: dict[str, Any]) -> dict[str, float]:
    """The least of every figure of the task over the cases."""
    least: dict[str, float] = {}
    for entry in subject["figures"]:
        for name, value in entry["figures"].items():
            least[name] = min(value, least.get(name, value))
    return least


def _share(subject: dict[str, Any], name: str) -> str:
    value = _least(subject).get(name)
    return "" if value is None else f"{value:.4f}"


def _again(subject: dict[str, Any]) -> str:
    again = subject["repeated"]
    if not again:
        return "not asked for" if subject["rows"] else ""
    if again["changed"]:
        return f"{again['times']} runs, other bits in {counted(len(again['changed']), 'case')}"
    return f"{again['times']} runs, the same bits"


def _divergence_section(found: dict[str, Any] | None) -> Content:
    if found is None:
        return ""
    one, other = found["sides"]
    sides = element(
        "p", "Compared: ", element("strong", one), " with ", element("strong", other), f"; {found['case']}."
    )
    if not found["found"]:
        words = f"Their outputs agree within {bound(found['band'])}: there is no divergence to find."
        return section("divergence", "First divergence", sides, element("p", words), _probes(found))
    place = "outside of the layers" if found["layer"] is None else f"in layer {found['layer']}"
    words = (
        f"They part {place}: the error rises from {scientific(found['error_before'])} to "
        f"{scientific(found['error_after'])} (relative L2), where values within {bound(found['band'])} count as "
        f"the same. Between the two cuts {'lies' if len(found['nodes']) == 1 else 'lie'} "
        f"{counted(len(found['nodes']), 'node')}:"
    )
    nodes = element("ul", *(element("li", code(node)) for node in found["nodes"]))
    return section("divergence", "First divergence", sides, element("p", words), nodes, _probes(found))


def _probes(found: dict[str, Any]) -> Content:
    rows = [
        [
            str(probe["cut"]),
            scientific(probe["worst"]),
            "within the band" if probe["clean"] else "out of the band",
            join((code(name) for name in probe["values"]), " "),
        ]
        for probe in found["probes"]
    ]
    if not rows:
        return element("p", f"Each side ran {counted(found['runs'], 'time')}.")
    label = "steps of the search"
    steps = table(label, ("cut", "worst relative L2", "found", "values on the cut"), rows, ("cut", "worst relative L2"))
    return folded(f"The search: {counted(len(rows), 'step')}, each side ran {counted(found['runs'], 'time')}", steps)
