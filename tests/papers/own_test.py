"""Tests of your models' predictions: flags, images, scores, and a clone."""

import pathlib

import numpy as np
import pytest

from imgbench import errors
from imgbench import run_files
from imgbench.experiments.benchmarks.paper_scripts import clone as testbed_clone
from imgbench.labels import classes
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import own
from tests import raising
from tests import written
from tests.papers import clones
from tests.papers import own_samples

VALIDATION, V2 = clones.VALIDATION, clones.MATCHED_FREQUENCY
N = 20


@pytest.fixture
def dataset(tmp_path):
  return clones.dataset(tmp_path, V2, N)


@pytest.fixture
def ranking(dataset):
  return clones.ranking_of(dataset.labels.astype(np.int64), 0.7)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("mine@imagenetv2-b-33=a.npy", ("mine", V2, "a.npy")),
    (
      "vit b/16=x@imagenetv2-b-33=d@e=f/a.npz",
      ("vit b/16=x", V2, "d@e=f/a.npz"),
    ),
  ],
)
def test_flags_are_taken_apart(text, expected):
  spec = own.parse(text)
  assert (spec.model, spec.dataset, str(spec.path)) == expected
  assert spec.flag == f"--predictions={text}"


def test_the_home_folder_is_known():
  assert own.parse("a@b=~/c.npy").path == pathlib.Path.home() / "c.npy"


@pytest.mark.parametrize(
  "text",
  ["", "mine", "mine@v2", "mine=a.npy", "@v2=a.npy", "mine@=a.npy", "m@v2=",
   " mine@v2=a.npy", "mi\nne@v2=a.npy"],
)  # fmt: skip
def test_flags_of_another_form_are_refused(text):
  check = raising.about("--predictions", given=repr(text))
  with pytest.raises(errors.InputError, match=own.FORM, check=check):
    own.parse(text)


def test_unknown_data_sets_and_kinds_are_refused(dataset):
  spec = own.Spec("mine", "imagenet_v2", pathlib.Path("a.npy"))
  check = raising.about(
    spec.flag, expected=f"data set {dataset.name}", given="'imagenet_v2'"
  )
  with pytest.raises(errors.InputError, check=check):
    own.read(spec, {dataset.name: dataset})
  for name in ("a.txt", "a"):
    path = pathlib.Path(name)
    check = raising.about(
      f"--predictions=mine@{V2}={path}", given=repr(path.suffix)
    )
    with pytest.raises(errors.InputError, match=r"\.jsonl", check=check):
      own_samples.read(path, dataset)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv", "a.jsonl"])
def test_absent_files_are_named(tmp_path, dataset, name):
  check = raising.about(str(tmp_path / name))
  with pytest.raises(errors.InputError, match="No such", check=check):
    own_samples.read(tmp_path / name, dataset)


@pytest.mark.parametrize("k", [1, 3, 5, 12])
def test_npy_of_ids(tmp_path, dataset, k):
  ranking = clones.ranking_of(dataset.labels.astype(np.int64), 0.7, k=k)
  np.save(tmp_path / "a.npy", ranking)
  np.testing.assert_array_equal(
    own_samples.read(tmp_path / "a.npy", dataset), ranking
  )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npy_of_scores_is_ranked(tmp_path, dataset, dtype):
  rng = np.random.default_rng(0)
  scores = rng.permuted(np.tile(np.arange(1000), (N, 1)), axis=1).astype(dtype)
  np.save(tmp_path / "a.npy", scores)
  wanted = np.argsort(-scores, axis=1, kind="stable")[:, :5]
  np.testing.assert_array_equal(
    own_samples.read(tmp_path / "a.npy", dataset), wanted
  )


def test_ties_and_rows_that_are_not_finite(tmp_path, dataset):
  scores = np.zeros((N, 1000), np.float64)
  scores[1, 7] = np.nan
  scores[2] = -np.inf
  scores[2, 30] = 1.0
  scores[3, 9] = 1e300  # Infinite in float32.
  scores[4, 9] = 1.0
  np.save(tmp_path / "a.npy", scores)
  found = own_samples.read(tmp_path / "a.npy", dataset)
  assert found[:5].tolist() == [
    [0, 1, 2, 3, 4],
    [-1] * 5,
    [30, -1, -1, -1, -1],
    [-1] * 5,
    [9, 0, 1, 2, 3],
  ]


