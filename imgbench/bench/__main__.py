"""Measures image models on this machine: one config, one folder of rows.

python -m imgbench.bench --config=configs/bench.py:quick --out=runs/bench

Each point is measured in fresh processes, and its row is on disk when it is
done: stopped (Ctrl-C, kill), the same command goes on with what is missing.
Config values are overridden with --config.models=resnet18,vit_ti16 and the
like. `imgbench.bench.report` makes a page of the rows, `imgbench.bench.compare`
compares those of two folders. Exit codes: 0 done, 1 failed, 2 bad input, 75
stopped.
"""

import pathlib
import shlex
import signal
import sys
from typing import Any

from absl import flags
from absl import logging
import jax
import tqdm

from imgbench import cli
from imgbench import commands
from imgbench import config_utils
from imgbench import errors
from imgbench import run_files
from imgbench import startup
from imgbench import writers
from imgbench.bench import exchange
from imgbench.bench import points as points_lib
from imgbench.bench import processes
from imgbench.bench import row_text
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.bench import runner
from imgbench.tables import formats

_DESCRIBE_S = 300.0  # JAX on a large machine takes its time
# What rows of one folder share, besides how they are measured.
_MACHINE = (
  *("host", "platform", "device_kind", "num_devices", "processor", "cores"),
  *("driver", "keeps_memory", "versions", "python", "xla_flags"),
  *("imgbench", "commit"),
)


