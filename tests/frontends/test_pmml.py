"""PMML: what the evaluator computes, what the converter makes of it, what is refused."""

from __future__ import annotations

import math
import random
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cases_pmml
import numpy as np
import pytest
from pmml_text import document, ensemble, schema, tree_model
from support import check_refused, run_cli

import mlopsc
from mlopsc.errors import ConversionError, DivergenceError, MlopscError, SourceError
from mlopsc.frontends import pmml as frontend
from mlopsc.frontends import recognise
from mlopsc.frontends.base import LoadOptions, RawInput
from mlopsc.frontends.pmml.element import read_document
from mlopsc.frontends.pmml.evaluate import Answer, Evaluator
from mlopsc.frontends.rounding import above, below

pytestmark = pytest.mark.framework("defusedxml")
PLAIN = (
    cases_pmml.linear, cases_pmml.multinomial, cases_pmml.logistic, cases_pmml.decision_tree,
    cases_pmml.scorecard,
)  # fmt: skip
XY = {"y": "double", "x": "double"}


def write(folder: Path, text: str) -> Path:
    path = folder / "model.pmml"
    path.write_text(text, encoding="utf-8")
    return path


def evaluate(folder: Path, text: str, **given: Any) -> Answer:
    return Evaluator(read_document(write(folder, text))).predict(given)


def regression(table: str, active: str = "x") -> str:
    return f"""<RegressionModel functionName="regression">{schema("y", active)}
    <RegressionTable intercept="1">{table}</RegressionTable></RegressionModel>"""


SPLIT = """<Node><True/><Node score="1"><SimplePredicate field="x" operator="{}" value="{}"/></Node>
<Node score="2"><SimplePredicate field="x" operator="{}" value="{}"/></Node></Node>"""


# By hand, from the text of the standard.
@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        (cases_pmml.linear, {"rooms": 3.0, "area": 80.0, "city": "Bern"}, 1767.75),
        (cases_pmml.linear, {"rooms": 1.0, "area": 0.0, "city": "Zürich"}, 823.5),
        (cases_pmml.linear, {"rooms": 1.0, "area": 0.0, "city": "Paris"}, 402.75),
        (cases_pmml.scorecard, {"age": 30.0, "income": 2000.0, "city": "Bern"}, 203.25),
        (cases_pmml.scorecard, {"age": None, "income": 1500.0, "city": "Paris"}, 118.0),
        (cases_pmml.decision_tree, {"age": 30.0, "income": 1.0, "city": "Bern"}, "no"),
        (cases_pmml.decision_tree, {"age": None, "income": 60.0, "city": "Bern"}, "yes"),
        (cases_pmml.decision_tree, {"age": None, "income": None, "city": "Bern"}, "yes"),
        (cases_pmml.decision_tree, {"age": 30.0, "income": 1.0, "city": None}, "no"),
        (cases_pmml.logistic, {"dose": 0.25, "city": "Zürich"}, "no"),
        (cases_pmml.logistic, {"dose": 0.5, "city": "Zürich"}, "yes"),
    ],
)
def test_evaluator(text: Any, given: Mapping[str, Any], expected: Any, tmp_path: Path) -> None:
    found = evaluate(tmp_path, text(), **given).value
    if isinstance(expected, float):
        assert found == pytest.approx(expected)
    else:
        assert found == expected


@pytest.mark.parametrize("make", PLAIN, ids=lambda make: make.__name__)
def test_models_agree_with_the_evaluator(make: Any, tmp_path: Path) -> None:
    made = mlopsc.import_model(write(tmp_path, make()), tmp_path / "m.mlb")
    check = made.manifest.framework
    assert check is not None
    assert check.compared
    assert check.relative_to_max < 1e-5
    assert check.written_by == "Tests 1.0"
    assert ("texts of 'city' looked up" in check.preprocessing) == (len(made.stages) == 2)
    whole = mlopsc.import_model(tmp_path / "model.pmml", tmp_path / "w.mlb", split=False)
    assert len(whole.stages) == 1


def test_thresholds_in_double_precision_decide_alike(tmp_path: Path) -> None:
    for limit in (0.1, -0.1, 2.45, 1e-50, 1e300, -1e300, 0.0, 16777217.0):
        assert below(limit) <= limit <= above(limit) or abs(limit) > 1e38
    for operator, other in (
        ("lessThan", "greaterOrEqual"),
        ("lessOrEqual", "greaterThan"),
        ("greaterThan", "lessOrEqual"),
        ("greaterOrEqual", "lessThan"),
    ):
        nodes = SPLIT.format(operator, 0.1, other, 0.1)
        body = tree_model(nodes, schema("y", "x"), "regression")
        near = np.float32(0.1)
        for x in (np.nextafter(near, np.float32(0)), near, np.nextafter(near, np.float32(1))):
            theirs, mine = both(tmp_path, document(XY, body), x=float(x))
            assert theirs == mine


