"""Tests of review databases: import, export, and as a source of labels."""

import contextlib
import json
import os
import shutil
import sqlite3

import numpy as np
from PIL import Image
import pytest

from imgbench import data
from imgbench import errors
from imgbench.experiments import multilabel
from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.labels import review_database
from imgbench.labels import review_table
from imgbench.papers.readers import datasets
from imgbench.papers.readers import reviews
from imgbench.review import agreement
from imgbench.review import exports
from imgbench.review import images
from imgbench.review import importer
from imgbench.review import imports
from imgbench.review import init
from imgbench.review import live
from imgbench.review import merge
from imgbench.review import status
from imgbench.review import store
from tests import raising
from tests.data import fake_folder
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import human_files
from tests.review import review_test
from tests.score import scoring
from tests.train import processes

WNID = human_files.wnid
VALIDATION, V2 = human_files.VALIDATION, human_files.VERSION_2
ALL = (*VALIDATION, *V2, *human_files.MORE)
LABELS = (*human_files.CLASSES, *human_files.CLASSES, 20, 30)


def content():
  """Annotations with everything that a file may have."""
  found = human_files.json_content()
  entries = found["initial_annots"]
  entries[ALL[0]] |= {"server_username": "ada", "extra": [1]}
  entries[ALL[1]] = {"server_user_name": "eve", "wrong": [WNID(4)]}
  entries[V2[0]] = {"correct": [WNID(151)]}
  found["problematic_images"][ALL[3]] = ["drawing", "edited"]
  found["imagenet_m"] = [ALL[3], ALL[0]]
  found["other"] = {"a": None}
  return found | {review_database.SIDE: [{"image_id": ALL[0], "note": "?"}]}


@pytest.fixture(name="files", scope="module")
def write_files(tmp_path_factory):
  """A clone with two models, and annotations."""
  folder = tmp_path_factory.mktemp("files")
  human_files.write_json(folder / "old.json", content())
  clone.write_class_info(folder)
  for name, ids in (
    (datasets.VALIDATION, (*VALIDATION, *human_files.MORE)),
    (datasets.MATCHED_FREQUENCY, V2),
  ):
    labels = [LABELS[ALL.index(image)] for image in ids]
    clone.write_dataset(folder, name, ids, labels)
    for shift, model in enumerate(("same", "next")):
      top = (np.array(labels)[:, None] + np.arange(5) + shift * 7) % 1000
      clone.write_predictions(folder, name, model, top)
  return folder


@pytest.fixture(name="small")
def make_small(files, tmp_path):
  path = tmp_path / "small.db"
  store.create(path, init.list_imagenet(files)).close()
  add(path, repo=files, annotations=[files / "old.json"])
  return path


def add(path, **given):
  """Imports files; returns the numbers of new rows."""
  for name, value in given.items():
    is_list = isinstance(value, list)
    given[name] = list(map(str, value)) if is_list else str(value)
  with contextlib.closing(store.open_database(path)) as connection:
    counts, _ = imports.import_files(connection, **given)
  return {name: number for name, number in counts.items() if number}


def dump(path):
  with contextlib.closing(sqlite3.connect(path)) as connection:
    return list(connection.iterdump())


def decide(path, image, target, state, reason=""):
  """Writes a consensus as the server does; returns its event."""
  with contextlib.closing(store.open_database(path)) as connection:
    query = "SELECT id FROM image WHERE name = ?"
    (row,) = connection.execute(query, (image,)).fetchone()
    with store.transaction(connection):
      if target == store.IMAGE:
        query = "UPDATE image SET problematic = ? WHERE id = ?"
        connection.execute(query, (reason if state == 3 else None, row))
      else:
        query = "REPLACE INTO prediction (image, class, state, imported) SELECT"
        query += " ?1, ?2, ?3, ifnull((SELECT imported FROM prediction WHERE"
        query += " image = ?1 AND class = ?2), 0)"
        connection.execute(query, (row, target, state))
      values = {"image": row, "target": target, "state": state}
      return store.add_event(connection, "consensus", reason=reason, **values)


