"""Shared by programs: config flags, one-line errors, log, caches."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import hashlib
import logging as python_logging
import pathlib
import re
import sys
from typing import NoReturn

from absl import flags
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags

from imgbench import cache
from imgbench import config_utils
from imgbench import environment
from imgbench import errors
from imgbench import jax_options
from imgbench import paths
from imgbench import registry
from imgbench.parallel import processes


def define_config_flag(
  flag_values: flags.FlagValues, argv: list[str] | None = None
) -> None:
  """Defines --config and with it --config.section.key (sought in `argv`)."""
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file with get_config(), options after a colon:"
    " configs/cifar10_fast.py:long.",
    lock_config=False,
    sys_argv=argv,
    flag_values=flag_values,
  )
  flag = flag_values["config"]
  flag.parser = _ConfigParser(flag.parser, argv)


class _ConfigParser(flags.ArgumentParser):
  """Reads a config file, and adds keys that overrides set and builders take.

  Args:
    parser: reads the file.
    argv: command line with overrides; None: that of the process.
  """

  def __init__(self, parser: flags.ArgumentParser, argv: list[str] | None):
    self._parser = parser
    self._argv = argv

  def parse(self, argument):
    """Returns the locked config of a file, options after a colon.

    The folder above the file's is put on sys.path, so that a config imports
    its neighbors as `configs.*` in any working directory.
    """
    folder = pathlib.Path(str(argument).partition(":")[0]).resolve().parent
    if str(folder.parent) not in sys.path:
      sys.path.insert(0, str(folder.parent))
    config = self._parser.parse(argument)
    argv = sys.argv if self._argv is None else self._argv
    argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
    overrides = _find_overrides(argv)
    known = config_utils.flatten(config_utils.to_dict(config))
    named = {key for key in overrides if key.endswith(".name")}
    if named or overrides.keys() - known.keys():
      from imgbench import config as config_lib

      config_lib.extend(config, overrides)
    config.lock()
    return config

  def flag_type(self):
    """Returns the type that help texts show."""
    return self._parser.flag_type()


def read_config(
  config: str, overrides: Iterable[str] = ()
) -> ml_collections.ConfigDict:
  """Returns the locked config of a file, as the flag --config gives it.

  Args:
    config: file, and options after a colon.
    overrides: "key=value", as after "--config.".

  Raises:
    InputError: an unknown key, or a value of another type.
  """
  argv = ["", f"--config={config}"]
  for text in overrides:
    errors.check("=" in text, "override", "KEY=VALUE", repr(text))
    argv.append(f"--config.{text}")
  try:
    return _read_config(argv)
  except errors.InputError:
    raise
  except (flags.Error, AttributeError, KeyError, ValueError, TypeError) as e:
    raise _to_input_error(e, argv) from e


def _read_config(argv: list[str]) -> ml_collections.ConfigDict:
  flag_values = flags.FlagValues()
  define_config_flag(flag_values, argv)
  flag_values(argv)
  return flag_values.config


def _find_overrides(argv: list[str]) -> dict[str, str]:
  """Returns dotted key -> text of --config.key=text, also after a space."""
  found = {}
  for arg, following in zip(argv, [*argv[1:], ""], strict=True):
    name, equals, value = arg.lstrip("-").partition("=")
    name = name.removeprefix("no") if name.startswith("noconfig.") else name
    if arg.startswith("-") and name.startswith("config."):
      found[name.removeprefix("config.")] = value if equals else following
  return found


def _leave(group: processes.Group, error: Exception, code: int) -> None:
  if getattr(error, "together", False):
    group.close()
  else:
    group.fail(error, code)


def define_process_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags that `join_processes` reads."""
  flags.DEFINE_string(
    "coordinator_address",
    None,
    "Of a program of several processes: host:port, with a free port of process"
    " 0. SLURM, Cloud TPU and Kubernetes are recognized without it.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "num_processes",
    None,
    "Number of processes; 1: look for no others.",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "process_id",
    None,
    "Index of this process, from 0.",
    flag_values=flag_values,
  )
  flags.DEFINE_float(
    "process_timeout_s",
    processes.SILENT_S,
    "Seconds without a sign of life of a process after which the others end;"
    " also how long they wait for the next one at the start.",
    flag_values=flag_values,
  )


def join_processes() -> processes.Group:
  """Returns the group of processes that the flags name or JAX recognizes.

  All processes but the first log warnings only.
  """
  group = processes.join(
    flags.FLAGS.coordinator_address,
    flags.FLAGS.num_processes,
    flags.FLAGS.process_id,
    flags.FLAGS.process_timeout_s,
  )
  if not group.first:
    logging.set_verbosity(logging.WARNING)
  return group


def fail(text: str, code: int) -> NoReturn:
  """Ends the program with one line on standard error."""
  print(f"imgbench: error: {text}", file=sys.stderr)
  sys.exit(code)


