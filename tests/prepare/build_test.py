"""Tests of running TFDS's builders, without running them."""

import hashlib

import pytest
import tensorflow_datasets

from imgbench import errors
from imgbench.prepare import __main__ as prepare
from imgbench.prepare import build
from imgbench.prepare import files
from imgbench.prepare.fake_imagenet import label_files
from imgbench.prepare.fake_imagenet import plan
from tests import raising


def test_two_processes_do_not_prepare_the_same_set(tmp_path):
  job = prepare.find_job("imagenet_a", tmp_path)
  with (
    build._work_folder(job) as folder,
    pytest.raises(errors.InputError, check=raising.about("imagenet_a")),
  ):
    assert folder.is_dir()
    build.build(job, files.Inputs(None))
  assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path, capsys):
  job = prepare.find_job("imagenet_a", tmp_path)
  left = tmp_path / ".imgbench_prepare" / "imagenet_a" / "data"
  left.mkdir(parents=True)
  (left / "shard").write_text("half")
  with build._work_folder(job) as folder:
    assert not list(folder.iterdir())
  assert str(left) in capsys.readouterr().err


def test_checksums_are_replaced_for_a_while_only(tmp_path):
  path = tmp_path / "real.json"
  label_files.write_real(path, plan.PicturePlan())
  builder = tensorflow_datasets.builder("imagenet2012_real")
  before = dict(builder.url_infos)
  (url,) = (url for url in before if url.endswith("real.json"))
  with build._accept_checksums(builder, tmp_path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert builder.url_infos[url].checksum == digest
  assert builder.url_infos == before