def test_many_scores_are_ranked_batch_by_batch(tmp_path, monkeypatch):
  monkeypatch.setattr(own, "_ROWS_AT_ONCE", 8)
  dataset = clones.dataset(tmp_path, V2, N)
  scores = np.random.default_rng(0).standard_normal((N, 1000), np.float32)
  np.save(tmp_path / "a.npy", scores)
  wanted = np.argsort(-scores, axis=1)[:, :5]
  np.testing.assert_array_equal(
    own_samples.read(tmp_path / "a.npy", dataset), wanted
  )


@pytest.mark.parametrize(
  ("change", "setting", "given"),
  [
    (lambda r: r[:-1], "", "int64 [19, 5]"),
    (
      lambda r: np.where(r == r[0, 0], 1000, r),
      ", row 0, column 0 (both from 0)",
      1000,
    ),
    (
      lambda r: np.where(r == r[0, 0], -1, r),
      ", row 0, column 0 (both from 0)",
      -1,
    ),
    (lambda r: r.astype(float), "", "float64 [20, 5]"),
    (lambda r: np.zeros((N, 999)), "", "float64 [20, 999]"),
    (lambda r: np.zeros((N - 1, 1000)), "", "float64 [19, 1000]"),
  ],
)
def test_npy_files_of_other_arrays_are_refused(
  tmp_path, dataset, ranking, change, setting, given
):
  path = tmp_path / "a.npy"
  np.save(path, change(ranking))
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


@pytest.mark.parametrize(
  "change",
  [
    lambda r: np.repeat(r[:, :1], 2, axis=1),
    lambda r: np.zeros((N, 1000), int),
  ],
)
def test_classes_twice_in_a_row_are_refused(tmp_path, dataset, ranking, change):
  path = tmp_path / "a.npy"
  np.save(path, change(ranking))
  check = raising.about(f"{path}: ranking[0]")
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


@pytest.mark.parametrize("kind", ["npz", "csv", "jsonl"])
def test_files_with_image_ids_may_be_in_any_order(
  tmp_path, dataset, ranking, kind
):
  order = np.random.default_rng(1).permutation(N)
  path = own_samples.write(
    kind, tmp_path, dataset.image_ids[order], ranking[order]
  )
  np.testing.assert_array_equal(own_samples.read(path, dataset), ranking)


@pytest.mark.parametrize("kind", ["npz", "csv", "jsonl"])
def test_images_missing_doubled_or_unknown_are_refused(
  tmp_path, dataset, ranking, kind
):
  ids = dataset.image_ids.tolist()
  for change, setting, given, named in (
    (ids[:-2], "", 18, f"{ids[-2]}, {ids[-1]}"),
    ([*ids, ids[3]], ", row 20", f"{ids[3]} again", ids[3]),
    ([*ids[:-1], ids[0]], ", row 19", f"{ids[0]} again", ids[0]),
    ([*ids[:-1], "dog.jpg"], "", "1 others: dog.jpg", f"{V2}.json"),
    ([*ids, "dog.jpg"], "", "1 others: dog.jpg", ids[0]),
  ):
    path = own_samples.write(
      kind, tmp_path, change, np.resize(ranking, (len(change), 5))
    )
    check = raising.about(f"{path}{setting}", given=given)
    with pytest.raises(errors.InputError, match=named, check=check):
      own_samples.read(path, dataset)


def test_other_validation_images_are_left_aside(tmp_path):
  count = 30
  part = clones.dataset(tmp_path, datasets.VALIDATION_20K, N)
  ranking = clones.ranking_of(clones.labels_of(count), 0.5)
  ids = testbed_clone.image_ids(VALIDATION, count)
  path = own_samples.write("csv", tmp_path, ids, ranking)
  np.testing.assert_array_equal(own_samples.read(path, part), ranking[:N])
  ids[-1] = "ILSVRC2012_val_00050001.JPEG"  # There are 50,000.
  path = own_samples.write("csv", tmp_path, ids, ranking)
  with pytest.raises(
    errors.InputError, match="10 others", check=raising.about(str(path))
  ):
    own_samples.read(path, part)


