"""Labelers' answers in exports, and as a study of `imgbench paper`."""

import contextlib
import json

import pytest

from imgbench import errors
from imgbench.experiments import multilabel
from imgbench.labels import review_database
from imgbench.papers.readers import datasets
from imgbench.papers.readers import people
from imgbench.papers.readers import reviews
from imgbench.review import exports
from imgbench.review import imports
from imgbench.review import init
from imgbench.review import labeling
from imgbench.review import store
from tests.experiments import scripts
from tests.papers import human_files
from tests.review import filled
from tests.review import review_test

IMAGES = (*human_files.VALIDATION, *human_files.VERSION_2)
LABELS = (*human_files.CLASSES, *human_files.CLASSES)
KEY = review_database.LABELS
EVERY = range(len(IMAGES))


def add_task(connection, mode, answers, images=EVERY, name="t"):
  """Adds a task; answers: user -> place of image -> class, None: open."""
  with store.transaction(connection):
    for user in answers:
      query = "INSERT OR IGNORE INTO user (name, role, created) VALUES (?,?,0)"
      connection.execute(query, (user, "labeler"))
    rows = [image + 1 for image in images]
    name = f"{mode} {name}"
    task = labeling.create_task(connection, name, mode, rows, list(answers), 3)
    for user, given in answers.items():
      for place, (image, index) in enumerate(given.items()):
        shown = 4e9 + 100 * place
        done = None if index is None else shown + (20 if place % 2 else 90)
        connection.execute(
          "INSERT INTO answer (task, user, image, place, class, shown,"
          " confirmed, ms, external) SELECT ?, id, ?, ?, ?, ?, ?, 5000, ?"
          " FROM user WHERE name = ?",
          (task, image + 1, place, index, shown, done, int(place == 0), user),
        )


def answer(name):
  """Returns image -> class, as a labeler of `human_files`."""
  return {
    i: human_files.named_by(name, i, index) for i, index in enumerate(LABELS)
  }


def create(path):
  """Returns a database of two data sets; the last image lacks reviews."""
  states = {
    (i, index + shift): 3 - shift
    for i, index in enumerate(LABELS)
    for shift in range(3)
    if i < len(IMAGES) - 1
  }
  images = list(zip(IMAGES, LABELS, strict=True))
  models = {
    name: [human_files.named_by(name, *pair) for pair in enumerate(LABELS)]
    for name in human_files.MODELS
  }
  connection = filled.create(path, images, models, states, problematic=(6,))
  with store.transaction(connection):
    connection.execute("UPDATE dataset SET name = 'imagenet2012:validation'")
    connection.execute("INSERT INTO dataset (name) VALUES ('v2')")
    connection.execute("UPDATE image SET dataset = 2 WHERE id > 7")
  return connection


@pytest.fixture(name="study", scope="module")
def write_study(tmp_path_factory):
  """A database where two labelers are done and one is not."""
  path = tmp_path_factory.mktemp("study") / "a.db"
  with contextlib.closing(create(path)) as connection:
    before = review_database.read(path)
    add_task(connection, "training", {"zoe": answer("human_a")})
    assert review_database.read(path) == before and KEY not in before
    given = {name: answer(f"human_{name}") for name in "ab"}
    given["c"] = {0: LABELS[0], 1: None}
    add_task(connection, "evaluation", given)
  return path


def test_exports_have_answers(study, tmp_path):
  content = json.loads(exports.export(study))
  labels = content[KEY]
  assert set(labels) == {"original", "human_a", "human_b", "human_c"}
  assert labels["original"] == {
    image: {"label": human_files.wnid(index)}
    for image, index in zip(IMAGES, LABELS, strict=True)
  }
  assert len(labels["human_a"]) == 14 and list(labels["human_c"]) == [IMAGES[0]]
  entry = labels["human_a"][IMAGES[0]]
  assert entry["label"] == human_files.wnid(LABELS[0] + 2)
  assert set(entry["extra_info"]) == {"start_time", "end_time"}
  # The first event is older than the answers.
  assert KEY not in review_database.read(study, "1")
  # An import keeps the key and creates no task.
  again = tmp_path / "again.db"
  store.create(again, init.list_imagenet()).close()
  file = tmp_path / "a.json"
  kept = {k: v for k, v in content.items() if k == KEY}
  kept |= {"initial_annots": {IMAGES[0]: {}}, "problematic_images": {}}
  file.write_text(json.dumps(kept | {"imagenet_m": []}))
  with contextlib.closing(store.open_database(again)) as connection:
    for _ in range(2):
      imports.import_files(connection, annotations=[str(file)])
    assert not connection.execute("SELECT * FROM task, answer").fetchall()
  assert json.loads(exports.export(again)) == json.loads(file.read_text())