def vote(connection, user, image, target, state, **columns):
  """Writes a vote as the server does."""
  query = "INSERT OR IGNORE INTO user (name, role, created) VALUES (?, ?, 0)"
  connection.execute(query, (user, "reviewer"))
  query = "SELECT id FROM user WHERE name = ?"
  (row,) = connection.execute(query, (user,)).fetchone()
  values = {"image": image, "target": target, "state": state, "user": row}
  values["event"] = store.add_event(connection, "vote", **values)
  values |= columns
  marks = ", ".join(f":{name}" for name in values)
  query = f"INSERT INTO vote ({', '.join(values)}) VALUES ({marks})"
  connection.execute(query, values)


def test_export_of_import_is_equal(files, small, tmp_path):
  expected = content()
  assert review_database.read(small) == expected
  assert list(review_database.read(small)) == list(expected)
  text = exports.export(small)
  assert json.loads(text) == expected
  again = tmp_path / "again.db"
  store.create(again, init.list_imagenet(files)).close()
  # In two imports and another order.
  add(again, repo=files)
  (tmp_path / "new.json").write_text(text)
  add(again, annotations=[tmp_path / "new.json"])
  assert exports.export(again) == text
  before = dump(small)
  given = {"repo": files, "annotations": [files / "old.json"]}
  assert add(small, **given) == {} and dump(small) == before
  pairs = exports.export(small, "csv").splitlines()
  total = sum(
    len(e.get(s, ()))
    for e in expected["initial_annots"].values()
    for s in reviews.STATES
  )
  assert len(pairs) == 1 + total
  (event,) = exports.export(small, "jsonl").splitlines()
  assert json.loads(event)["kind"] == "import"


def test_imported_rows(small, files):
  with review_database.open_read_only(small) as connection:
    counts = status.count(connection)
    sets = connection.execute("SELECT name FROM dataset ORDER BY id").fetchall()
    (gloss,) = connection.execute(
      "SELECT count(*) FROM class WHERE gloss != ''"
    ).fetchone()
    found = connection.execute(
      "SELECT state, imported, models FROM prediction JOIN image ON"
      " image = image.id WHERE name = ? ORDER BY class",
      (ALL[0],),
    ).fetchall()
  assert sets == [
    ("imagenet2012:validation",),
    ("imagenet_v2-matched-frequency:test",),
  ]
  assert (counts["images"], counts["annotated"]) == (
    16,
    len(content()["initial_annots"]),
  )
  assert counts["problematic"] == len(content()["problematic_images"])
  assert counts["models"] == 2 and counts["predictions of models"] == 32
  # 151 correct and predicted, 152 unclear, 153 wrong, 158 predicted.
  assert found == [(3, 3, 1), (2, 2, 0), (1, 1, 0), (0, 0, 1)]
  labels = [[]] * 50_000
  labels[0], labels[9] = [151, 999], [5]
  (files / "real.json").write_text(json.dumps(labels))
  duplicates = {V2[0]: [V2[1]], "unknown": []}
  (files / "near.json").write_text(json.dumps(duplicates))
  new = add(
    small, real=files / "real.json", near_duplicates=files / "near.json"
  )
  assert new == {
    "image-class pairs": 1,
    "open predictions": 1,
    "categories": 1,
    "events": 2,
  }


def test_no_reviews_stay_no_reviews(tmp_path):
  path = tmp_path / "empty.db"
  store.create(path, init.list_imagenet()).close()
  value = {"initial_annots": {VALIDATION[0]: {}}, "problematic_images": {}}
  value |= {"imagenet_m": [], review_database.SIDE: []}
  file = human_files.write_json(tmp_path / "a.json", value)
  for _ in range(2):
    add(path, annotations=[file])
    assert review_database.read(path) == value
    file.write_text(exports.export(path))


