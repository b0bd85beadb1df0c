"""Models in PMML: documents as R's, KNIME's and Java's exporters write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matrix import Case, Source
from pmml_text import document, ensemble, schema, tree, tree_model

CITIES = ("Bern", "Sankt Gallen", "Zürich")
ANSWERS = ("no", "yes")


def _write(make: Callable[[], str]) -> Callable[[Path], Source]:
    def made(folder: Path) -> Source:
        path = folder / "model.pmml"
        path.write_text(make(), encoding="utf-8")
        return Source(path)

    return made


def linear() -> str:
    """Return a linear regression of R: numbers, powers, interactions, a factor."""
    body = f"""<RegressionModel functionName="regression" modelName="lm" targetFieldName="rent">
    {schema("rent", "rooms", "area", "city")}
    <RegressionTable intercept="310.25">
    <NumericPredictor name="rooms" coefficient="92.5"/>
    <NumericPredictor name="area" exponent="2" coefficient="-0.0125"/>
    <NumericPredictor name="area" coefficient="14.25"/>
    <CategoricalPredictor name="city" value="Bern" coefficient="0"/>
    <CategoricalPredictor name="city" value="Sankt Gallen" coefficient="-150.5"/>
    <CategoricalPredictor name="city" value="Zürich" coefficient="420.75"/>
    <PredictorTerm coefficient="0.5"><FieldRef field="rooms"/><FieldRef field="area"/>
    </PredictorTerm></RegressionTable></RegressionModel>"""
    fields = {"rent": "double", "rooms": "integer", "area": "double", "city": CITIES}
    return document(fields, body)


TRANSFORMATIONS = """
<DefineFunction name="doubled" optype="continuous" dataType="double">
  <ParameterField name="x"/>
  <Apply function="*"><FieldRef field="x"/><Constant>2</Constant></Apply>
</DefineFunction>
<DerivedField name="age_z" optype="continuous" dataType="double">
  <NormContinuous field="age"><LinearNorm orig="20" norm="-1"/><LinearNorm orig="60" norm="1"/>
  </NormContinuous></DerivedField>
<DerivedField name="age_band" optype="categorical" dataType="string">
  <Discretize field="age">
    <DiscretizeBin binValue="young"><Interval closure="openOpen" rightMargin="30"/></DiscretizeBin>
    <DiscretizeBin binValue="middle"><Interval closure="closedOpen" leftMargin="30"
      rightMargin="55.5"/></DiscretizeBin>
    <DiscretizeBin binValue="old"><Interval closure="closedOpen" leftMargin="55.5"/></DiscretizeBin>
  </Discretize></DerivedField>
<DerivedField name="height" optype="continuous" dataType="double">
  <MapValues outputColumn="metres" defaultValue="450" dataType="double">
    <FieldColumnPair field="city" column="city"/>
    <InlineTable><row><city>Bern</city><metres>540</metres></row>
    <row><city>Sankt Gallen</city><metres>670.5</metres></row></InlineTable>
  </MapValues></DerivedField>
<DerivedField name="log_income" optype="continuous" dataType="double">
  <Apply function="if">
    <Apply function="greaterThan"><FieldRef field="income"/><Constant>1</Constant></Apply>
    <Apply function="ln"><FieldRef field="income"/></Apply>
    <Constant>0</Constant>
  </Apply></DerivedField>
<DerivedField name="twice" optype="continuous" dataType="double">
  <Apply function="doubled"><FieldRef field="log_income"/></Apply></DerivedField>
