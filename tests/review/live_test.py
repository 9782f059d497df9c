"""Tests of the accuracies that follow the reviews."""

import contextlib
import itertools
import json
import math

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.metrics import multilabel
from imgbench.metrics import summary
from imgbench.papers import evaluate
from imgbench.papers import records
from imgbench.papers import sections
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.review import imports
from imgbench.review import init
from imgbench.review import live
from imgbench.review import store
from tests import raising
from tests.data import shared_files
from tests.review import filled

CODES = {"wrong": 1, "unclear": 2, "correct": 3}
MODELS = ("alexnet", "fbresnet152", "resnet50")


def read_real(names):
  """Returns arguments of `filled.create`, and rankings of 20,000 images."""
  name, split = "multilabel_annotations.json", datasets.VALIDATION
  path = shared_files.shared_path("data", "imagenet", name)
  content = json.loads(path.read_text("utf-8"))
  files = shared_files.shared_path("data", "ImageNetV2", "data")
  path = files / "datasets" / f"{split}.json"
  listed = json.loads(path.read_text("utf-8"))["image_filenames"]
  entries = content["initial_annots"]
  rows = [r for r, (name, _) in enumerate(listed) if name in entries]
  images = [(listed[r][0], classes.index_of(listed[r][1])) for r in rows]
  states = {
    (i, classes.index_of(wnid)): code
    for i, (name, _) in enumerate(images)
    for state, code in CODES.items()
    for wnid in entries[name].get(state, ())
  }
  rankings = {
    name: np.load(files / "predictions" / split / f"{name}.npy")[rows].astype(
      np.int16
    )
    for name in names
  }
  problematic = content["problematic_images"]
  return {
    "images": images,
    "models": {name: found[:, 0] for name, found in rankings.items()},
    "states": states,
    "annotated": range(len(images)),
    "problematic": [i for i, (n, _) in enumerate(images) if n in problematic],
    "imagenet_m": range(0, len(images), 30),
  }, rankings


def counts_are_fresh(tracker, path):
  """Returns whether counts equal those of a full recompute."""
  tracker.catch_up()
  fresh = live.Accuracies(path, 1)
  names = ("models", "event", "_top1", "_code", "_counted", "_table")
  pairs = [(getattr(x, name) for x in (tracker, fresh)) for name in names]
  return all(np.array_equal(*pair) for pair in pairs)


def measure_export(path, images, rankings):
  """Returns the measurements of the exported annotations, by RankingEvaluator.

  model -> (subset, metric) -> measurement.
  """
  names, labels = zip(*images, strict=True)
  subsets = {name: classes.subsets()[name] for name in datasets.SUBSETS}
  known = (classes.short_names(), subsets, path)
  arrays = np.array(names), np.array(labels, np.int32)
  dataset = records.Dataset("set", *arrays, *known)
  found = reviews_lib.select_reviewed(dataset, reviews_lib.read(path))
  evaluator = evaluate.RankingEvaluator(found.dataset, found.label_sets)
  result = {}
  for name, ranking in rankings.items():
    given = records.RankedPredictions(name, "set", ranking, path)
    rows = evaluator(found.cut(given)).measurements
    result[name] = {key[2:]: value for key, value in rows.items()}
  return result


def flatten(result):
  """Returns (subset, metric) -> measurement."""
  return {
    (subset, metric): value
    for subset, rows in result.rows.items()
    for metric, value in rows.items()
  }


@pytest.fixture(name="real", scope="module")
def make_real(tmp_path_factory):
  """A database of the public annotations with three models, and its parts."""
  path = tmp_path_factory.mktemp("real") / "reviews.db"
  given, rankings = read_real(MODELS)
  with contextlib.closing(filled.create(path, **given)) as connection:
    yield path, connection, given, rankings


def check_equal(tracker, path, images, rankings):
  wanted = measure_export(path, images, rankings)
  for model, name in tracker.models:
    ours = flatten(tracker.measure(model))
    theirs = {key: wanted[name][key] for key in ours}
    assert ours == theirs
    assert {key for key in wanted[name] if "multilabel" in key[1]} <= set(ours)


