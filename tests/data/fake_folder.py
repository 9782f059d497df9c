"""A folder with every version of a fake ImageNet, prepared by TFDS.

It is created once per machine, in the folder for temporary files, and shared by
all tests and environments: only the one that creates it needs TensorFlow.
"""

import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

from imgbench.prepare.fake_imagenet import __main__ as fake_imagenet
from imgbench.prepare.fake_imagenet import plan
from tests.train import processes

PLAN = plan.PicturePlan(image_size=(64, 48), train_per_class=2, oddities=True)
SETS = (
  "imagenet2012",
  "imagenet2012_multilabel",
  "imagenet2012_real",
  "imagenet2012_subset/1pct",
  "imagenet2012_subset/10pct",
  "imagenet_v2/matched-frequency",
  "imagenet_v2/threshold-0.7",
  "imagenet_v2/topimages",
  "imagenet_a",
  "imagenet_r",
)
# Raise it when preparing the same images gives other files.
_VERSION = 2
_UNUSED_S = 7 * 24 * 3600  # then folders of other versions are removed


def python_with_tensorflow() -> str:
  """Returns an interpreter that can prepare data sets; skips without one."""
  if importlib.util.find_spec("tensorflow"):
    return sys.executable
  if other := os.environ.get("IMGBENCH_PREPARE_PYTHON"):
    return other
  pytest.skip(
    "no TensorFlow to prepare a fake ImageNet with: pip install '.[prepare]',"
    " or set IMGBENCH_PREPARE_PYTHON to a Python that has it"
  )


def prepare_command(*arguments: str) -> list[str]:
  """Returns the command line of the program; skips without TensorFlow."""
  python = python_with_tensorflow()
  return [python, "-m", "imgbench.data.prepare", *arguments]


def run_prepare(*arguments: str) -> subprocess.CompletedProcess:
  """Runs the program to its end; skips without TensorFlow."""
  return subprocess.run(
    prepare_command(*arguments),
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def prepared() -> pathlib.Path:
  """Returns the `data_dir` that holds all of `SETS`; skips without.

  Nothing in it may be changed: other tests read it.
  """
  return _get_folder() / "data"


def manual_dir() -> pathlib.Path:
  """Returns the folder of tars and label files that `SETS` come from."""
  return _get_folder() / "manual"


@functools.cache
def _key() -> str:
  """Returns a hash of everything that the contents depend on."""
  digest = hashlib.sha256()
  sources = pathlib.Path(fake_imagenet.__file__).parent
  for path in sorted(sources.glob("*.py")):
    digest.update(path.read_bytes())
  version = importlib.metadata.version("tensorflow-datasets")
  digest.update(f"{_VERSION} {PLAN} {SETS} {version}".encode())
  return digest.hexdigest()[:16]


def _get_folder() -> pathlib.Path:
  root = pathlib.Path(tempfile.gettempdir(), f"imgbench-fake-{os.getuid()}")
  root.mkdir(mode=0o700, exist_ok=True)
  folder = root / _key()
  with open(root / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # the other workers wait here
    if not folder.is_dir():
      _prepare(root / f"{_key()}.part", folder)
    os.utime(folder)
  return folder


def _prepare(part: pathlib.Path, folder: pathlib.Path) -> None:
  python_with_tensorflow()  # or skip before there is work to do
  for path in part.parent.iterdir():
    unused = time.time() - path.stat().st_mtime > _UNUSED_S
    if path.is_dir() and (unused or path == part):
      shutil.rmtree(path)
  fake_imagenet.write(part / "manual", PLAN)
  result = run_prepare(
    f"--dataset={','.join(SETS)}",
    f"--manual_dir={part / 'manual'}",
    f"--data_dir={part / 'data'}",
    "--skip_checksums",
  )
  assert result.returncode == 0, result.stderr
  part.rename(folder)