def both(folder: Path, text: str, **given: float) -> tuple[Any, Any]:
    """Return what the original and the exported graph give for numbers, as lists."""
    import onnxruntime as ort

    original = frontend.load(write(folder, text), LoadOptions())
    with tempfile.TemporaryDirectory() as name:
        done = original.export(Path(name), LoadOptions(split=False))
        session = ort.InferenceSession(done.model.read_bytes())
    inputs = {n: np.array([[x]], np.float32) for n, x in given.items()}
    theirs = original.run(inputs)
    mine = dict(zip(theirs, session.run(list(theirs), inputs), strict=True))
    return {n: v.tolist() for n, v in theirs.items()}, {n: v.tolist() for n, v in mine.items()}


@pytest.mark.parametrize("strategy", ["none", "nullPrediction", "lastPrediction", "defaultChild"])
@pytest.mark.parametrize("last", ["returnNullPrediction", "returnLastPrediction"])
@pytest.mark.parametrize("asks", [False, True])
def test_missing_values_of_trees(strategy: str, last: str, asks: bool, tmp_path: Path) -> None:
    third = '<Node id="d" score="5"><SimplePredicate field="x" operator="isMissing"/></Node>'
    nodes = f"""<Node score="9" id="a" defaultChild="c"><True/>
    <Node score="1" id="b"><SimplePredicate field="x" operator="lessThan" value="0"/></Node>
    <Node score="2" id="c"><SimplePredicate field="x" operator="greaterThan" value="4"/></Node>
    {third if asks else ""}</Node>"""
    options = {"missingValueStrategy": strategy, "noTrueChildStrategy": last}
    body = tree_model(nodes, schema("y", "x"), "regression", **options)
    for x in (-1.0, 2.0, 5.0, math.nan):
        theirs, mine = both(tmp_path, document(XY, body), x=x)
        assert str(theirs) == str(mine)
    expected = {"defaultChild": 2.0, "lastPrediction": 9.0, "nullPrediction": math.nan}
    otherwise = 5.0 if asks else 9.0 if last == "returnLastPrediction" else math.nan
    assert str(mine["y"]) == str([[expected.get(strategy, otherwise)]])


@pytest.mark.parametrize("last", ["returnNullPrediction", "returnLastPrediction"])
def test_missing_value_has_no_result_where_two_ways_exclude_each_other(
    last: str, tmp_path: Path
) -> None:
    nodes = SPLIT.format("lessThan", 0, "greaterOrEqual", 0)
    options = {"missingValueStrategy": "nullPrediction", "noTrueChildStrategy": last}
    body = tree_model(nodes, schema("y", "x"), "regression", **options)
    theirs, mine = both(tmp_path, document(XY, body), x=math.nan)
    assert str(theirs) == str(mine) == str({"y": [[math.nan]]})


@pytest.mark.parametrize(
    "method", ["sum", "average", "weightedAverage", "max", "median", "selectFirst", "weightedSum"]
)
def test_numbers_are_combined(method: str, tmp_path: Path) -> None:
    models = [regression(f'<NumericPredictor name="x" coefficient="{c}"/>') for c in (2, -1, 5)]
    body = ensemble(models, schema("y", "x"), "regression", method)
    body = body.replace('<Segment id="2">', '<Segment id="2" weight="3">')
    theirs, mine = both(tmp_path, document(XY, body), x=1.5)
    assert mine["y"][0][0] == pytest.approx(theirs["y"][0][0])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ('"min"><FieldRef field="x"/><Constant>2</Constant>', 2.0),
        ('"avg"><FieldRef field="x"/><Constant>2</Constant>', 2.75),
        ('"pow"><FieldRef field="x"/><Constant>2</Constant>', 12.25),
        ('"log10"><FieldRef field="x"/>', math.log10(3.5)),
        ('"round"><FieldRef field="x"/>', 4.0),
        ('"isIn"><FieldRef field="x"/><Constant>1</Constant><Constant>3.5</Constant>', 1.0),
        ('"and"><FieldRef field="x"/><Constant>0</Constant>', 0.0),
        ('"if"><Constant>0</Constant><FieldRef field="x"/><Constant>7</Constant>', 7.0),
        ('"threshold"><FieldRef field="x"/><Constant>3</Constant>', 1.0),
        ('"-"><FieldRef field="x"/>', -3.5),
    ],
)
def test_functions(function: str, expected: float, tmp_path: Path) -> None:
    derived = f"""<DerivedField name="z" optype="continuous" dataType="double">
    <Apply function={function}</Apply></DerivedField>"""
    both_fields = '<NumericPredictor name="z" coefficient="1"/>'
    text = document(XY, regression(both_fields), derived)
    theirs, mine = both(tmp_path, text, x=3.5)
    assert theirs["y"][0][0] == pytest.approx(expected + 1)
    assert mine["y"][0][0] == pytest.approx(expected + 1, rel=1e-6)