"""


def multinomial() -> str:
    """Return a softmax regression behind a transformation dictionary."""
    tables = []
    for name, b, z, h, w, young in (
        ("bus", 0.25, 0.75, 0.001, -0.125, 0.5),
        ("bike", -0.5, -1.25, -0.002, 0.0625, 1.0),
        ("car", 0, 0, 0, 0, 0),
    ):
        tables.append(f"""<RegressionTable intercept="{b}" targetCategory="{name}">
        <NumericPredictor name="age_z" coefficient="{z}"/>
        <NumericPredictor name="height" coefficient="{h}"/>
        <NumericPredictor name="twice" coefficient="{w}"/>
        <CategoricalPredictor name="age_band" value="young" coefficient="{young}"/>
        </RegressionTable>""")
    body = f"""<RegressionModel functionName="classification" normalizationMethod="softmax">
    {schema("way", "age", "income", "city", age="41.5", city="Bern")}{"".join(tables)}
    </RegressionModel>"""
    ways = ("bike", "bus", "car")
    fields = {"way": ways, "age": "double", "income": "double", "city": CITIES}
    return document(fields, body, TRANSFORMATIONS)


def logistic() -> str:
    """Return a binomial ``glm`` of R with a factor and an interaction."""
    body = f"""<GeneralRegressionModel modelType="generalizedLinear" functionName="classification"
      algorithmName="glm" distribution="binomial" linkFunction="logit">
    {schema("ill", "dose", "city")}
    <ParameterList><Parameter name="p0" label="(Intercept)"/><Parameter name="p1" label="dose"/>
      <Parameter name="p2" label="cityZ"/><Parameter name="p3" label="dose:cityZ"/></ParameterList>
    <FactorList><Predictor name="city"/></FactorList>
    <CovariateList><Predictor name="dose"/></CovariateList>
    <PPMatrix><PPCell value="1" predictorName="dose" parameterName="p1"/>
      <PPCell value="Zürich" predictorName="city" parameterName="p2"/>
      <PPCell value="1" predictorName="dose" parameterName="p3"/>
      <PPCell value="Zürich" predictorName="city" parameterName="p3"/></PPMatrix>
    <ParamMatrix><PCell targetCategory="yes" parameterName="p0" df="1" beta="-0.75"/>
      <PCell targetCategory="yes" parameterName="p1" df="1" beta="1.5"/>
      <PCell targetCategory="yes" parameterName="p2" df="1" beta="0.375"/>
      <PCell targetCategory="yes" parameterName="p3" df="1" beta="-0.5"/></ParamMatrix>
    </GeneralRegressionModel>"""
    return document({"ill": ANSWERS, "dose": "double", "city": CITIES}, body)


def decision_tree() -> str:
    """Return a tree of R's rpart: surrogates, sets, a default child, distributions."""
    nodes = """<Node id="1" score="no" recordCount="100" defaultChild="3"><True/>
      <ScoreDistribution value="no" recordCount="60" confidence="0.6"/>
      <ScoreDistribution value="yes" recordCount="40" confidence="0.4"/>
      <Node id="2" score="no" recordCount="50" defaultChild="4">
        <CompoundPredicate booleanOperator="surrogate">
          <SimplePredicate field="age" operator="lessThan" value="40.25"/>
          <SimplePredicate field="income" operator="lessThan" value="52.5"/></CompoundPredicate>
        <ScoreDistribution value="no" recordCount="45"/>
        <ScoreDistribution value="yes" recordCount="5"/>
        <Node id="4" score="no" recordCount="30">
          <SimpleSetPredicate field="city" booleanOperator="isIn">
            <Array n="2" type="string">Bern "Sankt Gallen"</Array></SimpleSetPredicate>
          <ScoreDistribution value="no" recordCount="29"/>
          <ScoreDistribution value="yes" recordCount="1"/></Node>
        <Node id="5" score="yes" recordCount="20">
          <SimpleSetPredicate field="city" booleanOperator="isIn">
            <Array n="1" type="string">"Zürich"</Array></SimpleSetPredicate>
          <ScoreDistribution value="no" recordCount="10"/>
          <ScoreDistribution value="yes" recordCount="10"/></Node></Node>
      <Node id="3" score="yes" recordCount="50">
        <CompoundPredicate booleanOperator="surrogate">
          <SimplePredicate field="age" operator="greaterOrEqual" value="40.25"/>
          <SimplePredicate field="income" operator="greaterOrEqual" value="52.5"/>
        </CompoundPredicate>
        <ScoreDistribution value="no" recordCount="15"/>
        <ScoreDistribution value="yes" recordCount="35"/></Node></Node>"""
    inner = schema("buys", "age", "income", "city")
    body = tree_model(
        nodes, inner, "classification", missingValueStrategy="defaultChild", modelName="rpart"
    )
    return document(
        {"buys": ANSWERS, "age": "double", "income": "double", "city": CITIES}, body, version="4.2"
    )


NAMES = ("Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width")
SPECIES = ("setosa", "versicolor", "virginica")


def random_forest() -> str:
    """Return a random forest that votes, as R's randomForest does."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    features, labels = load_iris(return_X_y=True)
    model = RandomForestClassifier(20, max_depth=5, random_state=0).fit(features, labels)
    inner = schema("Species", *NAMES)
    trees = [
        tree_model(tree(t, NAMES, classes=SPECIES), inner, "classification")
        for t in model.estimators_
    ]
    body = ensemble(trees, inner, "classification", "majorityVote")
    return document({"Species": SPECIES, **dict.fromkeys(NAMES, "double")}, body)


def boosted_trees() -> str:
    """Return gradient boosting as JPMML writes it: a sum of trees, then a logistic regression."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    features, labels = load_breast_cancer(return_X_y=True)
    features = features[:, :6]
    names = [f"x{number}" for number in range(6)]
    model = GradientBoostingClassifier(n_estimators=25, random_state=0).fit(features, labels)
    trees = [
        tree_model(tree(t, names), schema("", *names), "regression") for (t,) in model.estimators_
    ]
    output = """<Output><OutputField name="score" optype="continuous" dataType="double"
      feature="predictedValue"/></Output><Targets><Target rescaleFactor="0.1"
      rescaleConstant="0.521"/></Targets>"""
    total = ensemble(trees, schema("", *names), "regression", "sum", output)
    last = f"""<RegressionModel functionName="classification" normalizationMethod="logit">
    {schema("benign", "score")}<RegressionTable intercept="0" targetCategory="1">
    <NumericPredictor name="score" coefficient="1"/></RegressionTable>
    <RegressionTable intercept="0" targetCategory="0"/></RegressionModel>"""
    body = ensemble([total, last], schema("benign", *names), "classification", "modelChain")
    return document({"benign": ("0", "1"), **dict.fromkeys(names, "double")}, body)


