"""Tests of what programs share: config files, and errors in one line."""

import pathlib
import sys

from absl import flags
import pytest

from imgbench import cli
from imgbench import errors
from tests import raising

ROOT = pathlib.Path(__file__).parents[1]
TINY = str(ROOT / "configs/tiny.py")


@pytest.fixture
def workdir(tmp_path, monkeypatch):
  """Returns the --workdir of the command line, which exists."""
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "", flag_values=values)
  monkeypatch.setattr(cli.flags, "FLAGS", values)
  folder = tmp_path / "run"
  folder.mkdir()
  monkeypatch.setattr(sys, "argv", ["imgbench", "--workdir", str(folder)])
  return folder


def end(error: BaseException) -> int:
  """Returns the exit code of a program whose block raises an error."""
  with pytest.raises(SystemExit) as stop, cli.one_line_errors():
    raise error
  return stop.value.code


@pytest.mark.parametrize(
  ("lines", "kind", "line"),
  [
    ("def get_config():\n  raise RuntimeError('a\\nb')", "RuntimeError", 2),
    ("def get_config():\n  return int('x')", "ValueError", 2),
    ("def get_config():\n  return open('/absent')", "FileNotFoundError", 2),
    ("def get_config():\n  return get_config()", "RecursionError", 2),
    ("\n\nimport absent_module", "ModuleNotFoundError", 3),
    ("def get_config(:", "SyntaxError", 1),
    ("from tests import raising\n1 / 0", "ZeroDivisionError", 2),
  ],
)
def test_fault_17_an_error_in_a_config_names_its_line(
  tmp_path, lines, kind, line
):
  path = tmp_path / "mine.py"
  path.write_text(lines)
  about = raising.about("--config", given=path)
  with pytest.raises(errors.InputError, check=about) as caught:
    cli.read_config(str(path))
  assert caught.value.fix.startswith(kind)
  assert f"mine.py, line {line})" in caught.value.fix
  assert "\n" not in str(caught.value)
  assert type(caught.value.__cause__).__name__ == kind


@pytest.mark.parametrize("value", ["None", "3", "{'seed': 1}"])
def test_fault_17_a_config_that_returns_none(tmp_path, value):
  path = tmp_path / "mine.py"
  path.write_text(f"def get_config():\n  return {value}")
  about = raising.about("--config")
  with pytest.raises(errors.InputError, check=about) as caught:
    cli.read_config(str(path))
  assert str(path) in caught.value.given


@pytest.mark.parametrize("name", ["absent.py", "x" * 300 + ".py", "."])
def test_fault_17_a_config_that_is_no_file(name):
  with pytest.raises(errors.InputError, check=raising.about("--config")):
    cli.read_config(name)


def test_fault_17_a_loop_of_links_is_no_config(tmp_path):
  for name, target in (("a", "b"), ("b", "a")):
    (tmp_path / name).symlink_to(tmp_path / target)
  with pytest.raises(errors.InputError, check=raising.about("--config")):
    cli.read_config(str(tmp_path / "a"))
  assert "x" in errors.describe(ValueError("x"), tmp_path / "a")


def test_configs_may_define_dataclasses(tmp_path):
  path = tmp_path / "own.py"
  path.write_text(
    "from __future__ import annotations\nimport dataclasses\n"
    "from imgbench.configs import tiny\n\n"
    "@dataclasses.dataclass\nclass Size:\n  steps: int = 3\n\n"
    "def get_config():\n  config = tiny.get_config()\n"
    "  config.steps.total = f'{Size().steps} steps'\n  return config\n"
  )
  assert cli.read_config(str(path)).steps.total == "3 steps"


def test_fault_17_flag_files(tmp_path):
  path = tmp_path / "flags"
  path.write_bytes(bytes(range(256)))
  for name in ("absent", str(tmp_path), str(path)):
    about = raising.about("--flagfile")
    with pytest.raises(errors.InputError, check=about):
      cli.read_flag_files(["imgbench", f"--flagfile={name}"])
  path.write_text(f"--config={TINY}\n--config.modle.name=cnn\n")
  argv = cli.read_flag_files(["imgbench", f"--flagfile={path}", "--traceback"])
  assert argv[1:] == [*path.read_text().split(), "--traceback"]


@pytest.mark.parametrize(
  ("error", "code"),
  [
    (ZeroDivisionError("a\nb"), errors.EXIT_FAILED),
    (MemoryError(), errors.EXIT_FAILED),
    (errors.RunError("full"), errors.EXIT_FAILED),
    (errors.InputError("seed", "a seed", "none"), errors.EXIT_USAGE),
  ],
)
def test_fault_17_every_error_is_one_line(workdir, capfd, error, code):
  assert end(error) == code
  (line,) = capfd.readouterr().err.splitlines()
  saved = workdir / cli.TRACEBACK
  assert line.startswith("imgbench: error: ")
  known = isinstance(error, (errors.InputError, errors.RunError))
  assert (str(error) in line) == (known or not str(error).count("\n"))
  assert (str(saved) in line) != known
  assert (type(error).__name__ in line) != known
  last = saved.read_text().splitlines()
  assert last[0].startswith("Traceback")
  assert any(pathlib.Path(__file__).name in x for x in last)
  assert [path.name for path in workdir.iterdir()] == [cli.TRACEBACK]


def test_fault_17_a_traceback_that_is_asked_for(workdir, capfd, monkeypatch):
  monkeypatch.setattr(sys, "argv", [*sys.argv, "--absent=1", "--traceback"])
  assert end(ZeroDivisionError("a")) == errors.EXIT_FAILED
  lines = capfd.readouterr().err.splitlines()
  saved = (workdir / cli.TRACEBACK).read_text().splitlines()
  assert lines[:-1] == saved and lines[-1].startswith("imgbench: error: ")


@pytest.mark.parametrize("folder", ["absent", "file", "x" * 300])
def test_fault_17_no_workdir_for_the_traceback(workdir, monkeypatch, folder):
  (workdir.parent / "file").touch()
  monkeypatch.setattr(sys, "argv", ["", f"--workdir={workdir.parent / folder}"])
  assert end(ZeroDivisionError("a")) == errors.EXIT_FAILED
  assert {p.name for p in workdir.parent.iterdir()} == {"file", "run"}


def test_fault_17_what_is_no_error_keeps_its_meaning(workdir):
  assert end(errors.Preempted("saved")) == errors.EXIT_PREEMPTED
  assert end(SystemExit(7)) == 7
  with pytest.raises(KeyboardInterrupt), cli.one_line_errors():
    raise KeyboardInterrupt
  assert not list(workdir.iterdir())


class Second:
  """The second of two processes; see `processes.Group`."""

  first = False

  def __init__(self):
    self.told = []

  def fail(self, error, code, text=""):
    self.told.append((text, code))


def test_fault_17_the_first_process_saves_the_traceback(workdir):
  group = Second()
  with pytest.raises(SystemExit), cli.one_line_errors(group):
    raise ZeroDivisionError("a\nb")
  ((text, code),) = group.told
  assert code == errors.EXIT_FAILED
  assert text.startswith("ZeroDivisionError: a b")
  assert not list(workdir.iterdir())


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_fault_17_numbers_of_flags_are_finite(monkeypatch, text):
  values = flags.FlagValues()
  flags.DEFINE_float("alpha", 0.05, "", flag_values=values)
  monkeypatch.setattr(cli.flags, "FLAGS", values)
  about = raising.about("--alpha", given=float(text))
  with pytest.raises(errors.InputError, check=about):
    cli.parse_flags(["", f"--alpha={text}"], required=())
