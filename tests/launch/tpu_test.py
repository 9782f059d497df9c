"""Executor tpu: exact commands, their documentation, the worker script."""

import functools
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time

from absl import flags
from etils import epath
import pytest

from imgbench import errors
from imgbench import living
from imgbench.launch import __main__ as program
from imgbench.launch import units
from imgbench.launch.tpu import commands
from imgbench.launch.tpu import executor
from imgbench.launch.tpu import slices
from tests import raising

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = ROOT / commands.WORKER
GOLDEN = pathlib.Path(__file__).with_name("tpu_golden.sh")
DOCS = ROOT / "docs" / "launch.md"
BUCKET = "gs://my-bucket/sweeps/peaks"
NEEDED = ("--project=my-project", "--zone=us-west4-a")
PLACE = commands.SliceSpec(
  project="my-project",
  zone="us-west4-a",
  accelerator_type="v5litepod-16",
  runtime_version="v2-alpha-tpuv5-lite",
  spot=True,
  service_account="trainer@my-project.iam.gserviceaccount.com",
  data="my-bucket/tfds",
  create_args=("--labels=team=vision",),
)


def _sweep(sweep_dir=BUCKET, config="configs/scenes.py:long"):
  folder = epath.Path(sweep_dir)
  points = [{"schedule.peak": p, "model.widths": (8, 16)} for p in (0.1, 0.2)]
  points.append({"schedule.warmup": "2 steps"})
  found = tuple(
    units.Unit(f"unit{i}", point, folder / f"unit{i}")
    for i, point in enumerate(points)
  )
  shared = {"data.data_dir": "/mnt/data"}
  return units.Sweep(folder, config, "", found, "tpu", shared)


def _values(*args):
  values = flags.FlagValues()
  executor.define_flags(values)
  values(["launch", *args])
  return values


def _script():
  sweep = _sweep()
  names = commands.name_slices("imgbench", sweep, 2)
  packing = commands.pack(
    pathlib.Path("/home/me/imgbench"),
    pathlib.Path("configs/scenes.py"),
    commands.ARCHIVE,
  )
  return commands.format_script(
    PLACE, sweep, sweep.units, names, packing, "20260801T120000"
  )


def test_the_commands_equal_the_golden_file():
  # After an intended change, write the result of `_script` to this file and
  # review the diff.
  assert _script() == GOLDEN.read_text()


def test_the_printed_commands_are_valid_bash():
  subprocess.run(["bash", "-n"], input=_script(), text=True, check=True)
  subprocess.run(["bash", "-n", str(WORKER)], check=True)


def test_a_command_reaches_the_run_unchanged():
  unit = _sweep().units[0]
  command = PLACE.run("slice", _sweep(), unit, 3)
  (text,) = [a for a in command if a.startswith("--command=")]
  words = shlex.split(text.removeprefix("--command="))
  assert words[:3] == ["bash", f"imgbench-code/{commands.WORKER}", "run"]
  assert words[3] == commands.name_run(unit, 3)
  assert words[4:] == _sweep().command(unit, python=".venv/bin/python")


@functools.cache
def _help(words):
  done = subprocess.run(
    ["gcloud", *words, "--help"], capture_output=True, text=True, check=True
  )
  return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)


def _gcloud_commands(text):
  """Yields words and flags of all gcloud commands in a shell script."""
  for line in text.replace("\\\n", " ").splitlines():
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    # Brackets and operators are separate words.
    parts = re.split(r"\0[()&|;<>]+\0", "\0\0".join(["", *lexer, ""]))
    for part in parts:
      words = [word for word in part.split("\0") if word]
      if "gcloud" not in words:
        continue
      words = words[words.index("gcloud") + 1 :]
      flags_ = [w.split("=")[0] for w in words if w.startswith("--")]
      names = itertools.takewhile(re.compile(r"[a-z-]+$").match, words)
      path = itertools.takewhile(lambda w: not w.startswith("-"), names)
      yield tuple(path), flags_


needs_gcloud = pytest.mark.skipif(
  shutil.which("gcloud") is None, reason="gcloud is not installed"
)


