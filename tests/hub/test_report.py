"""The report: what it collects from a real run, and what the page says in every case a run can end in."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import GateError, NotFoundError, RoundFailedError
from fedloom.hub.report import charts
from fedloom.hub.report.evidence import Failure
from fedloom.hub.report.report import Report, collect, render
from fedloom.hub.report.tables import curves, site_rows, traffic
from fedloom.hub.report.words import better_alone, policy, privacy, statements
from fedloom.local.federation import plan_local, run_local
from fedloom.pipeline.participation import Outcome, Verdict
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest
from fedloom.versions.repository import Repository
from tests import projects
from tests.hub.sample_reports import NUMBERS, crowd, sample, with_baselines

CANARY = '<img src="http://evil.example/x" onerror="alert(1)">'


class Page(HTMLParser):
    """Reads a page: every element by tag with its attributes, and the text inside."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.banner: list[str] = []
        self._hidden = self._in_banner = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden = self._hidden or tag == "style"
        self._in_banner = self._in_banner or dict(attrs).get("class") == "verdict"

    def handle_endtag(self, tag):
        self._hidden = self._hidden and tag != "style"
        self._in_banner = self._in_banner and tag != "ul"

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)
        if self._in_banner:
            self.banner.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def verdict(self) -> str:
        return " ".join(" ".join(self.banner).split())

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def page(report: Report) -> Page:
    return Page(render(report))


def cells(html: str, status: str) -> int:
    """Count the cells of one status in the grid, without the legend's one."""
    drawn = re.findall(rf'<path class="cell {status}" d="([^"]*)"', html)
    return sum(path.count("M") for path in drawn) - 1


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Three sites with made-up rows; one of them has few."""
    folder = tmp_path_factory.mktemp("project")
    random = np.random.default_rng(7)
    for site, rows in (("east", 80), ("north", 80), ("west", 24)):
        x = random.normal(size=(rows, 2))
        y = (x[:, 0] + random.normal(size=rows) > 0).astype(int)
        lines = ["a,b,y", *(f"{a:.4f},{b:.4f},{label}" for (a, b), label in zip(x, y, strict=True))]
        (folder / f"{site}.csv").write_text("\n".join(lines))
        (folder / f"{site}.yaml").write_text(f"source: {site}.csv\n")
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return folder


CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: made-up
version: 1.0.0
status: active
schema:
  - name: rows
    logicalType: object
    properties:
      - {name: a, logicalType: number}
      - {name: b, logicalType: number}
      - name: y
        logicalType: integer
        required: true
        customProperties: [{property: role, value: label}, {property: codes, value: [0, 1]}]
"""
PIPELINE = """\
name: made-up
purpose: Tell <b>ups</b> from downs.
contract: contract.yaml
sites: {east: east.yaml, north: north.yaml, west: west.yaml}
learner: {use: linear, kind: logistic}
rounds: 4
participation: {min_sites: 2, require: [east], deadline: 60s}
stages:
  contract:
  fit:
  train: {learning_rate: 0.1}
  evaluate: {baselines: [pooled, local]}
  gate: {require: [accuracy >= 0.5, participation == complete]}
  register: {}
"""


@pytest.fixture(scope="module")
def repository(project) -> Repository:
    """A complete run, then one that lost a site twice and was refused, then one that failed in round 2."""
    run_local(plan_local(project), emit=lambda _: None)
    lost = {2: Faults(drop=frozenset({"west"})), 3: Faults(delay={"west": 100.0})}
    with pytest.raises(GateError):
        run_local(plan_local(project), emit=lambda _: None, scenario=Scenario(lost))
    with pytest.raises(RoundFailedError):
        run_local(plan_local(project), emit=lambda _: None, scenario=Scenario({2: Faults(drop=frozenset({"east"}))}))
    return Repository.at(project)


def collected(repository: Repository, ref: str) -> Report:
    return collect(repository, Recorder(repository.store), repository.resolve(ref))