@contextlib.contextmanager
def one_line_errors(
  show_traceback: bool = False, group: processes.Group = processes.ALONE
) -> Iterator[None]:
  """Ends the program with one line where the block raises a known error.

  Args:
    show_traceback: show the traceback, too.
    group: of the processes of the program; the others are told.
  """
  try:
    with jax_options.platform_errors():
      yield
  except (errors.InputError, errors.RunError) as error:
    if show_traceback:
      logging.exception("the program ended with an error")
    bad_input = isinstance(error, errors.InputError)
    code = errors.EXIT_USAGE if bad_input else errors.EXIT_FAILED
    _leave(group, error, code)
    fail(str(error), code)
  except errors.Preempted as stop:
    _leave(group, stop, errors.EXIT_PREEMPTED)
    print(f"imgbench: {stop}", file=sys.stderr)
    sys.exit(errors.EXIT_PREEMPTED)
  except BaseException as error:
    group.fail(error, errors.EXIT_FAILED)
    raise


def parse_flags(argv: list[str], required: tuple[str, ...] = ("config",)):
  """Parses the command line into flags.FLAGS; returns the other arguments.

  Bad input ends the program in one line and exit code 2.

  Args:
    argv: as sys.argv.
    required: flags that must have a value.
  """
  config = _find_config(argv)
  path = pathlib.Path(config.partition(":")[0])
  if config and not path.is_file():
    near = registry.near_names(str(path), map(str, path.parent.glob("*.py")))
    fail(
      str(errors.InputError("--config", "a config file", path, near)),
      errors.EXIT_USAGE,
    )
  try:
    remaining = flags.FLAGS(argv)
    if len(remaining) > 1:
      raise errors.InputError(
        "command line", "only flags", " ".join(remaining[1:])
      )
    for name in required:
      if flags.FLAGS[name].value in (None, ""):
        raise errors.InputError(f"--{name}", "a value", "none", "see --help")
  except errors.InputError as error:
    fail(str(error), errors.EXIT_USAGE)
  except (flags.Error, AttributeError, KeyError) as error:
    fail(str(_to_input_error(error, argv)), errors.EXIT_USAGE)
  except (OSError, ImportError, SyntaxError, TypeError, ValueError) as error:
    fail(f"--config={path}: {error}", errors.EXIT_USAGE)
  return remaining


def _find_config(argv: list[str]) -> str:
  """Returns the value of --config; "" if it is not given."""
  for before, arg in zip(["", *argv], argv, strict=False):
    name, equals, value = arg.partition("=")
    if name in ("--config", "-config") and equals:
      return value
    if before in ("--config", "-config"):
      return arg
  return ""


def _to_input_error(error: Exception, argv: list[str]) -> errors.InputError:
  """Returns what a flag error says; near names for an unknown config key."""
  known = _list_config_keys(argv)
  sections = {key.rpartition(".")[0] for key in known}
  for key, value in _find_overrides(argv).items() if known else ():
    if key not in known and key not in sections:
      near = registry.near_names(key, known)
      return errors.InputError(
        f"--config.{key}", "a known config key", value, near
      )
  text = " ".join(map(str, error.args)) or type(error).__name__
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  # The last line of an error inside a config file has its reason.
  text = " ".join(dict.fromkeys([lines[0], lines[-1]]))
  bad_value = re.fullmatch(r"flag (--[^=]+)=(.*?): (.*)", text)
  if bad_value:
    flag, value, reason = bad_value.groups()
    return errors.InputError(flag, "a value that it takes", value, reason)
  return errors.InputError("command line", "flags as --help lists them", text)


def _list_config_keys(argv: list[str]) -> list[str]:
  """Returns the keys that a config takes; none if it cannot be read."""
  try:
    plain = ["", f"--config={_find_config(argv)}"]
    config = config_utils.to_dict(_read_config(plain))
    overrides = _find_overrides(argv).items()
    names = [(k, v) for k, v in overrides if k.endswith(".name")]
    flat = config_utils.flatten(config)
    plain += [f"--config.{k}={v}" for k, v in names if k in flat]
    config = config_utils.to_dict(_read_config(plain))
  except Exception:  # The first error is the one to show.
    return []
  from imgbench import config as config_lib

  known = [*config_utils.flatten(config), *config_lib.find_known_keys(config)]
  return list(dict.fromkeys(known))


def show_log() -> None:
  """Shows the log from INFO, as short lines on standard error."""
  logging.set_verbosity(logging.INFO)
  python_logging.getLogger("jax").setLevel(python_logging.WARNING)
  logging.get_absl_handler().setFormatter(
    python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
  )


def keep_compiled(folder: str) -> None:
  """Lets JAX cache compiled programs in a folder; "default", or "": none."""
  if not folder:
    return
  with cache.optional("compiled programs"):
    if folder == "default":
      # Programs for a CPU run on processors of its kind only.
      kind = hashlib.sha256(environment.find_processor_features().encode())
      folder = str(cache.user_cache_dir("xla", kind.hexdigest()[:12]))
    if not paths.is_bucket(folder):
      cache.check_writable(pathlib.Path(folder))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