@pytest.mark.slow
@needs_gcloud
@pytest.mark.parametrize("source", ["script", "docs"])
def test_gcloud_documents_every_flag(source):
  more = (PLACE.node_state("name"), PLACE.stop("name"))
  text = "\n".join([_script(), *map(shlex.join, more)])
  if source == "docs":
    text = "\n".join(re.findall(r"```text\n(.*?)```", DOCS.read_text(), re.S))
  found = list(_gcloud_commands(text))
  assert len(found) >= 8
  for path, flags_ in found:
    # The last words may be names.
    while True:
      try:
        page = _help(path)
        break
      except subprocess.CalledProcessError:
        path = path[:-1]
        assert len(path) > 1, f"gcloud knows nothing of {path}"
    for flag in flags_:
      assert re.search(rf"{flag}\b", page), f"gcloud {' '.join(path)}: {flag}"


def test_the_documented_software_is_found():
  of = commands.find_runtime_version
  assert of("v5litepod-256") == "v2-alpha-tpuv5-lite"
  assert of("v4-8") == "tpu-ubuntu2204-base"
  check = raising.about("--accelerator_type", given="v5lite-16")
  with pytest.raises(errors.InputError, check=check) as error:
    of("v5lite-16")
  assert "v5litepod" in error.value.fix


@pytest.mark.parametrize(
  ("args", "sweep", "flag", "given"),
  [
    (["--zone=us-west4-a"], {}, "--project", "none"),
    (["--project=p"], {}, "--zone", "none"),
    (NEEDED, {"sweep_dir": "runs/x"}, "--sweep_dir", "runs/x"),
    ([*NEEDED, "--slices=0"], {}, "--slices", 0),
    ([*NEEDED, "--retries=-1"], {}, "--retries", -1),
    ([*NEEDED, "--name_prefix=My_Slices"], {}, "--name_prefix", "My_Slices"),
    ([*NEEDED, "--data_bucket=gs://"], {}, "--data_bucket", "gs://"),
    ([*NEEDED, "--create_args=--labels='a"], {}, "--create_args", None),
    (NEEDED, {"config": "/elsewhere/c.py"}, "--config", "/elsewhere/c.py"),
  ],
)
def test_bad_input_is_refused(args, sweep, flag, given):
  check = raising.about(flag, given=given)
  with pytest.raises(errors.InputError, check=check):
    executor.check(_sweep(**sweep), _values(*args))


