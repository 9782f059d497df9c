"""Describes where a result comes from: versions, devices, commit, command.

It imports nothing of the project but its version and `cpus`, so that any
program can use it.
"""

import datetime
import enum
import functools
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

import imgbench
from imgbench import cpus

PACKAGES = (
  "jax",
  "jaxlib",
  "jax-cuda13-plugin",
  "flax",
  "optax",
  "orbax-checkpoint",
  "ml-collections",
  "tensorflow-datasets",
  "array_record",
  "numpy",
  "scipy",
  "matplotlib",
  "pillow",
  "simplejpeg",
  "cykooz-resizer",
  "opencv-python-headless",
)

# Options of JAX that change numbers.
_NUMERIC = (
  "jax_default_matmul_precision",
  "jax_disable_most_optimizations",
  "jax_enable_x64",
)
_AT_IMPORT = dict(jax.config.values)


def collect() -> dict[str, Any]:
  """Returns `collect_software()` with devices, processor and system."""
  devices = jax.devices()
  return {
    **collect_software(),
    "platform": devices[0].platform,
    "device_kind": devices[0].device_kind,
    "num_devices": len(devices),
    "num_processes": jax.process_count(),
    "processor": find_processor(),
    "cores": cpus.count_cpus(),
    "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    "system": f"{platform.system()} {platform.machine()}",
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
    "jax_options": find_jax_options(),
  }


def find_jax_options() -> dict[str, bool | int | float | str | None]:
  """Returns the options of JAX that are set, and all that change numbers.

  An option is set by a variable of the environment, or after this module was
  imported. JAX does not tell which values are defaults.
  """
  found = {}
  for name, value in sorted(jax.config.values.items()):
    is_set = name.upper() in os.environ or value != _AT_IMPORT.get(name)
    # Folders of users are left out.
    if (is_set or name in _NUMERIC) and not name.endswith("_dir"):
      value = value.value if isinstance(value, enum.Enum) else value
      plain = value is None or isinstance(value, bool | int | float | str)
      found[name] = value if plain else str(value)
  return found


def collect_software() -> dict[str, Any]:
  """Returns versions, commit, command and time, without starting devices."""
  return {
    "imgbench": imgbench.__version__,
    "commit": find_commit(),
    "command": f"{_find_program()} {shlex.join(sys.argv[1:])}".strip(),
    "started_at": datetime.datetime.now(datetime.UTC).isoformat(
      timespec="seconds"
    ),
    "python": platform.python_version(),
    "versions": {name: _find_version(name) for name in PACKAGES},
  }


@functools.cache
def find_commit() -> str:
  """Returns the commit of the running code, with a "+" if files were changed.

  Git is asked once: the code was loaded at the start. Without a repository it
  is IMGBENCH_COMMIT.
  """
  folder = pathlib.Path(imgbench.__file__).parents[1]
  unknown = os.environ.get("IMGBENCH_COMMIT", "unknown")
  if not (folder / ".git").exists():
    return unknown
  git = lambda *args: subprocess.run(
    ["git", "-C", str(folder), *args],
    capture_output=True,
    text=True,
    encoding="utf-8",
  )
  try:
    head = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
  except OSError:
    return unknown
  if head.returncode:
    return unknown
  return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def find_processor() -> str:
  """Returns the processor's name as the system reports it."""
  return _read_cpuinfo("model name") or platform.processor() or "unknown"


def find_processor_features() -> str:
  """Returns name and instruction sets, on which compiled code depends."""
  return (
    f"{find_processor()} {_read_cpuinfo('flags') or _read_cpuinfo('Features')}"
  )


def _read_cpuinfo(key: str) -> str:
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return ""
  lines = (line for line in text.splitlines() if line.startswith(key))
  values = (line.partition(":")[2] for line in lines)
  return next(values, "").strip()


def _find_program() -> str:
  main = sys.modules["__main__"]
  spec = getattr(main, "__spec__", None)
  if spec is not None and spec.name:
    name = spec.name.removesuffix(".__main__")
    # Of `python -m imgbench NAME`, with the name; see commands.main.
    return f"python -m {name}{sys.argv[0].partition('__main__.py')[2]}"
  return pathlib.Path(sys.argv[0]).name


def _find_version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return "absent"
