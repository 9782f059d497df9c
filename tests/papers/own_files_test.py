"""Tests of npz, csv and jsonl files: what they hold and what is refused."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.papers import records
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
  path = {"csv": own_samples.write_csv, "jsonl": own_samples.write_jsonl}[kind](
    tmp_path / f"a.{kind}", dataset.image_ids, labels
  )
  line = {"csv": 6, "jsonl": 5}[kind]
  with pytest.raises(
    errors.InputError, match=rf"a.{kind}:{line}: expected a class id in .0, 10"
  ):
    own_samples.read(path, dataset)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_labels_may_be_wordnet_ids(tmp_path, dataset, ranking, kind):
  wnids = classes.imagenet_classes().wnids
  labels = [[wnids[k] for k in row] for row in ranking[:10]]
  labels += ranking[10:].tolist()
  path = {"csv": own_samples.write_csv, "jsonl": own_samples.write_jsonl}[kind](
    tmp_path / f"a.{kind}", dataset.image_ids, labels
  )
  np.testing.assert_array_equal(own_samples.read(path, dataset), ranking)
  text = path.read_text().replace(wnids[ranking[0, 0]], "n01440765", 1)
  path.write_text(text)
  with pytest.raises(
    errors.InputError, match="'n01440765'; did you .*n01440764"
  ):
    own_samples.read(path, dataset)


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
  with pytest.raises(
    errors.InputError, match=r"in \[0, 10\), got 'n01440764'$"
  ):
    own_samples.read(path, dataset)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "csv:1: expected the header image_id,label1,...,labelk, got nothing"),
    ("image_id\n", "csv:1: expected the header .* got image_id"),
    ("image,label1\n", "csv:1: expected the header .* got image,label1"),
    ("image_id,label2,label1\n", "csv:1: expected the header"),
    ("a,1\n", "csv:1: expected the header"),
    ("image_id,label1\n", "all 20 images of .* got 0"),
    ("image_id,label1,label2\na,1\n", "csv:2: expected 3 cells .* got 2"),
    ('image_id,label1\n"a,1\n', "expected lines of UTF-8 text, got unexpected"),
    (b"image_id,label1\n\xff,1\n", "expected lines of UTF-8 text, got 'utf-8'"),
  ],
)
def test_other_csv_files_are_refused(tmp_path, dataset, text, message):
  path = tmp_path / "a.csv"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(errors.InputError, match=message):
    own_samples.read(path, dataset)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("\n", "jsonl:1: expected a JSON object"),
    ("[1]\n", r"jsonl:1: expected an object .* got \[1\]"),
    ('{"image_id": 5, "labels": [1]}', "jsonl:1: expected an object"),
    ('{"image_id": "a"}', "jsonl:1: expected an object"),
    (
      '{"image_id": "a", "labels": [1], "labels": [2]}',
      "jsonl:1: expected a JSON object, got 'labels' stands there twice",
    ),
    ('{"image_id": "a", "labels": []}', "jsonl:1: expected at least 1 labels"),
    (
      '{"image_id": "a", "labels": [1]}\n{"image_id": "b", "labels": [1, 2]}',
      "jsonl:2: expected 1 labels, got 2",
    ),
  ],
)
def test_other_jsonl_files_are_refused(tmp_path, dataset, text, message):
  path = tmp_path / "a.jsonl"
  path.write_text(text)
  with pytest.raises(errors.InputError, match=message):
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
  ("change", "message"),
  [
    (
      lambda a: a.pop("image_id"),
      "image_id and either top5 or scores, got top5",
    ),
    (lambda a: a.pop("top5"), "either top5 or scores, got image_id, label"),
    (lambda a: a.update(scores=a["top5"] / 2), "either top5 or scores, got"),
    (lambda a: a.update(image_id=a["top5"]), r"image_id: expected text \[N\]"),
    (lambda a: a.update(image_id=a["label"] / 2), "image_id: expected text"),
    (lambda a: a.update(image_id=np.array("a")), "image_id: expected text"),
    (
      lambda a: a.update(image_id=a["image_id"].astype(object)),
      "expected an .npz file .* got ValueError",
    ),
    (
      lambda a: a.update(top5=a["top5"] / 1),
      r"top5: expected integer \[20, k\]",
    ),
    (lambda a: a.update(top5=a["top5"][1:]), r"top5: .* got int64 \[19, 5\]"),
    (lambda a: a.update(top5=a["label"]), r"top5: .* got int32 \[20\]"),
    (
      lambda a: a.update(label=a["label"][1:]),
      r"label: expected integer \[20\]",
    ),
    (
      lambda a: a.update(label=(a["label"] + 1) % 1000),
      f"the labels of {V2}, got another one for 20 images, e.g.",
    ),
    (
      lambda a: (a.pop("top5"), a.update(scores=np.zeros((N, 10)))),
      r"scores: expected floating-point \[20, 1000\], got float64 \[20, 10\]",
    ),
    (
      lambda a: (a.pop("top5"), a.update(scores=np.zeros((N, 1000), int))),
      "scores: expected floating-point",
    ),
  ],
)
def test_other_npz_files_are_refused(
  tmp_path, dataset, ranking, change, message
):
  arrays = {
    "image_id": dataset.image_ids,
    "top5": ranking,
    "label": dataset.labels,
  }
  change(arrays)
  path = own_samples.write_npz(tmp_path / "a.npz", **arrays)
  with pytest.raises(errors.InputError, match=message):
    own_samples.read(path, dataset)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"])
def test_damaged_npz_files_are_refused(tmp_path, dataset, content):
  path = tmp_path / "a.npz"
  path.write_bytes(content)
  with pytest.raises(errors.InputError, match="a.npz: expected an .npz file"):
    own_samples.read(path, dataset)


def test_classes_are_checked_in_the_order_of_the_file(
  tmp_path, dataset, ranking
):
  order = np.arange(N)[::-1]
  for kind, bad, message in (
    ("npz", 1000, r"got 1000 in row 17, column 4"),
    ("csv", 1000, r"csv:19: expected a class id in .* got '1000'"),
    ("jsonl", 1000, r"jsonl:18: expected a class id in .* got 1000"),
    ("npz", -2, "got -2 in row 17"),
    ("csv", -1, r"csv:19: .* got '-1'"),
    ("jsonl", -1, r"jsonl:18: .* got -1"),
    ("npz", ranking[2, 0], "different classes, .* in row 17"),
    ("csv", ranking[2, 0], "different classes, .* in row 17"),
    ("jsonl", ranking[2, 0], "different classes, .* in row 17"),
  ):
    changed = ranking.copy()
    changed[2, 4] = bad
    path = own_samples.write(
      kind, tmp_path, dataset.image_ids[order], changed[order]
    )
    with pytest.raises(errors.InputError, match=message):
      own_samples.read(path, dataset)