def test_numbers_are_those_of_the_exported_annotations(real):
  path, connection, given, rankings = real
  tracker = live.Accuracies(path, 1)
  check_equal(tracker, path, given["images"], rankings)
  alexnet = flatten(tracker.measure(1))
  assert alexnet["all", "multilabel_accuracy.icml2020"].value == pytest.approx(
    0.6451, abs=5e-5
  )
  assert alexnet["all", "multilabel_accuracy.tfds"].n == 18_692
  # Values without intervals are the same.
  for result in tracker.overview("dog"):
    whole = tracker.measure(result.id).rows["dog"]
    for metric, value in result.rows["dog"].items():
      assert value.value == whole[metric].value
  for image in connection.execute(
    "SELECT image FROM prediction WHERE state = 0 LIMIT 3"
  ).fetchall():
    filled.decide(connection, image[0], store.IMAGE, 3)
  check_equal(tracker, path, given["images"], rankings)
  assert counts_are_fresh(tracker, path)


def test_a_review_moves_numbers_by_the_weight_of_its_image(real):
  path, connection, given, _ = real
  tracker = live.Accuracies(path, 1)
  image, index, label = connection.execute(
    "SELECT image, class, label FROM prediction JOIN image ON image.id = image"
    " WHERE state = 0 AND models = 1 AND class != label"
    " AND problematic IS NULL AND imagenet_m = 0 ORDER BY image"
  ).fetchone()
  predicts = {
    name: found[image - 1] == index for name, found in given["models"].items()
  }
  before = {name: flatten(tracker.measure(m)) for m, name in tracker.models}
  filled.decide(connection, image, index, 2)
  counted = sum(
    i not in given["problematic"] and k == label
    for i, (_, k) in enumerate(given["images"])
  )
  n = before["alexnet"]["all", "multilabel_accuracy.icml2020"].n
  moves = {
    "tfds": 1 / (1_000 * counted),
    "icml2020": 0,  # unclear
    "lenient_mean": 1 / n,
    "imagenet_m": 0,
  }
  shares = {"tfds": moves["tfds"], "imagenet_m": 0}
  for model, name in tracker.models:
    after, was = flatten(tracker.measure(model)), before[name]
    for definition, move in moves.items():
      key = "all", f"multilabel_accuracy.{definition}"
      for metric, step in {
        "": move,
        ".bound_low": move,
        ".bound_high": move - shares.get(definition, 1 / n),
        ".unreviewed": -shares.get(definition, 1 / n),
      }.items():
        named = key[0], key[1] + metric
        moved = after[named].value - was[named].value
        if metric == ".bound_high" and definition in ("tfds", "lenient_mean"):
          step = 0
        wanted = step if predicts[name] else 0
        assert moved == pytest.approx(wanted, abs=1e-15)
  filled.decide(connection, image, index, 0)
  again = {name: flatten(tracker.measure(m)) for m, name in tracker.models}
  assert again == before


TINY = [("n0", "a"), ("n1", "a,b"), ("n2", "")]


def create_tiny(path, seed=0, images=7, unreviewed=0.5):
  rng = np.random.default_rng(seed)
  labels = [*range(3), *rng.integers(0, 3, images - 3).tolist()]
  models = {name: rng.integers(0, 3, images) for name in "xyz"}
  states = {
    (i, k): int(rng.integers(1, 4))
    for i in range(images)
    for k in range(3)
    if rng.random() > unreviewed
  }
  return filled.create(
    path,
    [(f"i{i}", k) for i, k in enumerate(labels)],
    models,
    states,
    TINY,
    annotated=range(images),
  )


@hypothesis.given(
  strategies.lists(
    strategies.tuples(
      strategies.integers(1, 7),
      strategies.integers(-1, 2),
      strategies.integers(0, 3),
    ),
    min_size=1,
  )  # fmt: skip
)
@hypothesis.settings(max_examples=20)
def test_counts_are_those_of_a_recompute(tmp_path_factory, reviews):
  path = tmp_path_factory.mktemp("tiny") / "reviews.db"
  with contextlib.closing(create_tiny(path)) as connection:
    tracker = live.Accuracies(path, 1)
    for image, target, state in reviews:
      with contextlib.suppress(TypeError):  # not predicted
        filled.decide(connection, image, target, state)
      tracker.overview()
    assert counts_are_fresh(tracker, path)


