"""Trains and evaluates a classifier: one config, one workdir.

python -m imgbench.main --config=configs/scenes.py --workdir=runs/demo

Stopped (Ctrl-C, SIGTERM, kill -9, power), the same command goes on from the
last checkpoint; finished, it prints the results again. Config values are
overridden with --config.section.key=value. Exit codes: 0 done, 1 failed, 2 bad
input, 75 stopped after saving.
"""

import logging as python_logging
import pathlib
import sys

from absl import app
from absl import flags
from absl import logging
from ml_collections import config_flags

from imgbench import config_utils
from imgbench import errors
from imgbench import registry


def define_config_flag(
  flag_values: flags.FlagValues, argv: list[str] | None = None
) -> None:
  """Defines --config and with it --config.section.key (sought in `argv`)."""
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file with get_config(), options behind a colon:"
    " configs/cifar10_fast.py:long.",
    lock_config=True,
    sys_argv=argv,
    flag_values=flag_values,
  )


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --config, --workdir and --traceback."""
  define_config_flag(flag_values)
  flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, metrics, results, report.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "traceback",
    False,
    "Show the Python traceback of an error that has a clear message.",
    flag_values=flag_values,
  )


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line; bad input ends in one line and exit code 2."""
  # A config file imports its neighbours as configs.*, wherever it lies.
  path = _config_path(argv)
  if path is not None:
    if not path.is_file():
      near = sorted(map(str, path.parent.glob("*.py")))
      near = registry.near_names(str(path), near)
      _fail(f"--config={path}: no such file; {near}", errors.EXIT_USAGE)
    sys.path.insert(0, str(path.resolve().parents[1]))
  try:
    remaining = flags.FLAGS(argv)
    if len(remaining) > 1:
      raise errors.InputError(
        f"expected only flags, got {' '.join(remaining[1:])}"
      )
    for name in ("config", "workdir"):
      if name in flags.FLAGS and flags.FLAGS[name].value in (None, ""):
        raise errors.InputError(
          f"--{name} is missing; see python -m imgbench.main --help"
        )
  except (flags.Error, errors.InputError, AttributeError, KeyError) as error:
    _fail(_flag_error_text(error, argv), errors.EXIT_USAGE)
  except (OSError, ImportError, SyntaxError, TypeError, ValueError) as error:
    _fail(f"--config={path}: {error}", errors.EXIT_USAGE)
  return remaining


def _config_path(argv: list[str]) -> pathlib.Path | None:
  for before, arg in zip([""] + argv, argv, strict=False):
    name, equals, value = arg.partition("=")
    if name in ("--config", "-config") and equals:
      return pathlib.Path(value.split(":")[0])
    if before in ("--config", "-config"):
      return pathlib.Path(arg.split(":")[0])
  return None


def _flag_error_text(error: Exception, argv: list[str]) -> str:
  """One line; an unknown config key is answered with the near ones."""
  config = flags.FLAGS["config"].value if "config" in flags.FLAGS else None
  config = config or _load_config(argv)
  if config is not None:
    known = config_utils.flatten(config_utils.to_dict(config))
    sections = {key.rpartition(".")[0] for key in known}
    for arg in argv[1:]:
      name = arg.partition("=")[0].lstrip("-")
      key = name.removeprefix("config.")
      if key != name and key not in known and key not in sections:
        return (
          f"--config.{key}: unknown config key;"
          f" {registry.near_names(key, known)}"
        )
  text = str(error.args[0]) if error.args else type(error).__name__
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  # Of an error inside a config file the last line says what it was.
  return " ".join(dict.fromkeys([lines[0], lines[-1]]))


def _load_config(argv: list[str]):
  """The config without overrides, None if it cannot be had."""
  flag_values = flags.FlagValues()
  plain = [arg for arg in argv if not arg.lstrip("-").startswith("config.")]
  define_config_flag(flag_values, plain)
  try:
    flag_values(plain, known_only=True)
    return flag_values.config
  except Exception:  # The first error is the one to tell.
    return None


def _fail(text: str, code: int) -> None:
  print(f"imgbench: error: {text}", file=sys.stderr)
  sys.exit(code)


def show_log() -> None:
  """Shows the log from INFO on, as short lines on standard error."""
  logging.set_verbosity(logging.INFO)
  python_logging.getLogger("jax").setLevel(python_logging.WARNING)
  logging.get_absl_handler().setFormatter(
    python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
  )


def main(argv: list[str]) -> None:
  """Runs the config that the flags name."""
  del argv
  from imgbench.report import tables
  from imgbench.train import loop

  show_log()
  try:
    results = loop.train_and_evaluate(flags.FLAGS.config, flags.FLAGS.workdir)
  except (errors.InputError, errors.RunError) as error:
    if flags.FLAGS.traceback:
      logging.exception("the run ended with an error")
    bad_input = isinstance(error, errors.InputError)
    _fail(str(error), errors.EXIT_USAGE if bad_input else errors.EXIT_FAILED)
  except errors.Preempted as stop:
    print(f"imgbench: {stop}", file=sys.stderr)
    sys.exit(errors.EXIT_PREEMPTED)
  print(tables.terminal_table(results))


def run() -> None:
  """The console script `imgbench`."""
  define_flags(flags.FLAGS)
  app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
  run()
