"""What does a CI server read? `junit.xml`: one test case a cell, its verdicts and counts as properties."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from harness.report.model import CellView, Report

# Characters that XML 1.0 has no form for, not even as references.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report) -> str:
    """The content of junit.xml. UNKNOWN is a failure of type "unknown", and says so; it is never a pass."""
    root = Xml.Element("testsuites", name="assay")
    suite = Xml.SubElement(
        root,
        "testsuite",
        name=_clean(report.session.session),
        timestamp=_clean(report.session.started),
        tests=str(len(report.cells)),
        failures=str(sum(_word(view) in ("violated", "unknown") for view in report.cells)),
        errors=str(sum(_word(view) == "error" for view in report.cells)),
        skipped=str(sum(_word(view) == "skipped" for view in report.cells)),
    )
    properties = Xml.SubElement(suite, "properties")
    _property(properties, "assay.seed", report.session.seed)
    _property(properties, "assay.version", report.session.assay)
    _property(properties, "assay.engine", report.session.engine)
    _property(properties, "assay.headline", report.headline)
    for view in report.cells:
        _case(suite, view)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _case(suite: Xml.Element, view: CellView) -> None:
    ran = view.ran
    case = Xml.SubElement(
        suite,
        "testcase",
        classname=_clean(view.cell.test.split("[")[0] or view.cell.configuration),
        name=_clean(view.cell.id),
        time=f"{view.cell.wall_s:.3f}",
    )
    properties = Xml.SubElement(case, "properties")
    _property(properties, "configuration", view.cell.configuration)
    _property(properties, "fault", view.cell.fault)
    _property(properties, "grade", view.grade)
    _property(properties, "observed", view.observed)
    _property(properties, "run", view.cell.run or "")
    _property(properties, "reproduce", view.command)
    if ran is not None:
        _property(properties, "seed", ran.terms.seed)
        for name, verdict in ran.verdicts.items():
            _property(properties, f"verdict.{name}", verdict.status)
        for name, count in ran.counts.items():
            _property(properties, f"count.{name}", count)
    word = _word(view)
    if word == "skipped":
        Xml.SubElement(case, "skipped", message=_clean(view.reason))
    elif word == "error":
        Xml.SubElement(case, "error", message=_clean(view.headline), type="trouble").text = _clean(view.reason)
    elif word != "passed":
        text = "\n".join([view.cell.message or view.headline, f"again: {view.command}"])
        Xml.SubElement(case, "failure", message=_clean(view.headline), type=word).text = _clean(text)


def _word(view: CellView) -> str:
    """How a CI server shall count it. What the session itself counted as failed is not made a pass here."""
    if view.cell.status == "not-run" and view.ran is None:
        return "skipped"
    if view.grade == "violated" or view.cell.outcome == "failed":
        return "violated"
    if view.cell.status == "error" or view.cell.outcome == "error" or view.ran is None:
        return "error"
    return "unknown" if view.grade == "unknown" or view.cell.outcome == "unknown" else "passed"


def _property(parent: Xml.Element, name: str, value: object) -> None:
    Xml.SubElement(parent, "property", name=name, value=_clean(str(value)))


def _clean(text: str) -> str:
    return _IMPOSSIBLE.sub("\N{REPLACEMENT CHARACTER}", text)