def test_a_complete_run_is_collected_whole(repository):
    """Rounds oldest first with figures and bytes, settings, lineage and the three statements about the commit."""
    report = collected(repository, "main")
    assert [one.number for one in report.rounds] == [1, 2, 3, 4]
    assert report.rounds[-1].commit == report.commit
    assert report.sites == ("east", "north", "west")
    assert all(set(one.sites) == set(report.sites) and one.pooled["rows"] for one in report.rounds)
    assert all(one.record and one.record.bytes_up > sum(one.record.site_bytes.values()) > 0 for one in report.rounds)
    assert report.settings["purpose"] == "Tell <b>ups</b> from downs."
    assert report.lineage.parents == (report.rounds[-2].commit,)
    assert repository.commit(report.lineage.root).kind == "import"
    assert set(report.lineage.sites) == set(report.sites)
    assert report.evaluation["pooled"]
    assert report.gate["passed"]
    assert report.closing["ref"] == "runs/1"


def test_the_contract_digest_is_the_files_own(repository, project):
    """An approver can compare it with `sha256sum contract.yaml`."""
    import hashlib

    assert (
        collected(repository, "main").lineage.contract
        == hashlib.sha256((project / "contract.yaml").read_bytes()).hexdigest()
    )


def test_a_complete_run_says_so(repository):
    """Both lines of the verdict are good, and every site's own figures stand in the page."""
    report = collected(repository, "main")
    assert [one.tone for one in statements(report)] == ["good", "good"]
    shown = page(report)
    assert shown.verdict == "Complete: 3 sites answered in all 4 rounds. Gate passed: all 2 rules hold."
    for figures in report.measured.values():
        assert f"{figures['accuracy']:.3f}" in shown.text
    assert "Nobody was missing." in shown.text


def test_a_partial_run_is_never_told_as_a_success(repository):
    """The verdict says how many rounds went on without whom, and holds no word of success."""
    shown = page(collected(repository, "runs/2"))
    assert shown.verdict.startswith("Partial: 2 of 4 rounds went on without west (2 rounds).")
    assert "Gate refused: 1 of 2 rules is broken" in shown.verdict
    assert not re.search(r"success|complete|passed", shown.verdict, re.IGNORECASE)
    assert "success" not in shown.text.lower()


def test_a_partial_runs_grid_and_reasons_agree(repository):
    """Twelve answers were asked for: ten came, one was late, one failed; each is listed with its reason."""
    html = render(collected(repository, "runs/2"))
    assert (cells(html, "answered"), cells(html, "late"), cells(html, "failed")) == (10, 1, 1)
    text = Page(html).text
    assert "west failed in round 2: connection lost" in text
    assert "west late in round 3: no answer within 60 s" in text
    assert "at least 2 sites answer, east must be among them. A site had 60 seconds to answer." in text


def test_an_attempt_that_failed_is_shown_on_the_commit_before_it(repository):
    """Nothing was committed for round 2 of the third run; its report still says that and why it was tried."""
    report = collected(repository, "runs/3")
    assert [one.number for one in report.rounds] == [1]
    assert [(one.number, one.verdict.status) for one in report.failures] == [(2, "failed")]
    shown = page(report)
    assert shown.verdict.startswith("Unfinished: no statement closes the run")
    assert "Complete" not in shown.verdict
    assert "Round 2, " in shown.text
    assert f"UTC: {report.failures[0].verdict.describe()}" in shown.text
    assert "connection lost" in report.failures[0].verdict.describe()


def test_the_root_of_a_run_has_a_report_too(repository):
    """No rounds and no figures: sentences instead of empty charts and tables."""
    report = collected(repository, "main")
    shown = page(collected(repository, report.lineage.root))
    assert "No rounds: this commit is not the result of federated rounds." in shown.verdict
    assert "This commit has no figures: nothing was measured for it." in shown.text
    assert not shown.having("svg", role="img")


def test_no_such_commit_is_an_error(repository):
    """A missing commit is refused, not reported as empty."""
    with pytest.raises(NotFoundError, match="missing"):
        collect(repository, Recorder(repository.store), Digest("0" * 64))


def test_the_same_commit_gives_the_same_bytes(repository):
    """Nothing in the page depends on when it was made."""
    assert render(collected(repository, "main")) == render(collected(repository, "main"))


