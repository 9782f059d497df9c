"""Tests of options and platforms of JAX that users set in the environment."""

import concurrent.futures
import json
import subprocess
import sys
import types

import jax
import pytest

from imgbench import environment
from imgbench import errors
from imgbench import jax_options
from tests import forked
from tests import raising
from tests.train import processes

TINY = f"--config={processes.ROOT / 'configs/tiny.py'}"
PLATFORMS = ("cuda", "gpu", "CPU", "tpu,cpu", "cpu,tpu", "nonsense")


def start_devices(platforms: tuple[str, ...]) -> str:
  """Returns a program that prints what errors of JAX become."""
  return (
    "import jax\n"
    "from jax.extend import backend\n"
    "from imgbench import errors\n"
    "from imgbench import jax_options\n"
    f"for name in {platforms!r}:\n"
    "  backend.clear_backends()\n"
    "  jax.config.update('jax_platforms', name)\n"
    "  try:\n"
    "    with jax_options.platform_errors():\n"
    "      jax.devices()\n"
    "  except errors.InputError as error:\n"
    "    print(error.setting, error.expected, error.given, sep='|')"
  )


def test_fault_14_platforms_that_are_absent():
  result = processes.run_python("-c", start_devices((*PLATFORMS, "cpu")))
  assert [line.split("|") for line in result.stdout.splitlines()] == [
    ["JAX_PLATFORMS", "platforms of this machine, cpu", repr(name)]
    for name in PLATFORMS
  ]


@pytest.mark.parametrize("platforms", ["", "cuda"])
def test_fault_14_other_errors_pass(monkeypatch, platforms):
  monkeypatch.setattr(
    jax_options.jax, "config", types.SimpleNamespace(jax_platforms=platforms)
  )
  for error in (RuntimeError("other"), AssertionError()):
    with pytest.raises(type(error)), jax_options.platform_errors():
      raise error


@pytest.mark.slow
@pytest.mark.parametrize("platforms", ["cuda", "nonsense"])
def test_fault_14_programs_refuse_absent_platforms(tmp_path, platforms):
  lines = [
    ["imgbench.main", TINY, "--workdir=run"],
    [
      *("imgbench.bench", "--out=bench"),
      f"--config={processes.ROOT / 'configs/bench.py'}:quick",
    ],
    ["imgbench.bench.scaling", TINY, "--out=scaling"],
    ["imgbench.experiments.benchmarks.step", TINY, "--out=step"],
  ]
  for outcome in forked.run_all(lines, tmp_path, platforms=platforms):
    assert outcome.code == errors.EXIT_USAGE
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("imgbench: error: JAX_PLATFORMS: expected ")
    assert repr(platforms) in line


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("jax_disable_jit", True),
    ("jax_numpy_dtype_promotion", "strict"),
    ("jax_random_seed_offset", 1),
    ("jax_transfer_guard_host_to_device", "disallow"),
    ("jax_default_matmul_precision", "ANY_F8_ANY_F8_F32"),
  ],
)
def test_fault_14_options_without_which_no_model_trains(name, value):
  before = jax.config.values[name]
  jax.config.update(name, value)
  try:
    about = raising.about(name.upper(), given=value)
    with pytest.raises(errors.InputError, check=about):
      jax_options.check()
  finally:
    jax.config.update(name, before)
  jax_options.check()


def test_fault_14_options_are_recorded(monkeypatch):
  recorded = environment.find_jax_options()
  assert recorded["jax_enable_x64"] is False
  assert recorded["jax_numpy_rank_promotion"] == "raise"  # Set by conftest.py.
  assert recorded["jax_platforms"] == jax.config.jax_platforms
  assert not {"jax_log_compiles", "jax_compilation_cache_dir"} & recorded.keys()
  monkeypatch.setenv("JAX_LOG_COMPILES", "0")
  assert environment.find_jax_options()["jax_log_compiles"] is False
  assert json.loads(json.dumps(recorded)) == recorded


def build_groups(size: int = 7) -> list[dict]:
  """Returns all values of all options; those of many values are alone.

  Most of these are refused on a CPU.
  """
  program = (
    "import json; from tests.train import option_runs;"
    " print(json.dumps(option_runs.list_options()))"
  )
  alone, groups = [], []
  options = json.loads(processes.run_python("-c", program).stdout)
  for name, values in options.items():
    for value in values:
      fits = [g for g in groups if name not in g and len(g) < size]
      if len(values) > 4:
        alone.append({name: value})
      elif fits:
        fits[0][name] = value
      else:
        groups.append({name: value})
  return groups + alone


@pytest.mark.slow
def test_fault_14_every_option_of_jax(tmp_path):
  """Equal numbers, or other ones and the option is recorded, or one line."""
  groups = build_groups()
  started = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.train.option_runs"],
      env=processes.environment(),
      cwd=processes.ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=(tmp_path / f"log{number}").open("w"),
      text=True,
    )
    for number in range(2)
  ]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    texts = [
      pool.submit(process.communicate, json.dumps(groups[number::2]))
      for number, process in enumerate(started)
    ]
    lines = "".join(text.result()[0] for text in texts).splitlines()
  for number, process in enumerate(started):
    log = (tmp_path / f"log{number}").read_text()
    assert process.returncode == 0, log[-3000:]
  outcomes = list(map(json.loads, lines))
  assert sum(len(o["options"]) for o in outcomes) == sum(map(len, groups))
  wrong = []
  for outcome in outcomes:
    options = outcome["options"]
    recorded = outcome.get("recorded", {}).items() >= options.items()
    refused = outcome.get("lines") == 1 and outcome["error"] in [
      name.upper() for name in options
    ]
    if not (outcome["same"] or recorded or refused):
      wrong.append(outcome)
  assert not wrong
