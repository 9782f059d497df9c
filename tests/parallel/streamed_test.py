"""Tests of several processes whose images are decoded on the way."""

import sys

import pytest

from imgbench.train import loop
from tests.data import pipeline_test
from tests.parallel import jobs
from tests.parallel import processes_test
from tests.train import streamed_test

CONFIG = """
from tests.train import streamed_test

def get_config(arg=None):
  config = streamed_test.make_config({data_dir!r})
  config.parallel.devices = 0
  return config
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_each_process_decodes_its_share(tmp_path, strategy):
  """Mixed images in training; 30 examples in evaluation batches of 32."""
  data_dir = tmp_path / "data"
  data_dir.mkdir()
  pipeline_test.write(data_dir)
  path = tmp_path / "settings" / "streamed.py"
  path.parent.mkdir()
  path.write_text(CONFIG.format(data_dir=str(data_dir)))
  command = [
    *(sys.executable, "-m", "imgbench.main", f"--config={path}"),
    f"--workdir={tmp_path / 'two'}",
    f"--config.parallel.strategy={strategy}",
  ]
  job = jobs.Job(command, 2, 2, tmp_path / "logs")
  assert job.wait() == [0, 0], job.logs()
  config = streamed_test.make_config(str(data_dir))
  loop.train_and_evaluate(config, str(tmp_path / "one"))
  one, two = (
    processes_test.metrics(tmp_path / name) for name in ("one", "two")
  )
  assert two == pytest.approx(one, **processes_test.CLOSE)
  counted = processes_test.counted
  assert counted(tmp_path / "two") == counted(tmp_path / "one")