def test_predictions_of_an_evaluation_are_read(tmp_path):
  """The evaluation program writes such files, with TFDS's names."""
  dataset = clones.dataset(tmp_path, V2, N)
  probs = np.random.default_rng(0).dirichlet(np.ones(1000), N)
  probs[3] = np.nan
  order = np.random.default_rng(1).permutation(N)
  evaluation, examples = written.evaluation(
    "imagenet_v2:test",
    classes.short_names(),
    probs[order],
    dataset.labels[order],
    keep=False,
  )
  names = [
    f"{k}/{i}.jpeg"
    for i, k in zip(dataset.image_ids, dataset.labels, strict=True)
  ]
  examples = type(examples)(
    image=examples.image,
    label=examples.label,
    image_id=np.array(names)[order],
  )
  written.write(tmp_path / "run", (evaluation, examples))
  (path,) = (tmp_path / "run" / run_files.PREDICTIONS).glob("*.npz")
  found = own_samples.read(path, dataset)
  wanted = np.argsort(-probs, axis=1)[:, :5]
  wanted[3] = -1
  np.testing.assert_array_equal(found, wanted)


def test_names_that_do_not_tell_the_image_are_refused(
  tmp_path, dataset, ranking
):
  ids = [f"{k}/{i}.jpeg" for i, k in enumerate(dataset.labels)]
  path = own_samples.write("npz", tmp_path, ids, ranking)
  check = raising.about(
    str(path), given=f"20 others: {', '.join(ids[:3])} and 17 more"
  )
  with pytest.raises(errors.InputError, check=check) as raised:
    own_samples.read(path, dataset)
  assert "release" in raised.value.fix
  folders = (dataset.labels + 1) % 1000
  ids = [
    f"{k}/{i}.jpeg" for i, k in zip(dataset.image_ids, folders, strict=True)
  ]
  path = own_samples.write("npz", tmp_path, ids, ranking)
  check = raising.about(str(path), given=ids[0])
  with pytest.raises(errors.InputError, check=check) as raised:
    own_samples.read(path, dataset)
  assert str(dataset.labels[0]) in raised.value.expected


def put(folder, labels, name="mine.csv", accuracy=0.6, k=7):
  ranking = clones.ranking_of(labels, accuracy, 5, k)
  ids = testbed_clone.image_ids(V2, len(labels))
  return own_samples.write_csv(folder / name, ids, ranking.tolist()), ranking


def test_they_join_the_models_of_a_clone(tmp_path):
  repo = clones.small(tmp_path)
  path, ranking = put(tmp_path, clones.labels_of(400, 1))
  found = clone.read(repo, own=[f"mine@{V2}={path}"])
  assert [p.model for p in found.predictions[V2]] == ["good", "mine", "poor"]
  # Metrics use five columns at most.
  np.testing.assert_array_equal(
    found.predictions[V2][1].ranking, ranking[:, :5]
  )
  assert found.own == {"mine"} and path in found.files
  (note,) = found.notes[1:]
  assert note.startswith(VALIDATION) and note.endswith("1 model: mine")


def test_a_file_that_serves_two_data_sets_is_named_once(tmp_path):
  labels = clones.labels_of(400)
  ranking = clones.ranking_of(labels, 0.5)
  sets = {datasets.VALIDATION_20K: (labels[:300], {}), VALIDATION: (labels, {})}
  repo = clones.write(tmp_path, sets)
  ids = testbed_clone.image_ids(VALIDATION, 400)
  path = own_samples.write("npz", tmp_path, ids, ranking)
  found = clone.read(repo, own=[f"mine@{name}={path}" for name in sets])
  assert list(found.datasets) == [VALIDATION, datasets.VALIDATION_20K]
  assert found.files.count(path) == 1 and len(found.files) == 4
  np.testing.assert_array_equal(
    found.predictions[datasets.VALIDATION_20K][0].ranking, ranking[:300]
  )


def test_they_may_be_the_only_ones_of_a_data_set(tmp_path):
  repo = clones.write(tmp_path, {V2: (clones.labels_of(400, 1), {})})
  path, _ = put(tmp_path, clones.labels_of(400, 1))
  found = clone.read(repo, own=[f"mine@{V2}={path}"])
  assert [p.model for p in found.predictions[V2]] == ["mine"]
  assert list(found.datasets) == [V2]


@pytest.mark.parametrize(
  ("flags", "given"),
  [
    (["good@{}={}"], "good"),
    (["good_model@{}={}"], "good_model"),
    (["mine@{}={}", "mine@{}={}"], "two"),
    (
      ["mine@{}={}", f"mine_model@{VALIDATION}={{1}}"],
      "mine and mine_model",
    ),
    (["mine@imagenetv2-x={1}"], "'imagenetv2-x'"),
  ],
)
def test_flags_that_clash_with_a_clone_are_refused(tmp_path, flags, given):
  repo = clones.small(tmp_path)
  path, _ = put(tmp_path, clones.labels_of(400, 1))
  flags = [flag.format(V2, path) for flag in flags]
  check = raising.about(f"--predictions={flags[-1]}", given=given)
  with pytest.raises(errors.InputError, check=check):
    clone.read(repo, own=flags)