def test_images_count_once_a_class_is_reviewed(tmp_path):
  path = tmp_path / "reviews.db"
  images, models = [("p", 0), ("q", 1), ("r", 2)], {"x": [0, 1, -1]}
  with contextlib.closing(
    filled.create(path, images, models, {}, TINY)
  ) as connection:
    tracker = live.Accuracies(path, 1)
    metric = "multilabel_accuracy.lenient_mean"
    assert tracker.measure(1).rows["all"][metric].n == 0
    assert set(tracker.masks) == {"all", "a", "b"}
    filled.decide(connection, 1, 0, 3)
    assert tracker.measure(1).rows["all"][metric].correct == 1
    filled.decide(connection, 3, 2, 1)  # the model did not see it
    assert tracker.measure(1).rows["all"][metric].n == 1
    assert "imagenet_m" not in "".join(tracker.measure(1).rows["all"])
    connection.execute("UPDATE prediction SET state = 1 WHERE image = 2")
    store.add_event(connection, "import")
    assert tracker.measure(1).rows["all"][metric].n == 2
    assert counts_are_fresh(tracker, path)
  with pytest.raises(errors.InputError, check=raising.about("model")):
    tracker.measure(2)


def test_numbers_of_before_an_import_are_not_kept(tmp_path, monkeypatch):
  path, images = tmp_path / "reviews.db", [("p", 0), ("q", 1)]
  models, states = {"x": [0, 1]}, {(0, 0): 1, (1, 1): 1}
  with contextlib.closing(
    filled.create(path, images, models, states, TINY)
  ) as connection:
    tracker = live.Accuracies(path, 1)
    measure = summary.set_accuracies

    def measure_while_importing(*args):
      monkeypatch.undo()
      connection.execute("UPDATE prediction SET state = 3 WHERE image = 2")
      store.add_event(connection, "import")
      tracker.catch_up()
      return measure(*args)

    monkeypatch.setattr(summary, "set_accuracies", measure_while_importing)
    metric = "multilabel_accuracy.lenient_mean"
    assert tracker.measure(1).rows["all"][metric].correct == 0
    assert tracker.measure(1).rows["all"][metric].correct == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("definition", multilabel.DEFINITIONS)
def test_comparison_covers_all_results(tmp_path, seed, definition):
  """Tries every state of the unreviewed predictions of two models."""
  if definition == "imagenet_m":
    return
  path = tmp_path / "reviews.db"
  with contextlib.closing(create_tiny(path, seed, 6)) as connection:
    tracker = live.Accuracies(path, 1)
    found = tracker.compare(1, 2, definition)
    metric = f"multilabel_accuracy.{definition}"
    pairs = [(image, index) for _, image, index, _ in found.open]
    rest = connection.execute(
      "SELECT image, class FROM prediction WHERE state = 0"
    ).fetchall()
    by_results = {}
    for results in itertools.product((1, 3), repeat=len(pairs)):
      for (image, index), state in zip(pairs, results, strict=True):
        filled.decide(connection, image, index, state)
      x, y = (tracker.measure(m).rows["all"][metric].value for m in (1, 2))
      by_results[results] = 0.0 if math.isclose(x, y) else x - y
    low, high = min(by_results.values()), max(by_results.values())
    assert (low, high) == pytest.approx((found.low, found.high))
    # What is not among them changes no difference.
    for image, index in map(tuple, rest):
      if (image, index) not in pairs:
        filled.decide(connection, image, index, 3)
    x, y = (tracker.measure(m).rows["all"][metric].value for m in (1, 2))
    assert x - y == pytest.approx(by_results[results], abs=1e-12)
    # Any results of the first `most` decide.
    for first in itertools.product((1, 3), repeat=found.most):
      signs = {
        np.sign(value)
        for results, value in by_results.items()
        if results[: found.most] == first
      }
      assert not {-1, 1} <= signs


@pytest.mark.slow
def test_forty_models_have_the_numbers_of_the_paper_script(tmp_path):
  path = tmp_path / "reviews.db"
  store.create(str(path), init.list_imagenet(None)).close()
  name = "multilabel_annotations.json"
  labels = str(shared_files.shared_path("data", "imagenet", name))
  repo = str(shared_files.shared_path("data", "ImageNetV2"))
  with contextlib.closing(store.open_database(path)) as connection:
    given = {"repo": repo, "annotations": [labels], "annotated_only": True}
    imports.import_files(connection, **given)
  collection = clone.read(repo, own=[])
  section = sections.build_reviewed(collection, reviews_lib.read(path))
  rows = section.rows.set_index(["model", "dataset", "subset", "metric"])
  tracker = live.Accuracies(path, 1)
  assert len(tracker.models) == 40
  for model, name in tracker.models:
    for (subset, metric), found in flatten(tracker.measure(model)).items():
      row = rows.loc[name, datasets.VALIDATION, subset, metric]
      for key in ("n", "value", "ci_low", "ci_high"):
        ours, theirs = getattr(found, key), row[key]
        assert math.isnan(theirs) if ours is None else ours == theirs
