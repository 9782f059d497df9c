"""Tests of the addresses of folders."""

import os

import pytest

from imgbench import errors
from imgbench import paths
from imgbench.data import tfds_folder
from tests import raising


def test_fault_14_names_that_cannot_be_decoded_are_refused(
  tmp_path, monkeypatch
):
  folder = tmp_path / os.fsdecode(b"\xe9")
  about = raising.about("--workdir", given=ascii(str(folder)))
  with pytest.raises(errors.InputError, check=about):
    paths.as_path(folder, "--workdir")
  folder.mkdir()
  monkeypatch.chdir(folder)
  with pytest.raises(errors.InputError, check=raising.about("folder")):
    paths.as_path("run")
  assert paths.as_path(tmp_path / "é").name == "é"
  with pytest.raises(errors.InputError, check=raising.about("data_dir")):
    tfds_folder.open_folder("tiny", str(folder))
