"""Measures image models on this machine: one config gives one folder of rows.

imgbench bench --config=configs/bench.py:quick --out=runs/bench

Each point is measured in fresh processes and its row is written when it is
done. After Ctrl-C or kill, the same command resumes with the missing points.
--config.models=resnet18,vit_ti16 and the like override config values.
`imgbench.bench.report` makes a page of the rows, `imgbench.bench.compare`
compares the rows of two folders. Started as several processes, as
`imgbench.main` is, it measures their devices together. Exit codes: 0 done, 1
failed, 2 bad input, 75 stopped.
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
from imgbench.parallel import processes as parallel_processes
from imgbench.tables import formats

# Keys of the environment that all rows of a folder share.
_MACHINE = (
  *("host", "platform", "device_kind", "num_devices", "num_processes"),
  *(
    "processor",
    "cores",
    "driver",
    "keeps_memory",
    "versions",
    "python",
    "xla_flags",
  ),
  *("imgbench", "commit"),
)


REQUIRED = ("config", "out")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config, --out, --profile, --retry_failed and --dry_run."""
  cli.define_config_flag(flag_values)
  cli.define_process_flags(flag_values)
  flags.DEFINE_string(
    "out", None, "Folder for the rows.", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "profile",
    False,
    "Write an XPlane trace and the compiled program of each of our points to"
    " traces/, from an extra process that does not count.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "retry_failed",
    False,
    "Measure points again that crashed or timed out.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "dry_run",
    False,
    "Print the points and measure nothing.",
    flag_values=flag_values,
  )


def describe_baselines(config, launcher: runner.Launch) -> dict[str, Any]:
  """Returns the environment of PyTorch; empty if no point needs it."""
  if not set(points_lib.check(config)["frameworks"]) - {points_lib.OURS}:
    return {}
  result = launcher({"kind": "environment"}, processes.DESCRIBE_S)
  if result["status"] != exchange.OK:
    logging.warning("baselines are left out: %s", result["message"])
    return {"missing": result["message"]}
  return result["environment"]


def check_folder(
  folder: pathlib.Path, environment: dict[str, Any], how: dict[str, Any]
) -> None:
  """Raises InputError if the folder has rows of another machine or config.

  Args:
    folder: of the rows; may be missing.
    environment: of this machine.
    how: of the config, see `points.select_method`.
  """
  known = run_files.read_json(folder / rows.ENVIRONMENT)
  if known is None:
    return
  names = _MACHINE
  # Baselines may be installed later, or left out.
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
    expected = f"rows of this machine, version and config in {folder}"
    given = ", ".join(differences[:6])
    raise errors.InputError("--out", expected, given, "give another --out")


def run_benchmark(
  config,
  folder: pathlib.Path,
  values,
  config_file: str = "",
  ours: runner.Launch | None = None,
) -> list[rows.Row]:
  """Measures the points that the folder lacks and returns all its rows.

  Args:
    config: of configs/bench.py.
    folder: see `check_folder`.
    values: of the flags.
    config_file: path of the config, for the log.
    ours: starts our workers; None: in this process only.

  Raises:
    InputError: bad input, before anything is measured.
  """
  points_lib.check(config)
  ours = ours or processes.Launcher()
  theirs = processes.create_baseline_launcher()
  environment = processes.describe_machine(ours)
  how = points_lib.select_method(config)
  startup.log_start(how, config_file, environment=environment)
  environment["command"] = f"imgbench bench {shlex.join(sys.argv[1:])}"
  names = ("platform", "num_devices", "num_processes")
  machine = points_lib.Machine(*(environment[name] for name in names))
  points = points_lib.expand(config, machine)
  if values.dry_run:
    _show_points(points)
    return []
  environment["peers"] = describe_baselines(config, theirs)
  environment["how"] = config_utils.to_dict(how)
  environment["config_hash"] = config_utils.config_hash(how)
  with run_files.locked(folder, "--out"):
    check_folder(folder, environment, environment["how"])
    _write_environment(folder / rows.ENVIRONMENT, environment)
    writers.write_json(folder / rows.CONFIG, config_utils.to_dict(config))
    launchers = {name: theirs for name in rows.FRAMEWORKS}
    launchers[points_lib.OURS] = ours
    settings = run_settings.Settings.build(config, environment, values.profile)
    retry = runner.RETRIED if values.retry_failed else ("refused",)
    return _run(folder, settings, launchers, points, retry)


def _write_environment(path: pathlib.Path, environment) -> None:
  """Writes it once, and again if missing baselines have been installed."""
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
      sys.stdout.flush()  # For output to a file.
      bar.update(row.batch_asked is None)

    measuring = runner.Runner(
      folder, points, settings, launchers, retry=retry, on_row=on_row
    )
    bar.update(sum(map(measuring.is_done, wanted)))
    try:
      measuring.run()
    except KeyboardInterrupt:
      raise errors.Preempted(
        f"stopped with {len(measuring.found)} rows in {folder}; the same"
        " command resumes"
      ) from None
  return measuring.found


def _format_line(row: rows.Row) -> str:
  """Returns e.g. "train resnet18 b16 64px: 123 images/s [120, 125], n=5"."""
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
      f"left out {len(points.left_out)} points that baselines have no"
      " counterpart for"
    )


def main(argv: list[str]) -> None:
  """Runs the benchmark."""
  del argv
  cli.show_log()
  values = flags.FLAGS
  # The accelerators are for the processes that measure.
  jax.config.update("jax_platforms", "cpu")
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  group = cli.join_processes(devices=False)
  with cli.one_line_errors(group):
    ours = None
    if group is not parallel_processes.ALONE:
      join = cli.read_process_flags()
      ours = processes.GroupLauncher(processes.Launcher(), group, join)
    found = []
    if ours is not None and not group.first:
      ours.follow()
    else:
      config_file = values["config"].config_filename
      folder = pathlib.Path(values.out)
      found = run_benchmark(values.config, folder, values, config_file, ours)
      if ours is not None:
        ours.stop()
    group.close()
  failed = [row for row in found if row.status != rows.OK]
  if found:
    print(
      f"{len(found)} rows in {values.out}, {len(failed)} of them failed; for a"
      f" page: imgbench bench report {values.out}"
    )


if __name__ == "__main__":
  commands.start("bench")