def scorecard() -> str:
    """Return a scorecard for credits, with a score for missing values."""
    body = f"""<Scorecard functionName="regression" initialScore="120" useReasonCodes="false">
    {schema("score", "age", "income", "city")}
    <Characteristics><Characteristic name="age_score">
      <Attribute partialScore="-5"><SimplePredicate field="age" operator="isMissing"/></Attribute>
      <Attribute partialScore="10.5"><SimplePredicate field="age" operator="lessThan" value="25"/>
      </Attribute>
      <Attribute partialScore="32"><CompoundPredicate booleanOperator="and">
        <SimplePredicate field="age" operator="greaterOrEqual" value="25"/>
        <SimplePredicate field="age" operator="lessThan" value="60"/></CompoundPredicate>
      </Attribute>
      <Attribute partialScore="21"><True/></Attribute></Characteristic>
    <Characteristic name="income_score">
      <Attribute partialScore="0"><SimplePredicate field="income" operator="lessOrEqual"
        value="1500"/></Attribute>
      <Attribute partialScore="44.25"><SimplePredicate field="income" operator="greaterThan"
        value="1500"/></Attribute></Characteristic>
    <Characteristic name="city_score">
      <Attribute partialScore="7"><SimpleSetPredicate field="city" booleanOperator="isIn">
        <Array n="2" type="string">Bern "Zürich"</Array></SimpleSetPredicate></Attribute>
      <Attribute partialScore="3"><True/></Attribute></Characteristic></Characteristics>
    </Scorecard>"""
    fields = {"score": "double", "age": "double", "income": "double", "city": CITIES}
    return document(fields, body)


def neural_network() -> str:
    """Return a network of scikit-learn with scaled inputs, as R's nnet is written."""
    from sklearn.datasets import load_iris
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import MinMaxScaler

    features, labels = load_iris(return_X_y=True)
    scaler = MinMaxScaler().fit(features)
    model = MLPClassifier((8,), activation="tanh", max_iter=400, random_state=0)
    model.fit(scaler.transform(features), labels)
    inputs = "".join(
        f'<NeuralInput id="0,{n}"><DerivedField optype="continuous" dataType="double">'
        f'<NormContinuous field="{name}"><LinearNorm orig="{low!r}" norm="0"/>'
        f'<LinearNorm orig="{high!r}" norm="1"/></NormContinuous></DerivedField></NeuralInput>'
        for n, (name, low, high) in enumerate(
            zip(NAMES, scaler.data_min_.tolist(), scaler.data_max_.tolist(), strict=True)
        )
    )
    layers = ""
    for depth, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        neurons = ""
        for number in range(weights.shape[1]):
            wires = "".join(
                f'<Con from="{depth - 1},{i}" weight="{float(w)!r}"/>'
                for i, w in enumerate(weights[:, number])
            )
            neurons += (
                f'<Neuron id="{depth},{number}" bias="{float(bias[number])!r}">{wires}</Neuron>'
            )
        last = ' activationFunction="identity" normalizationMethod="softmax"' if depth == 2 else ""
        layers += f"<NeuralLayer{last}>{neurons}</NeuralLayer>"
    outputs = "".join(
        f'<NeuralOutput outputNeuron="2,{n}"><DerivedField optype="categorical" dataType="string">'
        f'<NormDiscrete field="Species" value="{name}"/></DerivedField></NeuralOutput>'
        for n, name in enumerate(SPECIES)
    )
    body = f"""<NeuralNetwork functionName="classification" activationFunction="tanh">
    {schema("Species", *NAMES)}<NeuralInputs>{inputs}</NeuralInputs>{layers}
    <NeuralOutputs>{outputs}</NeuralOutputs></NeuralNetwork>"""
    return document({"Species": SPECIES, **dict.fromkeys(NAMES, "double")}, body)


SKLEARN = ("sklearn",)
CASES = (
    Case("pmml_linear", "pmml", "linear regression", _write(linear)),
    Case("pmml_multinomial", "pmml", "regression with transformations", _write(multinomial)),
    Case("pmml_logistic", "pmml", "generalised linear model", _write(logistic)),
    Case("pmml_tree", "pmml", "decision tree with surrogates", _write(decision_tree)),
    Case("pmml_random_forest", "pmml", "random forest", _write(random_forest), needs=SKLEARN),
    Case("pmml_boosted_trees", "pmml", "gradient boosting", _write(boosted_trees), needs=SKLEARN),
    Case("pmml_scorecard", "pmml", "scorecard", _write(scorecard)),
    Case("pmml_neural_network", "pmml", "neural network", _write(neural_network), needs=SKLEARN),
)