def test_later_exports_add_answers(study, tmp_path):
  content = json.loads(exports.export(study))
  labels = content[KEY]
  first = content | {KEY: {k: v for k, v in labels.items() if k != "human_b"}}
  files = [tmp_path / "first.json", tmp_path / "second.json"]
  for file, given in zip(files, (first, content), strict=True):
    file.write_text(json.dumps(given))
  path = tmp_path / "other.db"
  with contextlib.closing(create(path)) as connection:
    for file in files:
      imports.import_files(connection, annotations=[str(file)])
    assert json.loads(exports.export(path))[KEY] == labels
    add_task(connection, "evaluation", {"d": {0: 1, 1: None}}, [0, 1])
    files[0].write_text(json.dumps(content | {KEY: {"human_a": []}}))
    with pytest.raises(errors.InputError, match="human_a"):
      imports.import_files(connection, annotations=[str(files[0])])
  found = json.loads(exports.export(path))[KEY]
  assert list(found.pop("human_d")) == [IMAGES[0]]
  assert found == labels


def test_tfds_ignores_answers(study, tmp_path, monkeypatch):
  content, file = json.loads(exports.export(study)), tmp_path / "a.json"
  found = []
  for given in (content, {k: v for k, v in content.items() if k != KEY}):
    file.write_text(json.dumps(given))
    found.append(review_test.read_with_tfds(file, monkeypatch))
  assert found[0] == found[1] and found[0][0] and KEY in content


def test_study_of_a_database(study):
  content = review_database.read(study)
  found = people.read_study("x", content[KEY], reviews.read(study))
  assert found.kinds == {"human_a": "person", "human_b": "person"}
  first, second = found.image_sets.values()
  # One is problematic, one has no reviewed label.
  assert first.image_ids == IMAGES[:6] and second.image_ids == IMAGES[7:13]
  assert first.labels.tolist() == list(LABELS[:6])
  named = found.named[datasets.MATCHED_FREQUENCY]["human_b"]
  assert named.tolist() == list(answer("human_b").values())[7:13]
  assert found.seconds[datasets.VALIDATION].tolist() == [90, 20] * 3
  assert len(found.notes) == 2  # human_c; an image


def test_a_labeler_called_majority_is_a_person(tmp_path):
  path = tmp_path / "a.db"
  with contextlib.closing(create(path)) as connection:
    add_task(connection, "evaluation", {"majority": answer("human_a")})
  content = review_database.read(path)
  found = people.read_study("x", content[KEY], reviews.read(path))
  assert found.kinds == {"human_majority": people.PERSON}
  assert found.seconds[datasets.VALIDATION].tolist() == [90, 20] * 3


def measure_paper(out, path):
  """Returns (classifier, data set, subset, metric) -> hits, images as text."""
  scripts.main(multilabel, out, f"--annotations={path}")
  keys = ("model", "dataset", "subset", "metric")
  return {
    tuple(row[key] for key in keys): (row["correct"], row["n"])
    for row in scripts.csv_rows(out)
  }


def test_paper_from_database_and_export(study, tmp_path):
  file = tmp_path / "export.json"
  file.write_text(exports.export(study))
  found, other = (
    measure_paper(tmp_path / f"{path.name}-out", path) for path in (study, file)
  )
  assert found == other and len(found) > 20
  metric = "multilabel_accuracy.icml2020"
  key = ("human_a", datasets.VALIDATION, "all")
  assert found[*key, metric] == found[*key, "top1_accuracy"] == ("5", "6")