def test_a_wrong_graph_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, cases_pmml.scorecard())
    original = frontend.load(path, LoadOptions())
    wrong = cases_pmml.scorecard().replace('partialScore="32"', 'partialScore="33"')
    other = read_document(write(tmp_path, wrong))
    monkeypatch.setattr(original, "_document", other)
    monkeypatch.setattr(frontend, "Evaluator", lambda _: Evaluator(read_document(path)))
    write(tmp_path, cases_pmml.scorecard())
    monkeypatch.setattr(frontend, "wrap", lambda *_: original)
    with pytest.raises(DivergenceError, match="score"):
        mlopsc.import_model(original, tmp_path / "m.mlb")


def calling(*pairs: tuple[str, str]) -> str:
    """Return functions: each adds two calls of another; the field ``z`` calls the last."""
    call = '<Apply function="{0}"><FieldRef field="{1}"/></Apply>'
    functions = "".join(
        f'<DefineFunction name="{name}" optype="continuous"><ParameterField name="a"/>'
        f'<Apply function="+">{call.format(called, "a") * 2}</Apply></DefineFunction>'
        for name, called in pairs
    )
    last = call.format(pairs[-1][0], "x")
    derived = f'<DerivedField name="z" optype="continuous" dataType="double">{last}</DerivedField>'
    body = regression('<NumericPredictor name="z" coefficient="2"/>')
    return document(XY, body, functions + derived)


def test_functions_may_call_each_other(tmp_path: Path) -> None:
    text = calling(("f0", "exp"), *((f"f{n + 1}", f"f{n}") for n in range(9)))
    theirs, mine = both(tmp_path, text, x=0.5)
    assert mine["y"][0][0] == pytest.approx(theirs["y"][0][0]) == 1 + 2 * 2**10 * math.exp(0.5)