def test_text_from_outside_is_escaped_everywhere():
    """A canary in every name, reason and setting appears as text only."""
    report = with_baselines(sample(2, 2, missing={(1, "site-01"): "failed"}))
    hostile = json.loads(json.dumps([one.verdict.as_json() for one in report.rounds]).replace("connection lost", "R"))
    verdict = Verdict(
        "partial-allowed", tuple(Outcome(f"{CANARY}{o['site']}", "failed", 0.5, CANARY) for o in hostile[0]["sites"])
    )
    rounds = tuple(replace(one, verdict=verdict, sites={CANARY: one.pooled}) for one in report.rounds)
    html = render(
        replace(
            report,
            message=CANARY,
            settings={"purpose": CANARY, "contract": CANARY},
            facts=report.facts
            | {"pipeline": CANARY, "learner": {"use": CANARY, CANARY: CANARY}, "codec": CANARY, "seed": CANARY}
            | {
                "privacy": {"mechanism": CANARY, "epsilon": None},
                "metrics": {"pooled": report.pooled, "sites": {CANARY: {"rows": 1}}},
            },
            lineage=replace(
                report.lineage, sites={CANARY: {"adapter": CANARY}}, code={CANARY: CANARY}, environment={"x": CANARY}
            ),
            rounds=rounds,
            failures=(Failure(3, verdict, CANARY),),
            gate={"passed": False, "rules": [{"rule": CANARY, "value": CANARY, "holds": False}]},
            closing={"ref": CANARY},
        )
    )
    assert "<img" not in html
    assert html.count("&lt;img") > 20
    assert {tag for tag, _ in Page(html).elements}.isdisjoint({"img", "script", "iframe", "object", "link", "base"})


@pytest.mark.parametrize(
    "report", [sample(3, 2), with_baselines(sample(3, 2)), crowd(15, 4)], ids=["plain", "compared", "crowd"]
)
def test_the_page_loads_and_runs_nothing(report):
    """No address to load, no script, no handler, no style attribute; its own policy forbids them too."""
    html = render(report)
    assert "http:" not in html
    assert "https:" not in html
    shown = Page(html)
    names = {name for _, attributes in shown.elements for name in attributes}
    assert names.isdisjoint({"src", "href", "style", "srcset", "action"})
    assert not [name for name in names if name.startswith("on")]
    assert not shown.having("script")
    (policy_,) = [found["content"] for found in shown.having("meta") if "http-equiv" in found]
    assert policy_.startswith("default-src 'none'; style-src 'sha256-")


def test_ids_are_unique_and_every_reference_has_its_target():
    """What is labelled by an id can be found, and only once."""
    shown = page(with_baselines(sample(4, 3)))
    ids = [found["id"] for _, found in shown.elements if "id" in found]
    assert len(ids) == len(set(ids))
    used = [name for _, found in shown.elements for name in (found.get("aria-labelledby") or "").split()]
    assert used
    assert set(used) <= set(ids)


def test_each_curve_has_a_point_per_round_and_a_line_per_site():
    """Three charts for a classifier; each holds four sites' lines and the heavy one, twelve points each."""
    drawn = curves(sample(4, 12))
    assert [label for label, _, _ in drawn] == ["Loss", "Accuracy", "AUC"]
    for _, _, picture in drawn:
        paths = re.findall(r'<path class="line [^"]+" d="M([^"]+)"', picture)
        assert [len(path.split("L")) for path in paths] == [12] * 5


def test_regression_is_shown_in_its_own_figures():
    """Loss, RMSE and R² instead of accuracy and AUC, and no standard error of an accuracy."""
    report = with_baselines(sample(3, 4, figures=NUMBERS))
    assert [label for label, _, _ in curves(report)] == ["Loss", "RMSE", "R²"]
    text = page(report).text
    assert "Accuracy" not in text
    assert "AUC" not in text
    assert "±" not in text
    assert "MAE" in text


def test_one_round_is_dots_not_lines():
    """A run of one round has nothing to connect."""
    report = sample(3, 1)
    for _, _, picture in curves(report):
        assert picture.count("<circle") == 4
        assert 'class="line' not in picture
    assert "3 sites answered in the only round." in page(report).verdict


def test_many_sites_are_grey_but_the_best_and_the_worst():
    """Of forty sites two are named beside the heavy line, and the grid keeps a cell for each of 8000 answers."""
    report = crowd()
    for _, _, picture in curves(report):
        assert picture.count('class="line quiet"') == 38
        assert picture.count('<text class="name') == 3
    html = render(report)
    assert cells(html, "answered") + cells(html, "late") + cells(html, "failed") == 40 * 200
    assert cells(html, "failed") >= 60
    assert len(html) < 1_000_000


