"""The section of recommended results: those that a run has."""

import html
import json
import re

import numpy as np
import pytest

from imgbench import report
from imgbench.evaluators import shift
from imgbench.metrics import drops
from imgbench.metrics import specs
from imgbench.report import recommendations
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import themes
from tests import written
from tests.report import imagenet_samples
from tests.report import samples

# Files that cost a figure, which these tests do not need.
FILES = ("metrics.jsonl", "per_class.csv", "confusion.npz")
V2 = "imagenet_v2-matched-frequency"
NAMES = (
  *("imagenet2012", "imagenet2012_multilabel", "imagenet2012_real"),
  *(V2, "imagenet_a", "imagenet_r"),
)
LABELS = recommendations.LABEL_SETS
KINDS = recommendations.KINDS
SHIFT = recommendations.SHIFT


def render(workdir) -> str:
  for name in FILES:
    (workdir / name).unlink(missing_ok=True)
  return report.write_report(workdir).read_text()


def words(page: str, start: str, end: str) -> str:
  """Returns the text between two headings."""
  inner = page.partition(f"{start}</h")[2].partition(f"{end}</h")[0]
  inner = inner.replace("<wbr>", "")  # within a name
  return " ".join(html.unescape(re.sub("<[^>]*>", " ", inner)).split())