def test_submitting_needs_gcloud_and_printing_does_not(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  monkeypatch.chdir(ROOT)
  check = raising.about("--submit", expected="gcloud")
  with pytest.raises(errors.InputError, check=check):
    executor.check(_sweep(), _values(*NEEDED, "--submit"))
  executor.check(_sweep(), _values(*NEEDED))


def test_without_submit_the_commands_are_printed(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(ROOT)
  sweep = _sweep(str(tmp_path))
  assert executor.run(sweep, _values(*NEEDED, "--slices=9")) == errors.EXIT_DONE
  text = capsys.readouterr().out
  # As many slices as runs, the default account, no Spot.
  assert text.count("queued-resources create") == 3
  assert "--spot" not in text and "--service-account" not in text
  assert not (tmp_path / executor.SLICES).exists()


@pytest.mark.parametrize("more", [(), ("--smoke",)])
def test_the_commands_of_a_bucket_are_printed_without_network(
  more, tmp_path, capsys, monkeypatch
):
  called = []
  refuse = lambda *args, **settings: called.append(args) or 1 / 0
  monkeypatch.setattr(socket.socket, "connect", refuse)
  monkeypatch.setattr(socket, "getaddrinfo", refuse)
  tool = tmp_path / "gcloud"
  tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
  tool.chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
  config = str(ROOT / "configs" / "tiny.py")
  argv = ["sweep", f"--config={config}", f"--sweep_dir={BUCKET}"]
  argv += ["--executor=tpu", *NEEDED, "--slices=2", *more]
  values = flags.FlagValues()
  program.define_flags(values, executor="tpu")
  values(argv)
  monkeypatch.setattr(program.flags, "FLAGS", values)
  monkeypatch.setattr(program.cli, "show_log", lambda: None)
  assert program.main(["sweep", program.RUN]) == errors.EXIT_DONE
  text = capsys.readouterr().out
  subprocess.run(["bash", "-n"], input=text, text=True, check=True)
  count = 1 if more else 4
  assert text.count("tpu_worker.sh run") == count
  # The script records the sweep, which `status` and the table read.
  head, _, rest = text.partition(" <<'END'\n")
  place = shlex.split(head.splitlines()[-1])[-1]
  assert place.startswith(BUCKET) and place.endswith(units.SWEEP)
  recorded = json.loads(rest.partition("\nEND\n")[0])
  assert len(recorded["units"]) == count and recorded["config"] == config
  assert not called and not (tmp_path / "called").exists()


def test_with_nothing_to_do_an_empty_script_is_printed(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(ROOT)
  sweep = _sweep(str(tmp_path))
  for unit in sweep.units:
    unit.workdir.mkdir()
    (unit.workdir / "status.json").write_text('{"state": "done"}')
  assert executor.run(sweep, _values(*NEEDED)) == errors.EXIT_DONE
  lines = capsys.readouterr().out.splitlines()
  assert all(line.startswith("#") for line in lines if line)
  assert lines[-1] == "# 3 runs: 3 done"


def test_runs_with_a_launcher_on_another_machine_are_refused(tmp_path):
  sweep = _sweep(str(tmp_path))
  process = {**living.describe_process(os.getpid()), "host": "elsewhere"}
  units.record_start(sweep.units[1], process=process)
  check = raising.about("unit1")
  with pytest.raises(errors.InputError, check=check) as error:
    executor.run(sweep, _values(*NEEDED))
  assert "elsewhere" in error.value.given


@pytest.fixture(name="vm")
def _vm(tmp_path):
  """Runs the worker script in its own home folder; stops what it left."""
  environment = {**os.environ, "HOME": str(tmp_path)}

  def start(*args):
    return subprocess.Popen(
      ["bash", str(WORKER), *args],
      **dict(env=environment, stdout=subprocess.PIPE, text=True),
      start_new_session=True,
    )

  yield start
  start("stop").wait()


def _run(vm, *args):
  with vm(*args) as process:
    text, _ = process.communicate()
  return process.returncode, text


SAVES = (
  "trap 'echo saved; exit 75' TERM; echo ready; while :; do sleep 0.1; done"
)


def test_a_vm_gives_output_and_exit_code_once(vm, tmp_path):
  code, text = _run(vm, "run", "a.1", "bash", "-c", "echo hello; exit 3")
  assert (code, text) == (3, "hello\n")
  # The same call again, as by gcloud, starts no second run.
  code, text = _run(vm, "run", "a.1", "bash", "-c", "echo twice")
  assert (code, text) == (3, "hello\n")


def test_a_run_outlives_its_connection_and_is_found_again(vm, tmp_path):
  with vm("run", "a.1", "bash", "-c", SAVES) as first:
    assert first.stdout.readline() == "ready\n"
    os.killpg(first.pid, signal.SIGKILL)
  with vm("run", "a.1", "echo", "another") as again:
    assert again.stdout.readline() == "ready\n"
    assert _run(vm, "stop")[0] == 0
    assert again.stdout.read().endswith("saved\n")
  assert again.returncode == 75


def test_another_run_lets_the_first_save(vm):
  with vm("run", "a.1", "bash", "-c", SAVES) as first:
    first.stdout.readline()
    assert _run(vm, "run", "a.2", "echo", "next") == (0, "next\n")
    assert first.stdout.read().endswith("saved\n")
  assert first.returncode == 75


def test_a_killed_run_has_the_exit_code_of_a_kill(vm, tmp_path):
  with vm("run", "a.1", "bash", "-c", SAVES) as first:
    first.stdout.readline()
    pid = int((tmp_path / "imgbench-runs" / "pid").read_text())
    os.killpg(pid, signal.SIGKILL)
  assert first.returncode == 137


def test_an_unknown_action_is_refused(vm):
  assert _run(vm, "dance")[0] == 2


def test_stop_without_a_run_is_no_error(vm):
  before = time.monotonic()
  assert _run(vm, "stop")[0] == 0
  assert time.monotonic() - before < 30


def test_fault_09_the_end_of_a_terminal_stops_a_launcher_once(capfd):
  """It may send SIGHUP twice, and a second signal would leave the slices."""
  names = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
  before = {number: signal.getsignal(number) for number in names}
  try:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop = slices.Stop()
    with stop.signals():
      for _ in range(2):
        signal.raise_signal(signal.SIGHUP)
    assert stop.requested
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