def test_the_best_site_is_the_lowest_where_lower_is_better():
    """Blue is the best: highest accuracy, lowest loss."""
    values = {f"site-{number}": [0.5, number / 100] for number in range(20)}
    named = {line.style: line.name for line in charts.lines([0.5, 0.1], values, higher_is_better=False) if line.named}
    assert (named["s0"], named["s1"]) == ("site-0", "site-19")
    named = {line.style: line.name for line in charts.lines([0.5, 0.1], values, higher_is_better=True) if line.named}
    assert (named["s0"], named["s1"]) == ("site-19", "site-0")


def test_undefined_values_leave_a_gap():
    """A value that is None is not drawn as zero or joined over; one alone between gaps is a dot."""
    line = charts.Line("a", [0.1, 0.2, None, 0.3, None, 0.4, 0.5], "s0")
    picture = charts.line_chart("k", "t", range(1, 8), [line])
    (path,) = re.findall(r'class="line s0" d="([^"]+)"', picture)
    assert (path.count("M"), path.count("L")) == (2, 2)
    assert picture.count("<circle") == 1


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e9, 2e9], [-3.0, 1e-9], [0.8, 0.8000001], [5.0]])
def test_any_range_can_be_drawn(values):
    """Constant, huge, tiny and negative values all stay inside the picture."""
    picture = charts.line_chart("k", "t", range(1, len(values) + 1), [charts.Line("a", values, "s0")])
    heights = [float(y) for y in re.findall(r"[ML][0-9.]+ (-?[0-9.]+)", picture)]
    assert all(0 <= y <= 236 for y in heights)
    assert 2 <= picture.count('class="rule"') <= 7


@pytest.mark.parametrize("count", [1, 5, 13])
def test_names_beside_lines_never_touch(count):
    """However close the lines end, their names stand apart and inside the picture."""
    lines = [charts.Line(f"site-{at}", [0.5, 0.5 + at * 1e-4], "s0") for at in range(count)]
    picture = charts.line_chart("k", "t", [1, 2], [*lines, charts.Line("low", [0.0, 0.5], "s1")])
    bases = sorted(float(y) for y in re.findall(r'class="name s\d" x="[^"]+" y="([^"]+)"', picture))
    assert len(bases) == count + 1
    assert all(lower - upper >= 12.9 for upper, lower in pairwise(bases))
    assert bases[0] > 0
    assert bases[-1] < 220


def test_a_late_cell_differs_in_shape_and_not_only_in_colour():
    """A late answer is half as high as one in time or one that failed."""
    picture = charts.grid("g", "t", [1, 2, 3], {"a": ["answered", "late", "failed"]})
    heights = {name: float(high) for name, high in re.findall(r'class="cell (\w+)" d="M[^v]+v([0-9.]+)', picture)}
    assert heights == {"answered": 13.0, "late": 6.5, "failed": 13.0}


def test_a_grid_of_very_many_rounds_groups_them_and_keeps_the_worst():
    """Nine hundred rounds make 225 cells; the one failure among them is not lost."""
    status = ["answered"] * 900
    status[499] = "failed"
    picture = charts.grid("g", "t", range(1, 901), {"a": status})
    drawn = {name: path.count("M") for name, path in re.findall(r'class="cell (\w+)" d="([^"]+)"', picture)}
    assert drawn == {"answered": 224, "failed": 1}
    assert "a missing in 500" in picture


def test_sites_better_off_alone_are_told_in_words_with_their_doubt():
    """The judgement follows the evaluation, and a small site's is marked as possible chance."""
    rows = {row.name: row for row in site_rows(with_baselines(sample(2, 5), ("site-01",)))}
    assert rows["site-01"].judgement == "better off alone"
    assert rows["site-01"].difference == pytest.approx(-0.05)
    assert rows["site-02"].judgement == "better off together"
    assert rows["site-01"].cautions == ("few test rows", "within two standard errors")
    accuracy = rows["site-01"].federated["accuracy"]
    assert rows["site-01"].error == pytest.approx((accuracy * (1 - accuracy) / 20) ** 0.5)
    text = page(with_baselines(sample(2, 5), ("site-01",))).text
    assert (
        "By accuracy, 1 of 2 sites is better off alone: site-01. The difference is within two standard errors." in text
    )
    assert "By accuracy, no site is better off alone." in page(with_baselines(sample(2, 5))).text