def test_changed_labels_and_releases(small, tmp_path):
  before = json.loads(exports.export(small))
  first = decide(small, ALL[0], 158, annotations.WRONG)
  decide(small, ALL[0], 151, annotations.UNCLEAR)
  with contextlib.closing(store.open_database(small)) as connection:
    store.add_event(connection, "release", note="two")
    vote(connection, "eve", 1, 158, store.DONT_KNOW, note="blurred")
    vote(connection, "ada", 1, 158, annotations.WRONG)
    vote(connection, "ada", 2, 158, annotations.WRONG, control=1)
    vote(connection, "ada", 1, -1, annotations.CORRECT, reason="edited")
  decide(small, ALL[0], store.IMAGE, 3, "edited")
  decide(small, ALL[3], store.IMAGE, 1)
  found = json.loads(exports.export(small))
  entry = found["initial_annots"][ALL[0]]
  assert entry["wrong"] == [WNID(153), WNID(158)] and entry["correct"] == []
  assert entry["unclear"] == [WNID(152), WNID(151)] and entry["extra"] == [1]
  assert found["problematic_images"][ALL[0]] == "edited"
  assert ALL[3] not in found["problematic_images"]
  known = {"image_id": ALL[0], "reviewer": "ada"}
  word = {"wnid": WNID(158), "state": "don't know", "note": "blurred"}
  assert found[merge.SIDE][1:] == [
    known | {"problematic": "edited"},
    known | {"wnid": WNID(158), "state": "wrong"},
    known | word | {"reviewer": "eve"},
  ]
  release = json.loads(exports.export(small, at="two"))
  assert release["initial_annots"] == found["initial_annots"]
  assert release["problematic_images"] == before["problematic_images"]
  assert release[merge.SIDE] == before[merge.SIDE]
  at_first = json.loads(exports.export(small, at=str(first)))
  entry = at_first["initial_annots"][ALL[0]]
  assert entry["correct"] == [WNID(151)] and WNID(158) in entry["wrong"]
  assert json.loads(exports.export(small, at=str(first - 1))) == before
  with pytest.raises(errors.InputError, check=raising.about("--at")):
    exports.export(small, at="three")
  # What review merge adds for the same reviews is the same.
  table = tmp_path / "a.csv"
  table.write_text(
    f"image_id,wnid,state,problematic,note\n{ALL[0]},{WNID(158)},wrong,,\n"
  )
  merged, _ = merge.merge(before, [table], "ada")
  assert merged["initial_annots"] == at_first["initial_annots"]
  assert merged[merge.SIDE][-1] == found[merge.SIDE][2]


def test_annotations_imported_after_a_release(files, tmp_path):
  path = tmp_path / "late.db"
  store.create(path, init.list_imagenet()).close()
  add(path, repo=files)
  first = decide(path, ALL[0], 151, annotations.CORRECT)
  add(path, annotations=[files / "old.json"])
  found = review_database.read(path, str(first))
  assert found["initial_annots"] == {ALL[0]: {"correct": [WNID(151)]}}
  assert not found["problematic_images"]
  assert review_database.read(path) == content()


@pytest.mark.parametrize(
  "break_",
  [
    lambda c: c["initial_annots"][ALL[8]].update(wrong=["n1"]),
    lambda c: c["initial_annots"][ALL[8]].update(wrong=[[WNID(1)]]),
    lambda c: c["initial_annots"].update(other={}),
    lambda c: c["initial_annots"][ALL[0]].update(correct=[WNID(9)]),
    lambda c: c["imagenet_m"].append("other"),
    lambda c: c["imagenet_m"].append(ALL[0]),
    lambda c: c.pop("imagenet_m"),
    lambda c: c.update(problematic_images=[]),
    lambda c: c.update(other=2),
  ],
)
def test_refused_annotations_change_nothing(files, small, tmp_path, break_):
  value = content()
  value["initial_annots"].pop(ALL[-1])
  break_(value)
  path = human_files.write_json(tmp_path / "bad.json", value)
  before = dump(small)
  with pytest.raises(errors.InputError):
    add(small, annotations=[path], near_duplicates=path)
  path.write_text(path.read_text()[:-9])
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    add(small, annotations=[path])
  assert dump(small) == before


