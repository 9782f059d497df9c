"""The two trees, and command lines that run in them."""

from collections.abc import Sequence
import dataclasses
import hashlib
import importlib.metadata
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

from imgbench import errors
from tests.train import processes

ROOT = processes.ROOT
HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Tree:
  """A checkout, and where the outputs of its programs go.

  Attributes:
    root: of the checkout.
    out: has one folder for each item.
  """

  root: pathlib.Path
  out: pathlib.Path

  def variables(self, devices: int = 1) -> dict[str, str]:
    """Returns the environment of its processes, with a cache of its own."""
    return {
      **processes.environment(),
      "PYTHONPATH": str(self.root),
      "XDG_CACHE_HOME": str(self.out / "cache"),
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }

  def run(
    self,
    folder: pathlib.Path,
    arguments: Sequence[str],
    *,
    name: str = "",
    code: int | None = 0,
    devices: int = 1,
    python: str = sys.executable,
  ) -> None:
    """Runs `python ARGUMENTS` in a folder and keeps what can be compared.

    NAME.out gets the exit code, standard output, and whether there was anything
    on standard error, whose log lines have times.

    Args:
      folder: where it runs, so that paths in outputs are relative.
      arguments: "{tree}" is the root of the checkout.
      name: of the file; default: the program's.
      code: that is expected of the base; None: any.
      devices: of the CPU.
      python: the interpreter.

    Raises:
      RunError: the program ended with another code.
    """
    arguments = [a.replace("{tree}", str(self.root)) for a in arguments]
    done = subprocess.run(
      [python, *arguments],
      cwd=folder,
      env=self.variables(devices),
      capture_output=True,
      text=True,
      check=False,
    )
    name = name or arguments[1].removeprefix("imgbench.")
    text = f"exit code {done.returncode}\nstderr {bool(done.stderr.strip())}\n"
    (folder / f"{name}.out").write_text(text + done.stdout)
    if code is not None and done.returncode != code:
      raise errors.RunError(
        f"{self.root}: {' '.join(arguments)}: expected exit code {code}, got"
        f" {done.returncode}: {done.stderr[-2000:].strip()}"
      )


def commit(name: str) -> str:
  """Returns the full name of a commit. Raises InputError if there is none."""
  found = _git("rev-parse", "--verify", f"{name}^{{commit}}")
  if found.returncode:
    raise errors.InputError(f"--base={name}: git knows no such commit")
  return found.stdout.decode().strip()


def _git(*arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    ["git", "-C", str(ROOT), *arguments], capture_output=True, check=False
  )


def check_out(sha: str, folder: pathlib.Path) -> None:
  """Writes the files of a commit and its compiled decoder into a folder."""
  make_empty(folder)
  archive = _git("archive", "--format=tar", sha)
  if archive.returncode:
    raise errors.RunError(f"git archive {sha}: {archive.stderr.decode()}")
  with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
    files.extractall(folder, filter="data")
  (source,) = folder.glob("imgbench/**/turbo.c")
  built = [
    *ROOT.glob("imgbench/**/_turbo*.so"),
    *ROOT.glob("imgbench/**/turbo.c"),
  ]
  if len(built) != 2:
    raise errors.InputError(
      f"{ROOT}: expected one compiled imgbench/data/_turbo*.so; make it with"
      " `python setup.py build_ext --inplace`"
    )
  if built[1].read_bytes() == source.read_bytes():
    shutil.copy(built[0], source.parent)
    return
  build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
  subprocess.run(build, cwd=folder, check=True)


def key(sha: str) -> str:
  """Names the outputs of a base by all that they depend on."""
  digest = hashlib.sha256(sys.version.encode())
  cpu = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  kind = [x for x in cpu if x.startswith(("model name", "flags"))][:2]
  digest.update("".join(kind).encode())
  for package in ("jax", "jaxlib", "flax", "optax", "numpy"):
    digest.update(importlib.metadata.version(package).encode())
  for name in ("items.py", "bad_inputs.py", "probe.py", "trees.py"):
    digest.update((HERE / name).read_bytes())
  digest.update(str(len(os.sched_getaffinity(0))).encode())
  return f"{sha[:12]}-{digest.hexdigest()[:12]}"


def make_empty(folder: pathlib.Path) -> None:
  """Makes a folder, without what was in it."""
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
