"""Tests of the mark of synthetic images and its readers."""

import types

import pytest

from imgbench import data
from imgbench import errors
from imgbench.data import synthetic
from imgbench.prepare import files
from tests import raising
from tests.data import pipeline_test
from tests.data import tiny_tfds


def test_what_is_written_is_read(tmp_path):
  assert not synthetic.is_marked(tmp_path) and synthetic.read(tmp_path) == {}
  sizes = {"b.tar": 7, "a.tar": 2**40}
  synthetic.write(tmp_path, sizes)
  assert synthetic.is_marked(tmp_path) and synthetic.read(tmp_path) == sizes
  assert [path.name for path in tmp_path.iterdir()] == [synthetic.MARK]


@pytest.mark.parametrize(
  "content", ["", "{}", "[1]", '{"files": ["a"]}', '{"files": {"a": "much"}}']
)
def test_other_files_of_that_name_are_refused(tmp_path, content):
  mark = tmp_path / synthetic.MARK
  mark.write_text(content)
  with pytest.raises(errors.InputError, check=raising.about(str(mark))):
    synthetic.read(tmp_path)


@pytest.mark.parametrize("kind", ["streamed", "resident"])
def test_a_marked_folder_is_synthetic(tmp_path, kind):
  if kind == "streamed":
    pipeline_test.write(tmp_path)
  else:
    tiny_tfds.write(tmp_path, {"train": [tiny_tfds.examples(4)]})
  before = data.build_source("tiny", "train", str(tmp_path)).info
  assert before.streamed == (kind == "streamed") and not before.synthetic
  (description,) = tmp_path.rglob("dataset_info.json")
  synthetic.write(description.parent, {"a.tar": 1})
  after = data.build_source("tiny", "train", str(tmp_path)).info
  assert after.synthetic and after.fingerprint == before.fingerprint


def find_synthetic(folder, name="imagenet_a", given=()):
  """Returns the synthetic files that a set is prepared from."""
  builder = types.SimpleNamespace(url_infos={})
  inputs = files.Inputs(folder, dict(given))
  return inputs.find_synthetic(name, builder)


def test_a_set_prepared_from_synthetic_files(tmp_path):
  assert find_synthetic(tmp_path) == find_synthetic(None) == {}
  for name in ("imagenet-a.tar", "real.json"):
    (tmp_path / name).write_bytes(b"drawn")
  assert find_synthetic(tmp_path) == {}
  synthetic.write(tmp_path, {"imagenet-a.tar": 5, "real.json": 5})
  assert find_synthetic(tmp_path) == {"imagenet-a.tar": 5}
  assert find_synthetic(tmp_path, "imagenet_r") == {}
  assert find_synthetic(tmp_path, "mnist") == {}


def test_a_real_file_in_place_of_a_synthetic_one(tmp_path):
  synthetic.write(tmp_path, {"imagenet-a.tar": 5})
  (tmp_path / "imagenet-a.tar").write_bytes(b"fetched since")
  assert find_synthetic(tmp_path) == {}
  # Marked but missing, so TFDS downloads it.
  (tmp_path / "imagenet-a.tar").unlink()
  assert find_synthetic(tmp_path) == {}