def test_a_large_difference_at_a_large_site_carries_no_caution():
    """Cautions are for doubt only."""
    report = with_baselines(sample(1, 5))
    measured = {"site-01": dict(report.measured["site-01"]) | {"rows": 10_000}}
    report = replace(report, facts=report.facts | {"metrics": {"pooled": report.pooled, "sites": measured}})
    assert site_rows(report)[0].cautions == ()


def test_one_class_is_said_instead_of_an_auc():
    """Where a site's test rows are of one class its AUC is undefined, and no number stands there."""
    report = sample(2, 3)
    sites = {name: dict(found) | {"auc": None} for name, found in report.measured.items()}
    report = replace(report, facts=report.facts | {"metrics": {"pooled": report.pooled, "sites": sites}})
    text = page(report).text
    assert text.count("few test rows, one class") == 2
    assert all("one class" in row.cautions for row in site_rows(report))


def test_without_baselines_there_are_no_columns_for_them():
    """No empty columns, and a sentence says why nothing is compared."""
    plain, compared = page(sample(3, 2)), page(with_baselines(sample(3, 2)))
    assert "No comparison with baselines was stated about this commit." in plain.text
    assert "alone difference" in compared.text
    assert "alone difference" not in plain.text
    asked_for_none = page(replace(sample(3, 2), evaluation={"federated": {}}))
    assert "The pipeline asks for no baselines" in asked_for_none.text


def test_without_measuring_there_are_no_charts():
    """A pipeline that never evaluates gets a sentence, and still its participation grid."""
    report = replace(sample(3, 4, figures={}), settings={}, evaluation=None)
    report = replace(
        report, facts={"pipeline": "x"}, rounds=tuple(replace(one, pooled={}, sites={}) for one in report.rounds)
    )
    shown = page(report)
    assert "This commit has no figures: its pipeline has no evaluate stage." in shown.text
    assert len(shown.having("svg", role="img")) == 1


def test_a_site_that_was_not_measured_is_named():
    """Figures without a site say that they are."""
    report = sample(3, 2)
    fewer = {name: found for name, found in report.measured.items() if name != "site-02"}
    report = replace(report, facts=report.facts | {"metrics": {"pooled": report.pooled, "sites": fewer}})
    assert "Not measured: site-02. The figures hold without this site." in page(report).text


def test_bytes_are_summed_per_site_and_missing_records_are_said():
    """Each site's training replies add up; a round without a record is counted as not recorded."""
    report = sample(2, 3, missing={(2, "site-01"): "failed"})
    assert traffic(report) == {"site-01": (480, 2), "site-02": (720, 3)}
    assert "the sites sent 1.2 kB and received 1.5 kB" in page(report).text
    first, *others = report.rounds
    lacking = replace(report, rounds=(replace(first, record=None), *others))
    assert "Not recorded: 1 round, so the true sums are higher." in page(lacking).text
    none = replace(report, rounds=tuple(replace(one, record=None) for one in report.rounds))
    assert "Bytes and times were not recorded" in page(none).text


def test_privacy_is_told_plainly():
    """No noise means unbounded epsilon, and silence is not taken for protection."""
    assert privacy({"mechanism": "none", "epsilon": None}).startswith("No noise was added: epsilon is unbounded.")
    assert privacy(None).endswith("assume that none was.")
    assert (
        privacy({"mechanism": "gaussian", "epsilon": 2.5, "delta": 1e-5})
        == "Mechanism gaussian: epsilon is 2.5. delta 1e-05"
    )


def test_policy_is_told_in_a_sentence():
    """Without any field every site must answer."""
    assert policy({"min_sites": None, "require": [], "min_weight": None, "deadline": None}) == (
        "A round counts when every invited site answers."
    )
    assert policy({"min_weight": 0.75}) == "A round counts when sites with 75% of the rows answer."
    assert policy(None) == "The commit names no participation policy."