def test_a_data_set_that_the_clone_lacks_is_refused(tmp_path):
  repo = clones.small(tmp_path)
  check = raising.about(str(repo / "data/datasets/imagenetv2-a-44.json"))
  with pytest.raises(errors.InputError, check=check):
    clone.read(repo, own=["mine@imagenetv2-a-44=a.npy"])


def test_worst_first_and_strange_files_are_noted(tmp_path):
  repo = clones.small(tmp_path)
  labels = clones.labels_of(400, 1)
  _, ranking = put(tmp_path, labels, accuracy=0.9)
  np.save(tmp_path / "turned.npy", ranking[:, ::-1])
  np.save(tmp_path / "moved.npy", np.roll(ranking, 7, axis=0))
  scores = np.zeros((400, 1000), np.float32)
  scores[np.arange(400), labels] = 1.0
  scores[:3, 0] = np.nan
  np.save(tmp_path / "nan.npy", scores)
  flags = [f"{m}@{V2}={tmp_path}/{m}.npy" for m in ("turned", "moved", "nan")]
  found = clone.read(repo, own=flags)
  models = [p.model for p in found.predictions[V2]]
  assert models == ["good", "moved", "nan", "poor"]
  notes = "\n".join(found.notes)
  assert f"{V2}: turned.npy " in notes
  assert f"moved on {V2}: right for 0 " in notes
  assert f"nan on {V2}: no prediction for 3 " in notes
  found = clone.read(repo, own=flags, allow_reversed=["turned"])
  np.testing.assert_array_equal(
    found.predictions[V2][-1].ranking, ranking[:, :5]
  )


def test_fault_20_classes_numbered_as_texts_are_noted(tmp_path):
  repo = clones.small(tmp_path)
  _, ranking = put(tmp_path, clones.labels_of(400, 1), accuracy=0.9)
  names = sorted(map(str, range(1000)))
  places = np.array([names.index(str(c)) for c in range(1000)])
  np.save(tmp_path / "folders.npy", places[ranking])
  np.save(tmp_path / "good.npy", ranking)
  flags = [f"{m}@{V2}={tmp_path}/{m}.npy" for m in ("folders", "good")]
  flags[1] = flags[1].replace("good@", "fine@")
  notes = [n for n in clone.read(repo, own=flags).notes if " on " in n]
  (note,) = notes
  hits = int((ranking[:, 0] == clones.labels_of(400, 1)).sum())
  assert note.startswith(f"folders on {V2}: ") and f" for {hits} if " in note


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
  "dtype", ["i2", ">i2", "u2", "i4", ">i4", "u4", "i8", ">i8", "u8", ">u8"]
)
def test_fault_20_ids_of_every_type(tmp_path, dataset, ranking, dtype, suffix):
  for form in (np.asfortranarray, lambda a: a[::-1].copy()[::-1]):
    ids = form(ranking.astype(dtype))
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
      np.save(path, ids)
    else:
      labels = dataset.labels.astype(dtype)
      np.savez(path, image_id=dataset.image_ids, top5=ids, label=labels)
    np.testing.assert_array_equal(own_samples.read(path, dataset), ranking)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
  "dtype", ["f2", ">f2", "f4", ">f4", "f8", ">f8", "longdouble"]
)
def test_fault_20_scores_of_every_type(tmp_path, dataset, dtype, suffix):
  rng = np.random.default_rng(0)
  scores = rng.permuted(np.tile(np.arange(1000), (N, 1)), axis=1)
  wanted = np.argsort(-scores, axis=1, kind="stable")[:, :5]
  path = tmp_path / f"a.{suffix}"
  scores = np.asfortranarray(scores.astype(dtype))
  if suffix == "npy":
    np.save(path, scores)
  else:
    np.savez(path, image_id=dataset.image_ids, scores=scores)
  np.testing.assert_array_equal(own_samples.read(path, dataset), wanted)


def test_fault_20_labels_as_a_column_are_refused(tmp_path, dataset, ranking):
  path = tmp_path / "a.npz"
  labels = dataset.labels[:, None]
  np.savez(path, image_id=dataset.image_ids, top5=ranking, label=labels)
  check = raising.about(f"{path}: label", given=f"int32 [{N}, 1]")
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)