def test_refused_predictions_change_nothing(files, small, tmp_path):
  repo = tmp_path / "repo"
  shutil.copytree(files, repo)
  before = dump(small)
  name = datasets.MATCHED_FREQUENCY
  top = np.array(human_files.CLASSES)[:, None] + np.arange(5) + 9
  clone.write_predictions(repo, name, "next", top)
  with pytest.raises(errors.InputError, match="next on imagenet_v2"):
    add(small, repo=repo)
  clone.write_predictions(repo, name, "next", top - 2)
  clone.write_dataset(repo, name, V2, np.array(human_files.CLASSES) + 1)
  with pytest.raises(errors.InputError, match="label of 0"):
    add(small, repo=repo)
  with pytest.raises(errors.InputError):
    add(small, predictions=[f"mine@{name}={repo}"])
  assert dump(small) == before
  # A further model is added, and one of another data set alone.
  clone.write_dataset(repo, name, V2, human_files.CLASSES)
  np.save(tmp_path / "mine.npy", top)
  new = add(
    small, repo=repo, predictions=[f"mine@{name}={tmp_path / 'mine.npy'}"]
  )
  assert (new["models"], new["predictions of models"]) == (1, 7)


@pytest.mark.parametrize("kind", ["damaged", "newer", "foreign", "text"])
def test_refused_databases(small, tmp_path, kind):
  path = tmp_path / "bad.db"
  shutil.copy(small, path)
  if kind == "damaged":
    with path.open("r+b") as file:
      file.truncate(path.stat().st_size // 2)
  elif kind == "text":
    path.write_text("{}")
  else:
    name = "user_version" if kind == "newer" else "application_id"
    with contextlib.closing(sqlite3.connect(path)) as connection:
      connection.execute(f"PRAGMA {name} = 99")
  with pytest.raises(errors.InputError):
    store.open_database(path)
  with pytest.raises(errors.InputError):
    exports.export(path)
  assert len(store.list_migrations()) == review_database.NEWEST


def test_a_database_that_cannot_be_written(small, monkeypatch):
  monkeypatch.setattr(store, "_BUSY_S", 0)
  with contextlib.ExitStack() as stack:
    first, second = (
      stack.enter_context(contextlib.closing(store.open_database(small)))
      for _ in range(2)
    )
    refused = pytest.raises(store.WriteError)
    with store.transaction(first), refused, store.transaction(second):
      pass
    (pages,) = second.execute("PRAGMA page_count").fetchone()
    second.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(store.WriteError), store.transaction(second):
      while True:
        store.add_event(second, "release", note="x" * 10_000)
    with store.transaction(second):
      store.add_event(second, "release", note="fits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written(small):
  before = review_database.read(small)
  small.parent.chmod(0o500)
  try:
    assert review_database.read(small) == before
  finally:
    small.parent.chmod(0o700)


def test_refused_exports(small):
  with contextlib.closing(store.open_database(small)) as connection:
    query = "UPDATE image SET imagenet_m = 9 WHERE name = ?"
    connection.execute(query, (V2[1],))
  with pytest.raises(errors.InputError, check=raising.about("imagenet_m")):
    exports.export(small)


def test_pickle(files, tmp_path):
  path = tmp_path / "small.db"
  store.create(path, init.list_imagenet()).close()
  source = human_files.write_pickle(tmp_path / "human_accuracy.pickle")
  new = add(path, repo=files, annotations=[source])
  assert new["annotated"] == 16
  found = review_database.read(path)
  assert found["imagenet_m"] is None
  assert set(found["problematic_images"]) == {VALIDATION[6], V2[6]}
  assert json.loads(exports.export(path))["imagenet_m"] == []


def test_a_database_is_a_source_of_labels(files, small, tmp_path):
  """Of papers, of sets as TFDS names images, and of review merge."""
  old = reviews.read(files / "old.json")
  new = reviews.read(small)
  for name in ("labels", "problematic", "imagenet_m", "reasons"):
    assert getattr(new, name) == getattr(old, name)
  ids = [
    f"{label}/{image}.jpeg"
    for label, image in zip(LABELS[7:], V2, strict=False)
  ]
  for found, expected in zip(
    *(review_table.read_codes(p, ids) for p in (small, files / "old.json")),
    strict=True,
  ):
    np.testing.assert_array_equal(found, expected)
  results = [
    scoring.run(
      *(files / f"data/predictions/{datasets.VALIDATION}/same.npy",),
      *(
        "--model=mine",
        "--dataset=multilabel",
        f"--repo={files}",
        f"--annotations={source}",
      ),
      *(f"--out={tmp_path / source.stem}", scoring.write_config(tmp_path)),
    )
    for source in (small, files / "old.json")
  ]
  assert results[0] == results[1] and results[0]
  table = tmp_path / "a.csv"
  table.write_text(
    f"image_id,wnid,state,problematic,note\n{ids[0]},{WNID(9)},wrong,,\n"
  )
  texts = []
  for source in (small, files / "old.json"):
    out = f"--out={tmp_path / 'out.json'}"
    review_test.merge_files(table, f"--annotations={source}", out)
    texts.append(json.loads((tmp_path / "out.json").read_text()))
  assert texts[0] == texts[1]


def test_folder_of_images(tmp_path):
  root = tmp_path / "root"
  (root / "n01").mkdir(parents=True)
  Image.new("RGB", (4, 3)).save(root / "n01" / f"{V2[0]}.jpeg")
  Image.new("RGB", (4, 3)).save(root / "b.png")
  Image.new("RGB", (4, 3)).save(root / "c.gif")
  shutil.copy(root / "c.gif", root / "d.png")
  shutil.copy(root / "b.png", tmp_path / "secret.png")
  (root / "e.png").symlink_to("../secret.png")
  (root / "f.jpeg").symlink_to("nothing.jpeg")
  (root / "g").symlink_to(tmp_path)
  read = images.open_images(images.parse(str(root)))
  encoded = (root / "n01" / f"{V2[0]}.jpeg").read_bytes()
  assert read(V2[0]) == read(f"7/{V2[0]}.jpeg") == encoded
  assert read("b.png") == read("b") == (root / "b.png").read_bytes()
  names = ("c.gif", "c", "d", "e", "f", "g/secret.png", "../secret.png", "")
  assert [read(name) for name in names] == [None] * len(names)
  for text in ("nowhere", f"cifar10:test@{root}"):
    with pytest.raises(errors.InputError):
      images.open_images(images.parse(text))


def test_run_of_scenes(tmp_path):
  """Its classes, predictions, images, and the reviews of its set."""
  folder = tmp_path / "run"
  examples, source = review_test.write_scenes(folder)
  path = tmp_path / "scenes.db"
  store.create(path, init.list_run(str(folder))).close()
  add(path, predictions=[f"mine={folder}"], annotations=[folder])
  assert add(path, predictions=[f"mine={folder}"], annotations=[folder]) == {}
  found = json.loads(exports.export(path))
  wnids = source.info.class_names
  row = 5
  image = str(examples.image_id[row])
  assert found["initial_annots"][image] == {
    state: [wnids[i] for i in np.flatnonzero(examples.label_codes[row] == code)]
    for code, state in review_database.STATES.items()
    if code in examples.label_codes[row]
  }
  assert set(found["problematic_images"]) == set(
    examples.image_id[examples.left_out]
  )
  with review_database.open_read_only(path) as connection:
    name, spec, synthetic = connection.execute(
      "SELECT name, images, synthetic FROM dataset"
    ).fetchone()
    (model,) = connection.execute("SELECT name FROM model").fetchone()
  assert (name, model) == ("scenes:validation", "mine")
  read = images.open_images(json.loads(spec))
  np.testing.assert_array_equal(read(image), examples.image[row])
  assert read("unknown") is None
  imagenet = tmp_path / "imagenet.db"
  store.create(imagenet, init.list_imagenet()).close()
  with pytest.raises(errors.InputError, match="scenes:validation"):
    add(imagenet, predictions=[folder])


@pytest.fixture(name="public", scope="module")
def import_public(tmp_path_factory):
  """All real annotations, with the predictions of 40 models."""
  source = shared_files.shared_path("data/imagenet/multilabel_annotations.json")
  repo = shared_files.shared_path("data/ImageNetV2")
  path = tmp_path_factory.mktemp("public") / "reviews.db"
  store.create(path, init.list_imagenet(repo)).close()
  new = add(path, repo=repo, annotations=[source], annotated_only=True)
  assert (new["images"], new["problematic"], new["models"]) == (
    20_000,
    1_308,
    40,
  )
  return path, source, repo


def test_all_real_annotations(public):
  path, source, _ = public
  assert json.loads(exports.export(path)) == json.loads(source.read_text())
  found, expected = reviews.read(path), reviews.read(source)
  assert found.labels == expected.labels
  assert found.problematic == expected.problematic
  listed = [ids for entry in expected.labels.values() for ids in entry.values()]
  assert sum(len(set(ids)) for ids in listed) == 85_494


@pytest.mark.slow
def test_paper_of_40_models_with_a_database(public, tmp_path):
  path, source, repo = public
  texts = []
  for number, given in enumerate((path, source)):
    out = tmp_path / str(number)
    scripts.main(multilabel, out, f"--repo={repo}", f"--annotations={given}")
    texts.append(scripts.texts(out))
    texts[-1].pop("manifest.json")
  names = [name for name in texts[0] if texts[0][name] != texts[1].get(name)]
  assert not names and texts[0].keys() == texts[1].keys()
  assert len({row["model"] for row in scripts.csv_rows(out)}) >= 40


def test_five_workers_as_reviewers(public, tmp_path):
  """A worker's answer is two votes, on the given and on the guessed label."""
  path = tmp_path / "workers.db"
  shutil.copy(public[0], path)
  source = shared_files.shared_path("data/label-errors/imagenet_mturk.json")
  entries = json.loads(source.read_text())
  votes, control = [], 0
  with contextlib.closing(store.open_database(path)) as connection:
    ids = dict(map(tuple, connection.execute("SELECT name, id FROM image")))
    with store.transaction(connection):
      for entry in entries[::5]:
        image = ids.get(f"ILSVRC2012_val_{entry['id']:08d}.JPEG")
        if image is None:
          continue
        given, guessed = (
          entry[f"{k}_label"] for k in ("given_original", "our_guessed")
        )
        connection.execute(
          "INSERT OR IGNORE INTO prediction (image, class) VALUES (?, ?)",
          (image, guessed),
        )
        answers = [a for a, n in entry["mturk"].items() for _ in range(n)]
        for worker, answer in enumerate(answers):
          for label, name in ((given, "given"), (guessed, "guessed")):
            state = (
              annotations.CORRECT
              if answer in (name, "both")
              else annotations.WRONG
            )
            vote(
              connection,
              f"worker {worker}",
              image,
              label,
              state,
              control=control,
            )
        for name in ("given", "guessed"):
          yes = entry["mturk"][name] + entry["mturk"]["both"]
          votes.append((5 - yes, yes))
    found = agreement.measure(connection)
  votes = np.array(votes, float)
  p = (votes * (votes - 1)).sum(axis=1).mean() / 20
  e = ((votes.sum(axis=0) / votes.sum()) ** 2).sum()
  assert found["questions"] == len(votes) > 500
  assert found["fleiss"] == pytest.approx((p - e) / (1 - e))
  # With equal numbers of votes it differs by the correction for few of them.
  total = votes.sum()
  alpha = 1 - (1 - p) / ((total / (total - 1)) * (1 - e))
  assert found["krippendorff"] == pytest.approx(alpha)
  assert len(found["cohen"]) == 10 and found["control"] == []


def test_control_images(small):
  with contextlib.closing(store.open_database(small)) as connection:
    for user, target, state in (
      ("ada", 151, 3),
      ("ada", 152, 1),
      ("eve", 151, 4),
      ("eve", 153, 1),
    ):
      vote(connection, user, 1, target, state, control=1)
    found = agreement.measure(connection)
  assert found["control"] == [("ada", 1, 2), ("eve", 1, 1)]
  assert found["questions"] == 0 and found["krippendorff"] is None


def test_commands(files, tmp_path):
  """The command lines, and that the last one leaves an old file."""
  path, out = tmp_path / "new.db", tmp_path / "out.json"
  out.write_text("old")
  commands = [
    ("init", f"--repo={files}"),
    ("import", f"--repo={files}", f"--annotations={files / 'old.json'}"),
    ("status",),
    ("agreement",),
    ("export", f"--out={out}", "--at=9"),
  ]
  results = []
  for name, *args in commands:
    code = "from imgbench import commands as c; c.main()"
    results.append(
      processes.run_python("-c", code, "review", name, f"--db={path}", *args)
    )
  assert [r.returncode for r in results] == [0, 0, 0, 0, 2], results
  assert results[-1].stderr.count("\n") == 1 and out.read_text() == "old"
  assert "16" in results[2].stdout


@pytest.mark.slow
def test_the_builder_of_tfds_reads_an_export(tmp_path):
  """Accuracy on what it prepares is that of the live page."""
  manual = tmp_path / "manual"
  shutil.copytree(fake_folder.manual_dir(), manual, symlinks=True)
  file = manual / "human_accuracy_v3.0.0.json"
  old = json.loads(file.read_text())
  # ImageNetV2 has no annotations of its own.
  key, prepared = "imagenet_v2/matched-frequency", str(fake_folder.prepared())
  v2 = data.build_source(key, "test", prepared).examples().take(np.arange(9))
  for image, label in zip(v2.image_id, v2.label.tolist(), strict=True):
    entry = {"correct": [WNID(label)], "wrong": [WNID(7), WNID(8)]}
    old["initial_annots"][review_table.find_id(image)] = entry
  path = tmp_path / "reviews.db"
  store.create(path, init.list_imagenet()).close()
  others = [n for n in old["initial_annots"] if not n.startswith("ILSVRC")]
  names = [n for n in old["initial_annots"] if n.startswith("ILSVRC")]
  with (
    contextlib.closing(store.open_database(path)) as connection,
    store.transaction(connection),
  ):
    writer = importer.Importer(connection, "test")
    entries = [old["initial_annots"][n] for n in others]
    labels = [
      classes.index_of((e.get("correct") or [WNID(0)])[0]) for e in entries
    ]
    writer.add(importer.Images("v2", others, np.array(labels), {}))
    writer.add_annotations("old", old)
    rows = [writer.find(n) for n in names]
    query = "SELECT id, label FROM image"
    label_of = dict(map(tuple, connection.execute(query)))
    labels = np.array([label_of[row] for row in rows])
    top = np.random.default_rng(0).integers(0, 1000, len(names))
    models = {"net": ("test", top)}
    writer.add(
      importer.Images("imagenet2012:validation", names, labels, models)
    )
    writer.finish()
  # Every second prediction is reviewed: correct, wrong or unclear in turn.
  for name, label, state in zip(
    names[::2], top[::2].tolist(), [3, 1, 2] * len(rows), strict=False
  ):
    decide(path, name, label, state)
  file.write_text(exports.export(path))
  result = fake_folder.run_prepare(
    *("--dataset=imagenet2012_multilabel", "--skip_checksums"),
    *(f"--manual_dir={manual}", f"--data_dir={tmp_path / 'data'}"),
  )
  assert result.returncode == 0, result.stderr
  found = data.build_source(
    "imagenet2012_multilabel", "validation", str(tmp_path / "data")
  )
  examples = found.examples()
  codes, left_out = review_table.read_codes(path, examples.image_id)
  np.testing.assert_array_equal(examples.label_codes, codes)
  np.testing.assert_array_equal(examples.left_out, left_out)
  place = {n: i for i, n in enumerate(names)}
  chosen = top[[place[n] for n in examples.image_id]]
  right = (
    examples.label_codes[np.arange(len(chosen)), chosen] >= annotations.UNCLEAR
  )
  with review_database.open_read_only(path) as connection:
    query = "SELECT id FROM dataset WHERE name = 'imagenet2012:validation'"
    (number,) = connection.execute(query).fetchone()
  tracker = live.Accuracies(path, number)
  ((model, _),) = tracker.models
  shown = tracker.measure(model).rows["all"]
  shown = shown["multilabel_accuracy.lenient_mean"]
  counted = ~examples.left_out
  assert shown.n == counted.sum()
  assert shown.correct == (right & counted).sum() > 0
  codes = [
    data.build_source(key, "test", prepared, annotations=str(p)).examples()
    for p in (path, file)
  ]
  np.testing.assert_array_equal(*(c.label_codes for c in codes))
  np.testing.assert_array_equal(*(c.left_out for c in codes))
  assert (~codes[0].left_out).sum() == 9
