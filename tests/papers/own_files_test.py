"""Tests of prediction files of kind npz, csv and jsonl, good and bad ones."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.papers import records
from tests import raising
from tests.papers import clones
from tests.papers import own_samples

V2 = clones.MATCHED_FREQUENCY
N = 20


@pytest.fixture
def dataset(tmp_path):
  return clones.dataset(tmp_path, V2, N)


@pytest.fixture
def ranking(dataset):
  return clones.ranking_of(dataset.labels.astype(np.int64), 0.7)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("bad", [3.0, True, None, "tench", "03", "", "n9"])
def test_labels_that_are_no_class_ids_are_refused(
  tmp_path, dataset, ranking, kind, bad
):
  labels = ranking.tolist()
  labels[4][1] = bad
  path = tmp_path / f"a.{kind}"
  own_samples.WRITERS[kind](path, dataset.image_ids, labels)
  line = {"csv": 6, "jsonl": 5}[kind]
  check = raising.about(
    f"{path}, line {line}",
    expected="a class id in [0, 1000) or a WordNet id",
    given=repr(bad if kind == "jsonl" else "" if bad is None else str(bad)),
  )
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_labels_may_be_wordnet_ids(tmp_path, dataset, ranking, kind):
  wnids = classes.imagenet_classes().wnids
  labels = [[wnids[k] for k in row] for row in ranking[:10]]
  labels += ranking[10:].tolist()
  path = tmp_path / f"a.{kind}"
  own_samples.WRITERS[kind](path, dataset.image_ids, labels)
  np.testing.assert_array_equal(own_samples.read(path, dataset), ranking)
  text = path.read_text().replace(wnids[ranking[0, 0]], "n01440765", 1)
  path.write_text(text)
  line = {"csv": 2, "jsonl": 1}[kind]
  check = raising.about(f"{path}, line {line}", given="'n01440765'")
  with pytest.raises(errors.InputError, check=check) as raised:
    own_samples.read(path, dataset)
  assert "n01440764" in raised.value.fix


def test_other_data_sets_have_class_ids_only(tmp_path):
  dataset = records.Dataset(
    name="cifar10",
    image_ids=np.array(["0", "1"]),
    labels=np.array([3, 9], np.int32),
    class_names=tuple("abcdefghij"),
    subsets={},
    path=tmp_path / "cifar10",
  )
  # Numbers as identifiers are texts, too.
  path = own_samples.write_npz(
    tmp_path / "a.npz", image_id=np.array([1, 0]), scores=np.eye(10)[[9, 4]]
  )
  assert own_samples.read(path, dataset)[:, 0].tolist() == [4, 9]
  path = own_samples.write_csv(tmp_path / "a.csv", "01", [[4], ["n01440764"]])
  check = raising.about(
    f"{path}, line 3", expected="a class id in [0, 10)", given="'n01440764'"
  )
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


@pytest.mark.parametrize(
  ("text", "setting", "given"),
  [
    ("", ", line 1", "''"),
    ("image_id\n", ", line 1", "'image_id'"),
    ("image,label1\n", ", line 1", "'image,label1'"),
    ("image_id,label2,label1\n", ", line 1", "'image_id,label2,label1'"),
    ("a,1\n", ", line 1", "'a,1'"),
    ("image_id,label1\n", "", 0),
    ("image_id,label1,label2\na,1\n", ", line 2", 2),
    ('image_id,label1\n"a,1\n', "", None),
    (b"image_id,label1\n\xff,1\n", "", None),
  ],
)
def test_other_csv_files_are_refused(tmp_path, dataset, text, setting, given):
  path = tmp_path / "a.csv"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


@pytest.mark.parametrize(
  ("text", "line", "expected"),
  [
    ("\n", 1, "a JSON object"),
    ("[1]\n", 1, None),
    ('{"image_id": 5, "labels": [1]}', 1, None),
    ('{"image_id": "a"}', 1, None),
    ('{"image_id": "a", "labels": []}', 1, "at least 1 labels"),
    (
      '{"image_id": "a", "labels": [1]}\n{"image_id": "b", "labels": [1, 2]}',
      2,
      "1 labels",
    ),
  ],
)
def test_other_jsonl_files_are_refused(tmp_path, dataset, text, line, expected):
  path = tmp_path / "a.jsonl"
  path.write_text(text)
  check = raising.about(f"{path}, line {line}", expected=expected)
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


def test_a_key_twice_is_refused(tmp_path, dataset):
  path = tmp_path / "a.jsonl"
  path.write_text('{"image_id": "a", "labels": [1], "labels": [2]}')
  check = raising.about(f"{path}, line 1, 'labels'")
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


def test_npz_of_scores(tmp_path, dataset):
  scores = np.random.default_rng(0).standard_normal((N, 1000), np.float32)
  order = np.arange(N)[::-1]
  path = own_samples.write_npz(
    tmp_path / "a.npz",
    image_id=dataset.image_ids[order].astype("S"),  # Bytes are UTF-8.
    scores=scores[order],
    label=dataset.labels[order],
  )
  wanted = np.argsort(-scores, axis=1)[:, :5]
  np.testing.assert_array_equal(own_samples.read(path, dataset), wanted)


@pytest.mark.parametrize(
  ("change", "setting", "expected", "given"),
  [
    (lambda a: a.pop("image_id"), "", None, "top5, label"),
    (lambda a: a.pop("top5"), "", None, "image_id, label"),
    (
      lambda a: a.update(scores=a["top5"] / 2),
      "",
      None,
      "image_id, top5, label, scores",
    ),
    (lambda a: a.update(image_id=a["top5"]), ": image_id", "text [N]", None),
    (
      lambda a: a.update(image_id=a["label"] / 2),
      ": image_id",
      "text [N]",
      "float64 [20]",
    ),
    (
      lambda a: a.update(image_id=np.array("a")),
      ": image_id",
      "text [N]",
      "<U1 []",
    ),
    (
      lambda a: a.update(image_id=a["image_id"].astype(object)),
      ": image_id",
      "text [N]",
      "object [20]",
    ),
    (
      lambda a: a.update(top5=a["top5"] + 0.5),
      ": top5",
      "an integer type",
      "float64",
    ),
    (
      lambda a: a.update(top5=a["top5"][1:]),
      ": top5",
      "integer [20, k]",
      "int64 [19, 5]",
    ),
    (lambda a: a.update(top5=a["label"]), ": top5", None, "int32 [20]"),
    (
      lambda a: a.update(label=a["label"][1:]),
      ": label",
      "integer [20]",
      "int32 [19]",
    ),
    (
      lambda a: a.update(label=(a["label"] + 1) % 1000),
      "",
      f"the labels of {V2}",
      None,
    ),
    (
      lambda a: (a.pop("top5"), a.update(scores=np.zeros((N, 10)))),
      ": scores",
      "floating-point [20, 1000]",
      "float64 [20, 10]",
    ),
    (
      lambda a: (a.pop("top5"), a.update(scores=np.zeros((N, 1000), int))),
      ": scores",
      "floating-point [20, 1000]",
      "int64 [20, 1000]",
    ),
  ],
)
def test_other_npz_files_are_refused(
  tmp_path, dataset, ranking, change, setting, expected, given
):
  arrays = {
    "image_id": dataset.image_ids,
    "top5": ranking,
    "label": dataset.labels,
  }
  change(arrays)
  path = own_samples.write_npz(tmp_path / "a.npz", **arrays)
  check = raising.about(f"{path}{setting}", expected=expected, given=given)
  with pytest.raises(errors.InputError, check=check):
    own_samples.read(path, dataset)


def test_fault_20_whole_floats_of_npz_files_are_integers(
  tmp_path, dataset, ranking
):
  arrays = {"image_id": dataset.image_ids, "top5": ranking}
  arrays["label"] = dataset.labels
  floats = {k: v / 1 if k != "image_id" else v for k, v in arrays.items()}
  plain, whole = (
    own_samples.read(own_samples.write_npz(tmp_path / name, **found), dataset)
    for name, found in (("a.npz", arrays), ("b.npz", floats))
  )
  assert repr(plain) == repr(whole)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_damaged_npz_files_are_refused(tmp_path, dataset, content):
  path = tmp_path / "a.npz"
  path.write_bytes(content)
  check = raising.about(str(path))
  with pytest.raises(errors.InputError, match=r"\.npz file", check=check):
    own_samples.read(path, dataset)


def test_classes_are_checked_in_the_order_of_the_file(
  tmp_path, dataset, ranking
):
  order = np.arange(N)[::-1]
  for kind, bad, place in (
    ("npz", 1000, ", row 17, column 4 (both from 0)"),
    ("csv", 1000, ", line 19"),
    ("jsonl", 1000, ", line 18"),
    ("npz", -2, ", row 17, column 4 (both from 0)"),
    ("csv", -1, ", line 19"),
    ("jsonl", -1, ", line 18"),
    ("npz", ranking[2, 0], ": ranking[17]"),
    ("csv", ranking[2, 0], ": ranking[17]"),
    ("jsonl", ranking[2, 0], ": ranking[17]"),
  ):
    changed = ranking.copy()
    changed[2, 4] = bad
    path = own_samples.write(
      kind, tmp_path, dataset.image_ids[order], changed[order]
    )
    check = raising.about(f"{path}{place}")
    with pytest.raises(errors.InputError, match=str(bad), check=check):
      own_samples.read(path, dataset)
