"""Tests of how TFDS's builders are run, without running them."""

import hashlib

import pytest
import tensorflow_datasets

from imgbench import errors
from imgbench.data import fake_imagenet_labels
from imgbench.data import fake_imagenet_plan
from imgbench.data import prepare
from imgbench.data import prepare_build
from imgbench.data import prepare_files


def test_two_processes_do_not_prepare_the_same_set(tmp_path):
  job = prepare.find_job("imagenet_a", tmp_path)
  with (
    prepare_build._work_folder(job) as folder,
    pytest.raises(errors.InputError, match="another process is preparing it"),
  ):
    assert folder.is_dir()
    prepare_build.build(job, prepare_files.Inputs(None))
  assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path, capsys):
  job = prepare.find_job("imagenet_a", tmp_path)
  left = tmp_path / ".imgbench_prepare" / "imagenet_a" / "data"
  left.mkdir(parents=True)
  (left / "shard").write_text("half")
  with prepare_build._work_folder(job) as folder:
    assert not list(folder.iterdir())
  assert f"removing {left}" in capsys.readouterr().err


def test_checksums_are_replaced_for_a_while_only(tmp_path):
  path = tmp_path / "real.json"
  fake_imagenet_labels.write_real(path, fake_imagenet_plan.Plan())
  builder = tensorflow_datasets.builder("imagenet2012_real")
  before = dict(builder.url_infos)
  (url,) = (url for url in before if url.endswith("real.json"))
  with prepare_build._taken_as_they_are(builder, tmp_path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert builder.url_infos[url].checksum == digest
  assert builder.url_infos == before