REQUIRED = ("config", "out")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config, --out, --profile, --retry_failed and --dry_run."""
  cli.define_config_flag(flag_values)
  flags.DEFINE_string(
    "out", None, "Folder of the rows.", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "profile",
    False,
    "Leave an XPlane trace and the compiled program of each of our points in"
    " traces/, made in a process that does not count.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "retry_failed",
    False,
    "Measure points again that crashed or ran out of time.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "dry_run",
    False,
    "Print the points and leave it at that.",
    flag_values=flag_values,
  )


def describe_machine(launcher: processes.Launcher) -> dict[str, Any]:
  """Returns the environment as a process of its own sees it.

  This process must not take the accelerator that the others measure.

  Raises:
    RunError: JAX does not start.
  """
  result = launcher({"kind": "environment"}, _DESCRIBE_S)
  if result["status"] != exchange.OK:
    raise errors.RunError(f"JAX does not start: {result['message']}")
  return result["environment"]


def describe_baselines(config, launcher: processes.Launcher) -> dict[str, Any]:
  """Returns what is known of PyTorch; empty where no point needs it."""
  asked = [
    f for f in points_lib.check(config)["frameworks"] if f != points_lib.OURS
  ]
  if not asked:
    return {}
  result = launcher({"kind": "environment"}, _DESCRIBE_S)
  if result["status"] != exchange.OK:
    logging.warning("peers are left out: %s", result["message"])
    return {"missing": result["message"]}
  return result["environment"]


def check_folder(
  folder: pathlib.Path, environment: dict[str, Any], how: dict[str, Any]
) -> None:
  """Raises InputError where the folder holds rows of something else.

  Args:
    folder: of the rows; need not be there.
    environment: of this machine.
    how: of the config, see `points.select_method`.
  """
  known = run_files.read_json(folder / rows.ENVIRONMENT)
  if known is None:
    return
  names = _MACHINE
  # Peers may be installed later, or left out.
  if _has_baselines(known) and _has_baselines(environment):
    names += ("peers",)
  pick = lambda e: {name: e.get(name) for name in names}
  old = config_utils.flatten(pick(known)) | config_utils.flatten(
    known.get("how", {}), "config."
  )
  new = config_utils.flatten(pick(environment)) | config_utils.flatten(
    how, "config."
  )
  differences = [
    f"{key}: {old.get(key)} -> {new.get(key)}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key)
  ]
  if differences:
    raise errors.InputError(
      f"--out={folder} holds rows of another machine, version or config:"
      f" {'; '.join(differences[:6])}. Give another --out"
    )


def run_benchmark(
  config, folder: pathlib.Path, values, config_file: str = ""
) -> list[rows.Row]:
  """Measures what the folder lacks and returns all its rows.

  Args:
    config: as of configs/bench.py.
    folder: see `check_folder`.
    values: of the flags.
    config_file: where the config was read, for the log.

  Raises:
    InputError: what does not fit, before anything is measured.
  """
  points_lib.check(config)
  ours, theirs = processes.Launcher(), processes.create_baseline_launcher()
  environment = describe_machine(ours)
  how = points_lib.select_method(config)
  startup.log_start(how, config_file, environment=environment)
  environment["command"] = (
    f"python -m imgbench.bench {shlex.join(sys.argv[1:])}"
  )
  machine = points_lib.Machine(
    environment["platform"], environment["num_devices"]
  )
  points = points_lib.expand(config, machine)
  if values.dry_run:
    _show_points(points)
    return []
  environment["peers"] = describe_baselines(config, theirs)
  environment["how"] = config_utils.to_dict(how)
  environment["config_hash"] = config_utils.config_hash(how)
  with run_files.locked(folder):
    check_folder(folder, environment, environment["how"])
    _write_environment(folder / rows.ENVIRONMENT, environment)
    writers.write_json(folder / rows.CONFIG, config_utils.to_dict(config))
    launchers = {name: theirs for name in rows.FRAMEWORKS}
    launchers[points_lib.OURS] = ours
    settings = run_settings.Settings.from_config(
      config, environment, values.profile
    )
    retry = runner.RETRIED if values.retry_failed else ("refused",)
    return _run(folder, settings, launchers, points, retry)


def _write_environment(path: pathlib.Path, environment) -> None:
  """Once; again where peers are there now that were missing."""
  known = run_files.read_json(path)
  if known is None:
    writers.write_json(path, environment)
  elif _has_baselines(environment) and not _has_baselines(known):
    writers.write_json(path, {**known, "peers": environment["peers"]})


def _has_baselines(environment: dict[str, Any]) -> bool:
  found = environment.get("peers")
  return bool(found) and "missing" not in found


def _run(folder, settings, launchers, points, retry) -> list[rows.Row]:
  wanted = points.all()
  with tqdm.tqdm(total=len(wanted), unit="point", disable=None) as bar:

    def on_row(row: rows.Row) -> None:
      bar.write(_format_line(row), file=sys.stdout)
      sys.stdout.flush()  # Also into a file.
      bar.update(row.batch_asked is None)

    measuring = runner.Runner(
      folder, points, settings, launchers, retry=retry, on_row=on_row
    )
    bar.update(sum(map(measuring.is_done, wanted)))
    try:
      measuring.run()
    except KeyboardInterrupt:
      raise errors.Preempted(
        f"stopped; {len(measuring.found)} rows are in {folder}, and the same"
        " command goes on"
      ) from None
  return measuring.found


def _format_line(row: rows.Row) -> str:
  """E.g. "train resnet18 b16 64px float32: 123 images/s [120, 125], n=5"."""
  text = f"{row.key.text()}: {row_text.format_speed(row)}"
  low, high = row.images_per_s_low, row.images_per_s_high
  if low is not None:
    text += f" [{formats.rounded(low)}, {formats.rounded(high)}]"
  if row.status != rows.OK:
    return f"{text}: {row.message}"
  return f"{text}, n={row.processes}"


def _show_points(points: points_lib.Points) -> None:
  for key in points.all():
    print(key.text())
  print(f"{len(points.all())} points")
  if points.left_out:
    print(
      f"{len(points.left_out)} combinations that peers have no counterpart for"
      " are left out"
    )


def main(argv: list[str]) -> None:
  """Runs the benchmark that the flags describe."""
  del argv
  cli.show_log()
  values = flags.FLAGS
  # The accelerators are for the processes that measure.
  jax.config.update("jax_platforms", "cpu")
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  with cli.one_line_errors():
    found = run_benchmark(
      values.config,
      pathlib.Path(values.out),
      values,
      values["config"].config_filename,
    )
  failed = [row for row in found if row.status != rows.OK]
  if found:
    print(
      f"{len(found)} rows in {values.out}, {len(failed)} of them failed. See"
      f" them: python -m imgbench.bench.report {values.out}"
    )


if __name__ == "__main__":
  commands.start("bench")
