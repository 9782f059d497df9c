import pickle

from absl import logging
import pytest

from imgbench import cli
from imgbench import errors
from tests import raising


def test_input_error_carries_what_its_line_says():
  error = errors.InputError("optim.lr", "a number above 0", -1, "set it to 0.1")
  assert error.setting == "optim.lr"
  assert error.expected == "a number above 0"
  assert error.given == -1
  line = "optim.lr: expected a number above 0, got -1; set it to 0.1"
  assert str(error) == line


def test_input_error_survives_a_pickle():
  error = errors.InputError("--out", "a folder", "'x'")
  copy = pickle.loads(pickle.dumps(error))
  assert str(copy) == str(error)
  assert vars(copy) == vars(error)


def test_prefix_goes_before_the_setting():
  error = errors.InputError("depth", "at least 1", 0)
  assert error.prefixed("model.").setting == "model.depth"
  nameless = errors.InputError("", "at least 1", 0)
  assert nameless.prefixed("model.").setting == "model"


def test_about_checks_each_part():
  error = errors.InputError("depth", "at least 1", 0)
  assert raising.about("depth", expected="at least 1", given=0)(error)
  for wrong in (
    raising.about("width"),
    raising.about("depth", expected="at least 2"),
    raising.about("depth", given=1),
  ):
    with pytest.raises(AssertionError):
      wrong(error)


def test_fault_22_a_message_is_one_printable_line():
  error = errors.InputError("a\x1b[2J", "x\ny", "\u202ez", "\x9b\r\ud800")
  assert str(error).isprintable() and str(error).startswith("a [2J: ")
  assert error.setting == "a\x1b[2J"


def test_fault_22_programs_print_no_raw_escapes(capsys):
  for raised in (errors.RunError, errors.Preempted):
    with pytest.raises(SystemExit), cli.one_line_errors():
      raise raised("a\x1b]0;x\x07\nb")
    out, line = capsys.readouterr()
    assert not out and line.endswith("a ]0;x  b\n") and line[:-1].isprintable()


def test_fault_22_the_log_has_no_raw_escapes(capfd):
  handler = logging.get_absl_handler()
  before, level = handler.formatter, logging.get_verbosity()
  try:
    cli.show_log()
    record = logging.ABSLLogger("x").makeRecord(
      "x", 20, "f", 1, "%s", ("a\x1b[2J\nb",), None
    )
    assert handler.format(record).endswith(" a [2J\nb")
  finally:
    handler.setFormatter(before)
    logging.set_verbosity(level)
