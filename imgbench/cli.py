"""Shared by programs: config flags, one-line errors, log, caches."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import logging as python_logging
import math
import os
import pathlib
import re
import sys
import traceback
import types
from typing import Any

from absl import flags
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from imgbench import cache
from imgbench import config_utils
from imgbench import configs
from imgbench import environment
from imgbench import errors
from imgbench import jax_options
from imgbench import paths
from imgbench import plugins
from imgbench import registry
from imgbench import texts
from imgbench import writers
from imgbench.parallel import processes

TRACEBACK = "traceback.txt"  # of a workdir


def define_config_flag(
  flag_values: flags.FlagValues, argv: list[str] | None = None
) -> None:
  """Defines --config and with it --config.section.key (sought in `argv`)."""
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file with get_config(), or the name of a shipped one; options after"
    " a colon: cifar10_fast:long.",
    lock_config=False,
    sys_argv=argv,
    flag_values=flag_values,
  )
  flag_values["config"].parser = _ConfigParser(argv)


class _ConfigParser(flags.ArgumentParser):
  """Reads a config file, and adds keys that overrides set and builders take.

  Args:
    argv: command line with overrides; None: that of the process.
  """

  def __init__(self, argv: list[str] | None):
    self._argv = argv

  def parse(self, argument):
    """Returns the locked config of a file or a name, options after a colon.

    The folder above the file's is put on sys.path, so that a config imports
    its neighbors as `configs.*` in any working directory. Plug-ins are
    imported, as keys that a config takes depend on them.
    """
    argument = find_config_file(argument)
    folder = _find_folder(argument)
    # Shipped configs import their neighbors as imgbench.configs.
    above = str(folder.parent)
    if str(folder) not in configs.__path__ and above not in sys.path:
      sys.path.insert(0, above)
    config = _load_config(argument)
    overrides = _find_overrides(sys.argv if self._argv is None else self._argv)
    if "plugins" in overrides:
      config.plugins = _parse_plugins(overrides["plugins"])
    plugins.load(config.get("plugins", ()), [above])
    with config_errors(argument):
      config_utils.to_dict(config)
    if overrides:
      from imgbench import config as config_lib

      config_lib.extend(config, overrides)
    with config_errors(argument):
      config.lock()
    return config

  def flag_type(self):
    """Returns the type that help texts show."""
    return "config file"


def _find_folder(argument: str) -> pathlib.Path:
  """Returns the folder of a config file, options after a colon."""
  # Path.resolve raises for a loop of links.
  return pathlib.Path(os.path.realpath(argument.partition(":")[0])).parent


def _load_config(argument: str) -> ml_collections.ConfigDict:
  """Returns what `get_config` of a file returns, options after a colon."""
  name, *options = argument.split(":", 1)
  module = load_config_module(name)
  with config_errors(argument):
    config = module.get_config(*options)
  if not isinstance(config, ml_collections.ConfigDict):
    given = f"{type(config).__name__} from {argument}"
    raise errors.InputError("--config", "get_config() -> ConfigDict", given)
  return config


def load_config_module(name: str) -> types.ModuleType:
  """Runs a config file and returns its module. Raises InputError."""
  path = pathlib.Path(name)
  try:
    path.open("rb").close()
  except (OSError, ValueError) as error:  # ValueError: a null byte.
    given = f"{name!r}: {errors.find_reason(error)}"
    known = [str(near) for near in path.parent.glob("*.py")]
    fix = registry.near_names(name, [*configs.list_files(), *known])
    expected = "a config file or the name of a shipped one"
    raise errors.InputError("--config", expected, given, fix) from error
  loader = importlib.machinery.SourceFileLoader(f"config_{path.stem}", name)
  spec = importlib.util.spec_from_loader(loader.name, loader)
  assert spec is not None  # There is a loader.
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look up their module by its name.
  sys.modules[loader.name] = module
  with config_errors(name):
    loader.exec_module(module)
  return module


@contextlib.contextmanager
def config_errors(argument: str) -> Iterator[None]:
  """Turns an error of a config file into one about --config.

  Args:
    argument: the file, and options after a colon.
  """
  try:
    yield
  except errors.InputError:
    raise
  except Exception as error:
    expected = "a config file without an error"
    reason = errors.describe(error, _find_folder(argument))
    raise errors.InputError("--config", expected, argument, reason) from error


def find_config_file(config: str) -> str:
  """Returns the file of a shipped config that is named, else the argument.

  Args:
    config: file or name, and options after a colon, which are kept.
  """
  name, colon, options = config.partition(":")
  path = configs.list_files().get(name)
  if path is None or pathlib.Path(name).is_file():
    return config
  return f"{path}{colon}{options}"


def read_config(
  config: str, overrides: Iterable[str] = ()
) -> ml_collections.ConfigDict:
  """Returns the locked config of a file, as the flag --config gives it.

  Args:
    config: file or name, and options after a colon.
    overrides: "key=value", as after "--config.".

  Raises:
    InputError: an unknown key, or a value of another type.
  """
  argv = ["", f"--config={config}"]
  for text in overrides:
    errors.check("=" in text, "override", "KEY=VALUE", repr(text))
    argv.append(f"--config.{text}")
  with _flag_errors(argv):
    return _read_config(argv)


def _read_config(argv: list[str]) -> ml_collections.ConfigDict:
  flag_values = flags.FlagValues()
  define_config_flag(flag_values, argv)
  flag_values(argv)
  return flag_values.config


def _parse_plugins(text: str) -> tuple:
  """Returns the value of --config.plugins. Raises InputError."""
  try:
    return tuple_parser.TupleParser().parse(text)  # As of ml_collections.
  except Exception as error:  # Of many kinds.
    expected = "names of modules, separated by commas"
    raise errors.InputError("--config.plugins", expected, text) from error


def _find_overrides(argv: list[str]) -> dict[str, str]:
  """Returns dotted key -> text of --config.key=text, also after a space."""
  found = {}
  for arg, following in zip(argv, [*argv[1:], ""], strict=True):
    name, equals, value = arg.lstrip("-").partition("=")
    name = name.removeprefix("no") if name.startswith("noconfig.") else name
    if arg.startswith("-") and name.startswith("config."):
      found[name.removeprefix("config.")] = value if equals else following
  return found


def _leave(
  group: processes.Group, error: Exception, text: str, code: int
) -> None:
  if getattr(error, "together", False):
    group.close()
  else:
    group.fail(error, code, text)


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


def join_processes(devices: bool = True) -> processes.Group:
  """Returns the group of processes that the flags name or JAX recognizes.

  All processes but the first log warnings only.

  Args:
    devices: see `processes.join`.
  """
  group = processes.join(*read_process_flags(), devices=devices)
  if not group.first:
    logging.set_verbosity(logging.WARNING)
  return group


def read_process_flags() -> list[Any]:
  """Returns the flags of the process as arguments of `processes.join`."""
  values = flags.FLAGS
  return [
    *(values.coordinator_address, values.num_processes, values.process_id),
    values.process_timeout_s,
  ]


def define_traceback_flag(flag_values: flags.FlagValues) -> None:
  """Defines the flag of all programs that `one_line_errors` reads."""
  flags.DEFINE_bool(
    "traceback",
    False,
    "Show the Python traceback of an error.",
    flag_values=flag_values,
  )


@contextlib.contextmanager
def one_line_errors(group: processes.Group = processes.ALONE) -> Iterator[None]:
  """Ends the program with one line on standard error where the block raises.

  The traceback is saved in the workdir of a run, if it exists. Exit codes are
  those of `errors`.

  Args:
    group: of the processes of the program; the others are told.
  """
  try:
    with jax_options.platform_errors():
      yield
  except errors.Preempted as stop:
    _leave(group, stop, str(stop), errors.EXIT_PREEMPTED)
    print(f"imgbench: {texts.printable(str(stop))}", file=sys.stderr)
    sys.exit(errors.EXIT_PREEMPTED)
  except Exception as error:
    values = peek(sys.argv, "config", "workdir")
    text = texts.printable(errors.describe(error, _find_folder(values.config)))
    saved = _save_traceback(error, values.workdir) if group.first else ""
    if values.traceback:
      lines = "".join(traceback.format_exception(error))
      print(texts.printable_lines(lines), end="", file=sys.stderr)
    elif not errors.is_known(error):
      text += f"; {saved or '--traceback'} shows where"
    bad_input = isinstance(error, errors.InputError)
    code = errors.EXIT_USAGE if bad_input else errors.EXIT_FAILED
    _leave(group, error, text, code)
    print(f"imgbench: error: {text}", file=sys.stderr)
    sys.exit(code)
  except BaseException as error:
    group.fail(error, errors.EXIT_FAILED)
    raise


def peek(argv: list[str], *names: str) -> flags.FlagValues:
  """Returns --traceback and some flags of text before all are defined.

  Args:
    argv: as sys.argv, perhaps with wrong flags.
    *names: of the flags; their default is "".
  """
  values = flags.FlagValues()
  values.set_gnu_getopt()  # Flags after other arguments, too.
  for name in names:
    flags.DEFINE_string(name, "", "", flag_values=values)
  define_traceback_flag(values)
  with contextlib.suppress(flags.Error, ValueError):
    values(argv, known_only=True)
  values.mark_as_parsed()
  return values


def _save_traceback(error: Exception, workdir: str) -> str:
  """Writes TRACEBACK into a workdir; returns its path, "" if it is not there.

  A run that cannot write its folder, or reach it, ends with its first error.
  """
  perhaps_away = errors.is_known(error) or paths.is_out_of_reach(workdir, error)
  if paths.is_bucket(workdir) and perhaps_away:
    return ""  # Asking again would take a minute.
  lines = traceback.format_exception(error)
  try:
    path = paths.as_path(workdir) / TRACEBACK
    if not workdir or "workdir" not in flags.FLAGS or not path.parent.is_dir():
      return ""
    writers.write_atomically(path, "".join(lines))
  except Exception:  # Each kind of bucket raises its own.
    return ""
  return str(path)


def read_flag_files(argv: list[str]) -> list[str]:
  """Returns a command line with the contents of its --flagfile arguments."""
  read = flags.FLAGS.read_flags_from_files
  try:
    return [*argv[:1], *read(argv[1:], force_gnu=False)]
  except (flags.Error, OSError, ValueError) as error:
    given = str(error).removeprefix("ERROR:: ")  # By absl.
    raise errors.InputError("--flagfile", "a file of flags", given) from error


def name_argument(argv: list[str], flag: str, prefix: str = "") -> list[str]:
  """Returns a command line with a first argument as the value of a flag.

  Args:
    argv: as sys.argv; unchanged if a flag is first.
    flag: its name.
    prefix: put before the value.
  """
  if not argv[1:] or argv[1].startswith("-"):
    return argv
  return [argv[0], f"--{flag}={prefix}{argv[1]}", *argv[2:]]


def parse_flags(
  argv: list[str],
  required: tuple[str, ...] = ("config",),
  positional: bool = False,
) -> list[str]:
  """Parses the command line into flags.FLAGS; returns the other arguments.

  Args:
    argv: as sys.argv.
    required: flags that must have a value.
    positional: whether there may be other arguments.

  Raises:
    InputError: a flag or value that the program does not take.
  """
  with _flag_errors(argv):
    remaining = flags.FLAGS(argv)
  if len(remaining) > 1 and not positional:
    given = " ".join(remaining[1:])
    raise errors.InputError("command line", "only flags", given)
  for name, value in sorted(flags.FLAGS.flag_values_dict().items()):
    if name in required and value in (None, ""):
      raise errors.InputError(f"--{name}", "a value", "none", "see --help")
    for number in value if isinstance(value, list) else [value]:
      if isinstance(number, float) and not math.isfinite(number):
        raise errors.InputError(f"--{name}", "a finite number", number)
  return remaining


@contextlib.contextmanager
def _flag_errors(argv: list[str]) -> Iterator[None]:
  """Turns what reading a command line raises into InputError."""
  try:
    yield
  except errors.InputError:
    raise
  except Exception as error:  # absl and ml_collections raise many kinds.
    # absl replaces the ValueErrors of a flag's parser.
    inner = error.__context__
    if isinstance(inner, errors.InputError):
      raise inner from inner.__cause__
    raise _to_input_error(error, argv) from error


def _to_input_error(error: Exception, argv: list[str]) -> errors.InputError:
  """Returns what a flag error says; near names for an unknown config key."""
  known = _list_config_keys(argv)
  sections = {key.rpartition(".")[0] for key in known}
  for key, value in _find_overrides(argv).items() if known else ():
    if key not in known and key not in sections:
      near = registry.near_keys(key, known)
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
  from imgbench import config as config_lib

  try:
    plain = ["", f"--config={peek(argv, 'config').config}"]
    config = _read_config(plain)
    with config.unlocked():
      config_lib.extend(config, _find_overrides(argv))
    config = config_utils.to_dict(config)
  except Exception:  # The first error is the one to show.
    return []
  known = [*config_utils.flatten(config), *config_lib.find_known_keys(config)]
  return list(dict.fromkeys(known))


class _LogFormatter(python_logging.Formatter):
  """Formats lines that a terminal shows as they are."""

  def format(self, record: python_logging.LogRecord) -> str:
    return texts.printable_lines(super().format(record))


def show_log() -> None:
  """Shows the log from INFO, as short lines on standard error."""
  logging.set_verbosity(logging.INFO)
  python_logging.getLogger("jax").setLevel(python_logging.WARNING)
  logging.get_absl_handler().setFormatter(
    _LogFormatter("%(asctime)s %(message)s", "%H:%M:%S")
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
      cache.create_folder(pathlib.Path(folder))
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