@pytest.fixture(scope="module")
def family(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(themes, "DPI", 40)
    workdir, _ = imagenet_samples.family(
      tmp_path_factory.mktemp("family") / "run", NAMES, share=0.3
    )
    page = render(workdir)
  rows = entries.parse(json.loads((workdir / "results.json").read_text()))
  return workdir, page, rows


def test_it_is_above_the_results(family):
  page = family[1]
  marks = ('class="tiles"', 'id="beyond"', 'id="results"', 'id="subsets"')
  places = [page.index(mark) for mark in marks]
  assert places == sorted(places)
  assert f'<a href="#beyond">{recommendations.TITLE}</a>' in page


def test_label_sets_are_next_to_top_1_and_top_5(family):
  _, page, rows = family
  shown = words(page, LABELS, KINDS)
  labels = [
    specs.describe(name).label
    for name in ("top1_accuracy", "top5_accuracy")
    + ("real_accuracy", "multilabel_accuracy.tfds")
  ]
  assert f"Data set {' '.join(labels)}" in shown
  assert "multi-label accuracy and ReaL accuracy" in shown
  metrics = ("top1", "top5", "multilabel", "real")
  for row in rows:
    main = row.subset == "all" and row.metric.startswith(metrics)
    main &= row.dataset.startswith("imagenet2012")
    # Images are a row; accuracies on the original label are those of all.
    repeated = row.metric.startswith("top") and "2012_" in row.dataset
    if main and not repeated:
      text = f"{formats.value(row)} {formats.interval(row)} n = {row.n:,}"
      assert text in shown
      assert formats.unreviewed(row) in shown
  assert shown.count("never reviewed") == 2
  # Averaged parameters follow the raw ones; shifted sets are below.
  table = shown.partition("Data set")[2]
  assert table.count(":validation") == 2
  raw, averaged = (
    table.index(f"imagenet2012{e}:validation") for e in ("", "+ema")
  )
  assert raw < averaged
  assert V2 not in shown


def test_kinds_of_classes_are_apart(family):
  _, page, rows = family
  shown = words(page, KINDS, SHIFT)
  heads = "all objects organisms dogs organisms except dogs"
  assert f"Data set {heads}" in shown
  metrics = ("top1_accuracy", "multilabel_accuracy.tfds", "real_accuracy")
  expected = [
    f"{formats.value(row)} {formats.interval(row)}"
    for row in rows
    if row.metric in metrics
    and row.dataset.startswith("imagenet2012")
    and not (row.metric == "top1_accuracy" and "2012_" in row.dataset)
  ]
  assert len(expected) == 2 * 5 * (1 + 1 + 1)
  assert all(pair in shown for pair in expected)


def test_drops_are_shown_with_both_accuracies(family):
  _, page, rows = family
  shown = words(page, SHIFT, "Results")
  before = shown.partition("Data set")[0]
  assert "imagenet2012:validation" in before
  assert "imagenet2012+ema:validation" in before
  whole = [row for row in rows if row.shift and row.subset == "all"]
  assert len(whole) == 2 * 3 * 2
  for row in whole:
    base, drop = row.shift.base, row.shift.drop
    assert (
      f"{row.dataset} {formats.value(base)} ({formats.interval(base)})"
      f" {formats.value(row)} ({formats.interval(row)}) {formats.value(drop)}"
      f" [{formats.interval(drop, ', ')}]"
    ) in shown
    assert f"{drop.definition}; 95% interval: newcombe" in shown
  of_dogs = next(r for r in rows if r.shift and r.subset == "dog")
  base, drop = of_dogs.shift.base, of_dogs.shift.drop
  assert (
    f"{formats.value(drop)} [{formats.interval(drop, ', ')}]"
    f" {formats.value(base)} → {formats.value(of_dogs)}"
  ) in shown
  # ImageNet-R's classes here are organisms.
  assert "undefined" in shown and "undefined →" not in shown


def test_drops_are_only_in_their_section(family):
  workdir, page, _ = family
  assert (workdir / "drops.png").is_file()
  assert page.count('alt="Drop of') == 1
  # Nothing but the section speaks of them.
  rest = page.partition('id="results"')[2]
  assert ".drop" not in rest.replace("imagenet_v2", "")
  assert "(drop)" not in page and "(base)" not in page
  assert " points" not in rest


def test_many_sets_are_read_one_below_the_other(family):
  workdir, page, rows = family
  shown = words(page, "Results", "Class subsets")
  assert "Value 95% interval" in shown
  for row in rows:
    if row.subset == "all" and row.metric == "top5_accuracy":
      text = f"{row.dataset} {formats.value(row)} {formats.interval(row)}"
      # The same images are in the folded table.
      first = shown.index("Other metrics of the whole sets")
      assert ("2012_" in row.dataset) == (shown.index(text) > first)
  assert "imagenet2012+ema:validation, imagenet2012_real" in shown
  assert "other parameters" in shown
  # One chart by metric instead of one by data set.
  assert {path.name for path in workdir.glob("subsets_*.png")} == {
    f"subsets_{name}.png"
    for name in (
      *("top1_accuracy", "top5_accuracy", "real_accuracy"),
      "multilabel_accuracy.tfds",
    )
  }
  assert page.count('class="tile"') == 4


def test_a_run_without_these_results_has_no_section(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  page = render(samples.cifar(tmp_path / "run")[0])
  assert "beyond" not in page and recommendations.TITLE not in page


def test_a_run_shows_the_parts_that_it_has(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  workdir, drawn = samples.cifar(tmp_path / "run")
  path = workdir / "results.json"
  results = json.loads(path.read_text())
  imagenet_samples.add_real(results, drawn[0])
  path.write_text(json.dumps(results))
  page = render(workdir)
  assert LABELS in page and KINDS not in page and SHIFT not in page
  shown = words(page, LABELS, "Results")
  assert "ReaL accuracy" in shown and "multi-label" not in shown
  assert not (workdir / "drops.png").exists()


def test_training_data_is_no_part_of_it(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  drawn = [
    samples.Sample(f"toy:{split}", "abcdef", 90, 0.6, 1, {"dog": (0, 3)})
    for split in ("test", "train")
  ]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  shown = words(render(workdir), KINDS, "Results")
  assert "toy:test" in shown and "toy:train" not in shown


def test_what_shift_measures_is_what_the_page_shows(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  rng = np.random.default_rng(0)
  sets = {}
  for alias, key, size, classes in (
    ("val", "toy:validation", 120, range(6)),
    ("v2", "toy_v2:test", 60, range(6)),
    ("a", "toy_a:test", 45, (1, 4)),
  ):
    labels = np.resize(list(classes), size)
    probs = rng.dirichlet(np.ones(6), size) + 0.4 * np.eye(6)[labels]
    sets[alias] = written.evaluation(key, "abcdef", probs / 1.4, labels, False)
  found = shift.add_drops(
    {alias: pair[0] for alias, pair in sets.items()},
    shift.Shift("val", ("v2", "a")),
  )
  pairs = [(found[alias], sets[alias][1]) for alias in sets]
  workdir = tmp_path / "run"
  results = written.write(workdir, *pairs)
  shown = words(render(workdir), SHIFT, "Results")
  hits, count = (
    sets["val"][0].counts.top_hits(1),
    sets["val"][0].counts.count,
  )
  of_a = sets["a"][0].counts
  expected = drops.drop(
    hits[[1, 4]].sum(), count[[1, 4]].sum(), of_a.top_hits(1).sum(), 45
  )
  drop = results["toy_a:test/all/top1_accuracy.drop"]
  assert [drop[k] for k in ("value", "ci_low", "ci_high")] == list(expected)
  value, low, high = (f"{100 * number:z.1f}" for number in expected)
  assert f"{value} points [{low}, {high}]" in shown
  assert "2 of 6 classes" in shown
