"""Number of files of train/ that one training step goes through."""

import pathlib
import sys

from imgbench import config as config_lib
from imgbench import progress
from imgbench.configs import tiny
from imgbench.train import setup
from imgbench.train import stepper

TRAIN = pathlib.Path(setup.__file__).parent


def test_a_step_enters_at_most_three_files():
  prepared = setup.prepare(config_lib.parse(tiny.get_config()))
  steps = stepper.Stepper(prepared.training, prepared.state, (0, 16))
  shown = progress.Progress(16, 0, 24)
  entered = set()

  def note(frame, event, argument):
    del event, argument
    path = pathlib.Path(frame.f_code.co_filename)
    if path.parent == TRAIN:
      entered.add(path.name)

  sys.setprofile(note)
  try:
    _, done = steps.advance(prepared.state, 0, 1, lambda: False, shown.advance)
  finally:
    sys.setprofile(None)
  assert done == 1
  # And `loop.py`, which calls it.
  assert {"stepper.py"} < entered and len(entered | {"loop.py"}) <= 3