RULES = """<RuleSetModel functionName="classification"><MiningSchema/></RuleSetModel>"""


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (document(XY, RULES), ConversionError, "RuleSetModel"),
        (document(XY, regression("<oops")), SourceError, "no well-formed XML"),
        (document(XY, regression('<NumericPredictor name="x"/>')), SourceError, "coefficient"),
        (
            document(XY, regression('<NumericPredictor name="x" coefficient="two"/>')),
            SourceError,
            "'two' where a number was expected",
        ),
        (
            document(XY, regression('<NumericPredictor name="q" coefficient="2"/>')),
            SourceError,
            "'q', which is declared nowhere",
        ),
        (
            document(
                XY,
                regression('<NumericPredictor name="z" coefficient="2"/>'),
                '<DerivedField name="z" optype="continuous" dataType="double">'
                '<FieldRef field="z"/></DerivedField>',
            ),
            SourceError,
            "derived from itself",
        ),
        (
            document(
                XY,
                regression('<NumericPredictor name="z" coefficient="2"/>'),
                '<DerivedField name="z" optype="continuous" dataType="double">'
                '<Apply function="x:erf"><FieldRef field="x"/></Apply></DerivedField>',
            ),
            ConversionError,
            "'x:erf'",
        ),
        (
            document(XY, regression('<NumericPredictor name="x" coefficient="2"/>')).replace(
                "<PMML", '<!DOCTYPE PMML [<!ENTITY a "b">]><PMML'
            ),
            SourceError,
            "document type",
        ),
        (
            document(XY, regression("<A>" * 200 + "</A>" * 200)),
            SourceError,
            "levels",
        ),
        (document(XY, ""), SourceError, "holds no model"),
        (calling(("f", "g"), ("g", "f")), ConversionError, "calls itself"),
        (
            calling(("f0", "exp"), *((f"f{n + 1}", f"f{n}") for n in range(40))),
            ConversionError,
            "more than 100,000 calls",
        ),
    ],
)  # fmt: skip
def test_refused(text: str, kind: type[MlopscError], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        both(tmp_path, text)


def test_refusals_reach_the_user(tmp_path: Path) -> None:
    path = write(tmp_path, document(XY, RULES))
    check_refused(run_cli("import", path, "-o", tmp_path / "m.mlb"), ConversionError, "RuleSet")


def test_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(cases_pmml.scorecard(), encoding=encoding)
        assert recognise(path).what == "PMML document of version 4.4, Scorecard"
    typed = '<!DOCTYPE PMML [<!ENTITY a "b">]><!-- a --><PMML version="3.2"><TreeModel >'
    path.write_text(f'<?xml version="1.0"?>\n{typed}')
    assert recognise(path).what == "PMML document of version 3.2, TreeModel"
    for hostile in ("<!---->" * 9000, "<PMML" * 12000, "<!--" * 15000):
        path.write_text(hostile)
        with pytest.raises(SourceError, match="nothing that a frontend recognises"):
            recognise(path)


@pytest.mark.slow
@pytest.mark.parametrize("make", PLAIN, ids=lambda make: make.__name__)
def test_mutants_give_errors(make: Any, tmp_path: Path) -> None:
    text, rng = make(), random.Random(1)  # noqa: S311 - mutants are no secrets
    words = ["", "NaN", "-1", "1e999", "none", "x", "<True/>", '"', ">", "city", "0", "isMissing"]
    for _ in range(150):
        at = rng.randrange(len(text))
        end = min(len(text), at + rng.choice([0, 1, 5, 30]))
        path = write(tmp_path, text[:at] + rng.choice(words) + text[end:])
        try:
            original = frontend.load(path, LoadOptions())
            with tempfile.TemporaryDirectory() as name:
                done = original.export(Path(name), LoadOptions(split=False))
            assert done.converter
            drawn = np.random.default_rng(0)
            inputs = [
                RawInput(n, "string" if d.kind == "text" else "float32", (1, 1))
                for n, d in original._converted.inputs.items()  # type: ignore[attr-defined]
            ]
            original.run(original.draw(drawn, inputs, last=False))
        except MlopscError:
            continue


@pytest.mark.slow
@pytest.mark.framework("jpmml_evaluator", "sklearn")
@pytest.mark.parametrize("case", cases_pmml.CASES, ids=lambda case: case.name)
def test_jpmml_computes_the_same(case: Any, tmp_path: Path) -> None:
    """The evaluator is ours; JPMML's, the standard's usual one, is another reading of the standard.

    It needs Java. Votes that are tied are decided by the order of the trees there.
    """
    from jpmml_evaluator import make_evaluator

    path = case.make(tmp_path).model
    original = frontend.load(path, LoadOptions())
    with tempfile.TemporaryDirectory() as name:
        original.export(Path(name), LoadOptions())
    fields = original._converted.inputs  # type: ignore[attr-defined]
    kinds = {n: "string" if d.kind == "text" else "float32" for n, d in fields.items()}
    jpmml, rng = make_evaluator(str(path)).verify(), np.random.default_rng(1)
    for _ in range(100):
        drawn = original.draw(rng, [RawInput(n, k, (1, 1)) for n, k in kinds.items()], last=False)
        given = {fields[n].name: _for_jpmml(v.item(), fields[n].integral) for n, v in drawn.items()}
        theirs = next(iter(jpmml.evaluate(given).values()))
        first, *others = original.run(drawn).values()
        if others:
            shares = np.sort(others[0].ravel())
            assert str(first.item()) == str(theirs) or shares[-1] == shares[-2]
        else:
            assert first.item() == pytest.approx(
                math.nan if theirs is None else theirs, nan_ok=True
            )


def _for_jpmml(value: Any, integral: bool) -> Any:
    if isinstance(value, str):
        return None if value == "?" else value
    return None if math.isnan(value) else int(value) if integral else float(value)


def test_tables_with_prefixed_columns(tmp_path: Path) -> None:
    """As JPMML writes the encoders of scikit-learn."""
    rows = "".join(
        f"<row><data:input>{city}</data:input><data:output>{number}</data:output></row>"
        for number, city in enumerate(cases_pmml.CITIES)
    )
    derived = f"""<DerivedField name="encoder(city)" optype="categorical" dataType="integer">
    <MapValues outputColumn="data:output" mapMissingTo="-1">
    <FieldColumnPair field="city" column="data:input"/>
    <InlineTable xmlns:data="http://jpmml.org/jpmml-model/InlineTable">{rows}</InlineTable>
    </MapValues></DerivedField>"""
    table = regression('<NumericPredictor name="encoder(city)" coefficient="10"/>', "city")
    text = document({"y": "double", "city": cases_pmml.CITIES}, table, derived)
    for city, expected in (("Bern", 1.0), ("Zürich", 21.0), (None, -9.0)):
        assert evaluate(tmp_path, text, city=city).value == expected
    made = mlopsc.import_model(write(tmp_path, text), tmp_path / "m.mlb")
    assert made.manifest.framework is not None
    assert made.manifest.framework.relative_to_max < 1e-6


def test_batches(tmp_path: Path) -> None:
    path = write(tmp_path, cases_pmml.multinomial())
    made = mlopsc.import_model(path, tmp_path / "m.mlb", bind={"batch": 3})
    assert made.manifest.framework is not None
    assert made.manifest.framework.relative_to_max < 1e-5
