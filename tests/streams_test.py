"""Tests of closed, full, unread and replaced standard streams."""

import os
import subprocess
import sys

import pytest

from imgbench import errors
from imgbench import progress
from imgbench import streams
from tests.train import processes

IMGBENCH = (sys.executable, "-c", "import imgbench.commands as c; c.main()")
PROTECTED = "import os, sys\nfrom imgbench import streams\nstreams.protect()\n"
# Ends of a command line of a shell; the last one ends a reader at once.
PLACES = {
  "closed output": ">&-",
  "closed error": "2>&-",
  "all closed": "<&- >&- 2>&-",
  "full": ">/dev/full 2>/dev/full",
  "unread": "2>&1 | true",
}
SHORT = (
  "--config.steps.total=2 steps",
  "--config.logging.report=False",
  "--config.logging.tensorboard=False",
)
# Runs the program of a module with streams that can only be written to.
REPLACED = """
import runpy, sys
class Written:
  def __init__(self):
    self.write = sys.__stderr__.write
sys.stdout, sys.stderr = Written(), Written()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def run(command, place: str, code_file) -> tuple[int, str]:
  """Returns exit code and standard error of a command at a place."""
  line = f'"$@" {place}'
  if "|" in place:
    line = f'{{ "$@"; echo $? >{code_file}; }} {place}'
  shell = ["sh", "-c", line, "sh", *command]
  done = subprocess.run(
    shell,
    env=processes.environment(),
    cwd=processes.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  if "|" in place:
    return int(code_file.read_text()), done.stderr
  return done.returncode, done.stderr


class Written:
  """A stream that can only be written to."""

  def __init__(self):
    self.text = ""

  def write(self, text):
    self.text += text


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
  "arguments, code", [(["--help"], 0), (["trian"], errors.EXIT_USAGE)]
)
def test_fault_11_programs_end_with_their_own_code(
  tmp_path, place, arguments, code
):
  found = run([*IMGBENCH, *arguments], PLACES[place], tmp_path / "code")
  assert found[0] == code
  assert "Error" not in found[1]


@pytest.mark.parametrize("place", PLACES)
def test_fault_11_long_output_ends_with_the_own_code(tmp_path, place):
  script = PROTECTED + (
    "for _ in range(10_000): print('x' * 100)\n"
    "print('x' * 100, file=sys.stderr)\n"
  )
  if "full" not in place:  # A full disk may have space again.
    script += "os.write(2, b'x')\n"
  script += "sys.exit(3)"
  command = [sys.executable, "-c", script]
  found = run(command, PLACES[place], tmp_path / "code")
  assert found[0] == 3
  assert "Error" not in found[1]


def test_fault_11_files_do_not_get_the_number_of_a_closed_stream(tmp_path):
  script = PROTECTED + "sys.exit(os.open('.', os.O_RDONLY))"
  command = [sys.executable, "-c", script]
  code, _ = run(command, PLACES["all closed"], tmp_path / "code")
  assert code > 2


def test_fault_11_what_can_be_written_is_written():
  script = PROTECTED + "print('a\\u00e9')\nprint('b', file=sys.stderr)"
  done = processes.run_python("-c", script)
  assert (done.stdout, done.stderr) == ("aé\n", "b\n")


def test_fault_11_streams_without_isatty(monkeypatch):
  stream = Written()
  monkeypatch.setattr(sys, "stdout", stream)
  monkeypatch.setattr(sys, "stderr", stream)
  shown = progress.Progress(total=2, done=0, global_batch_size=5)
  shown.close()
  before = [os.fstat(number) for number in range(3)]
  streams.protect()
  assert [os.fstat(number) for number in range(3)] == before
  print("text", flush=True)
  assert not sys.stderr.isatty()
  assert stream.text == "text\n"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["all closed", "full"])
def test_fault_11_a_run_ends_with_its_own_code(tmp_path, place):
  workdir = tmp_path / "run"
  command = processes.command(workdir, *SHORT)
  code, text = run(command, PLACES[place], tmp_path / "code")
  assert code == errors.EXIT_DONE
  assert "Traceback" not in text
  assert processes.read_json(workdir, "status.json")["state"] == "done"


@pytest.mark.slow
def test_fault_11_tables_for_a_reader_that_ends(tmp_path):
  """A program whose modules are imported before it starts."""
  folder = processes.ROOT / "experiments/results/cpu_2_cores/bench_quick"
  compare = [sys.executable, "-m", "imgbench.bench.compare", *[str(folder)] * 2]
  code, text = run(compare, PLACES["unread"], tmp_path / "code")
  assert code == errors.EXIT_DONE
  assert "Traceback" not in text


@pytest.mark.slow
def test_fault_11_programs_with_replaced_streams(tmp_path):
  workdir = tmp_path / "run"
  command = processes.command(workdir, *SHORT)
  done = processes.run_python("-c", REPLACED, *command[2:])
  assert done.returncode == errors.EXIT_DONE, done.stderr
  assert "Traceback" not in done.stderr
  assert processes.read_json(workdir, "status.json")["state"] == "done"
