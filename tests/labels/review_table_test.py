"""Tests of tables of TFDS's reviewed labels."""

import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.labels import review_table
from tests import raising

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
