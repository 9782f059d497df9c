"""Tests of tables of TFDS's reviewed labels."""

import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import review_table
from imgbench.papers.readers import reviews
from tests import raising
from tests.data import shared_files

TFDS = (
  "file_name,correct_multi_labels,wrong_multi_labels,unclear_multi_labels,"
  "is_problematic\n"
)
LINE = "a.JPEG,0,,,False\n"


def write(folder, text):
  path = folder / "reviews.csv"
  path.write_text(text)
  return path


@pytest.mark.parametrize(
  ("header", "lines"),
  [
    (TFDS, "a.JPEG,[0 999],[],[5],False\nb.JPEG,[],[7],[],1\n"),
    (
      "id,category,original_label,proposed_labels,manually_validated,"
      "unclear_multi_labels,wrong_multi_labels,is_problematic\n",
      'a.JPEG,A,0,"0, 999",True,5,,False\nb.JPEG,Z,7,,True,,7,True\n',
    ),
  ],
)
def test_both_names_of_the_columns(tmp_path, header, lines):
  wnids = classes.imagenet_classes().wnids
  assert review_table.read(write(tmp_path, header + lines)) == {
    "initial_annots": {
      "a.JPEG": {
        "correct": [wnids[0], wnids[999]],
        "unclear": [wnids[5]],
        "wrong": [],
      },
      "b.JPEG": {"correct": [], "unclear": [], "wrong": [wnids[7]]},
    },
    "problematic_images": {"b.JPEG": "Z" if "category" in header else ""},
    "imagenet_m": None,
  }


@pytest.mark.parametrize(
  ("text", "setting"),
  [
    ("", ""),
    (TFDS.replace("file_name", "name"), ""),
    ("id," + TFDS, ""),
    (TFDS + LINE + LINE, ", line 3"),
    (TFDS + "a.JPEG,0,,\n", ", line 2"),
    (TFDS + "a.JPEG,0,,,False,\n", ", line 2"),
    (TFDS + "a.JPEG,0,,,perhaps\n", ", line 2"),
    (TFDS + "a.JPEG,1000,,,False\n", ", line 2: correct"),
    (TFDS + "a.JPEG,0,n01440764,,False\n", ", line 2: wrong"),
    (TFDS + "a.JPEG,0,,1.0,False\n", ", line 2: unclear"),
    (TFDS + 'a.JPEG,"0', ""),
  ],
)
def test_other_tables_are_refused(tmp_path, text, setting):
  path = write(tmp_path, text)
  check = raising.about(f"{path}{setting}")
  with pytest.raises(errors.InputError, check=check):
    review_table.read(path)


A, B = "0123456789abcdef0123" * 2, "f" * 40


@pytest.mark.parametrize("form", ["{}", "{}.jpeg", "7/{}.jpeg", "a/7/{}.jpg"])
@pytest.mark.parametrize("stored", ["{}", "{}.jpg", "{}.jpeg"])
def test_ids_of_all_forms_are_found(tmp_path, form, stored):
  text = f"{TFDS}{stored.format(A)},3,7,3 4,0\n{stored.format(B)},3,,,1\n"
  ids = [form.format(x) for x in (B, A, "e" * 40)]
  codes, left_out = review_table.read_codes(write(tmp_path, text), ids)
  assert left_out.tolist() == [True, False, True]
  found = {i: code for i, code in enumerate(codes[1].tolist()) if code}
  assert found == {3: 3, 4: 2, 7: 1}
  assert not codes[2].any()


def test_an_image_in_two_forms_is_refused(tmp_path):
  path = write(tmp_path, f"{TFDS}{A},3,,,0\n7/{A}.jpeg,4,,,0\n")
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    review_table.read_codes(path, [A])


@pytest.mark.parametrize(
  "text",
  [
    *("[]", "{}", "{", '{"initial_annots": {}, "problematic_images": {}}'),
    '{"initial_annots": {"a": {"correct": ["n1"]}}, "problematic_images": []}',
  ],
)
def test_other_reviews_are_refused(tmp_path, text):
  path = tmp_path / "reviews.json"
  path.write_text(text)
  with pytest.raises(errors.InputError, match=str(path)):
    review_table.read_codes(path, ["a"])


def test_real_annotations_have_the_codes_of_the_paper():
  folder = shared_files.shared_path("data", "imagenet")
  path = folder / "multilabel_annotations.json"
  found = reviews.read(path)
  ids = [*found.labels][:3000]
  codes, left_out = review_table.read_codes(path, ids)
  assert (codes == reviews.build_codes(found.labels, ids, 1000)).all()
  assert left_out.tolist() == [i in found.problematic for i in ids]
  table = review_table.read_codes(folder / "imagenet2012_multilabel.csv", ids)
  assert (table[0] == codes).all() and (table[1] == left_out).all()