def test_rounds_that_say_nothing_are_unknown_not_complete():
    """A round without a verdict is doubt."""
    report = sample(2, 3)
    report = replace(report, rounds=(replace(report.rounds[0], verdict=None), *report.rounds[1:]))
    shown = page(report)
    assert "Unknown: 1 of 3 rounds do not say who took part." in shown.verdict
    assert "Complete" not in shown.verdict


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"verdict": Verdict("partial-allowed", (), "not measured everywhere (site-01 late (slow))")},
            "1 of 2 rounds was not",
        ),
        ({"verdict": Verdict("partial-allowed", ())}, "The model of 1 of 2 rounds was not measured at every site."),
    ],
)
def test_a_round_that_was_not_measured_everywhere_is_partial(changed, told):
    """Every contribution counted, and still the run is not told as complete."""
    report = sample(2, 2)
    report = replace(report, rounds=(replace(report.rounds[0], **changed), report.rounds[1]))
    shown = page(report)
    assert shown.verdict.startswith("Partial: ")
    assert told in shown.verdict
    assert "Complete" not in shown.verdict
    if changed["verdict"].reason:
        assert "In round 1: not measured everywhere (site-01 late (slow))" in shown.text


def test_preprocessing_fitted_without_a_site_is_partial():
    """All rounds were answered, but the scaling lacks a site's rows: the verdict and the reasons say so."""
    verdict = Verdict(
        "partial-allowed", (Outcome("site-02", "late", 0.5, "no answer"), Outcome("site-01", "answered", 0.5))
    )
    shown = page(replace(sample(2, 2), fitted=verdict))
    assert shown.verdict.startswith("Partial: The preprocessing was fitted without site-02.")
    assert "In fitting the preprocessing: site-02 late (no answer)" in shown.text


def test_a_closing_statement_that_says_partial_is_believed():
    """Whatever the rounds say, the run's own word of being partial is passed on."""
    report = sample(2, 2)
    shown = page(replace(report, closing={**report.closing, "status": "partial-allowed"}))
    assert shown.verdict.startswith("Partial: The statement that closes the run says partial-allowed.")


@pytest.mark.parametrize(("numbers", "told"), [([4], "4"), ([1, 2, 3, 7], "1-3, 7"), ([2, 4, 5], "2, 4-5"), ([], "")])
def test_ranges_of_rounds_are_told_shortly(numbers, told):
    """Runs of rounds become ranges."""
    assert charts.ranges(numbers) == told


def test_a_lost_fit_reply_reaches_the_report(project, tmp_path):
    """A run whose preprocessing was fitted without a site is collected as such."""
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".fedloom", "models"))
    lost = Scenario({0: Faults(drop=frozenset({"west"}))}, frozenset({"fit"}))
    with pytest.raises(GateError):
        run_local(plan_local(folder), emit=lambda _: None, scenario=lost)
    report = collected(Repository.at(folder), "runs/1")
    assert [outcome.site for outcome in report.fitted.missing] == ["west"]
    assert page(report).verdict.startswith("Partial: The preprocessing was fitted without west.")


def test_a_site_without_a_baseline_is_not_said_to_be_better_off_together(tmp_path):
    """One site lost while training alone: it is named as not compared, and the others are judged by their figures."""
    home = projects.project(tmp_path, rounds=2, gate=False)
    projects.allow(home, "{min_sites: 2}")
    plan = plan_local(home)
    run_local(plan, lambda _: None, scenario=Scenario({0: Faults(drop=frozenset({"south"}))}, frozenset({"local"})))
    repository = Repository.at(home)
    report = collect(repository, Recorder(repository.store), repository.resolve("runs/1"))
    rows = {row.name: row for row in site_rows(report)}
    assert rows["south"].judgement == "cannot be compared"
    for name in ("north", "harbour"):
        federated, alone = rows[name].federated["accuracy"], rows[name].alone["accuracy"]
        expected = "no difference" if federated == alone else "better off together"
        assert rows[name].judgement == ("better off alone" if alone > federated else expected)
    said = better_alone(list(rows.values()), "Accuracy")
    assert "Not compared: south" in said
    assert "worse_off" not in report.evaluation
    assert "local_everywhere" not in report.evaluation
