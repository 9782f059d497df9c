"""Fills the accelerator kit, for hosts without network.

python experiments/accelerator/kit.py --out=KIT --cifar10=DATA_DIR \\
    [--imagenet=DATA_DIR] [--airbench=DIR] [--max_mb=45]

It has wheels for CPython 3.12 on Linux x86-64 (accelerator-kit.txt, pinned by
constraints-py312.txt in requirements/), archives of CIFAR-10 and a synthetic
ImageNet prepared by TFDS, and the script of the baseline, if a clone of its
repository is given. Standard library only. `make accelerator-kit` calls it.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
WHEELS, FACTS = "wheels", "kit.json"
# Flag of experiments.accelerator -> archive.
DATA = {"cifar10_dir": "cifar10.tar.xz", "imagenet_dir": "imagenet.tar.xz"}
AIRBENCH = "airbench94_muon.py"
# Tags of wheels that glibc 2.35 and later can load.
_PLATFORMS = tuple(
  f"manylinux_2_{minor}_x86_64" for minor in (34, 28, 27, 24, 17)
) + ("manylinux2014_x86_64", "manylinux1_x86_64")
_SOURCE_ONLY = ("promise",)


def list_pins() -> list[str]:
  """Returns the kit's requirements, each with its tested version."""
  names = [
    line.strip()
    for line in _read(REQUIREMENTS / "accelerator-kit.txt").splitlines()
    if line.strip() and not line.startswith("#")
  ]
  normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
  tested = {}
  for line in _read(REQUIREMENTS / "constraints-py312.txt").split():
    name, _, version = line.partition("==")
    tested[normal(name)] = f"{name}=={version}"
  return [tested[normal(name)] for name in names]


def download(wheels: pathlib.Path) -> None:
  """Downloads the wheels; builds those that are published as sources only."""
  shutil.rmtree(wheels, ignore_errors=True)
  pip = [sys.executable, "-m", "pip"]
  quiet = ["--quiet", "--no-deps"]
  source = [p for p in list_pins() if p.partition("==")[0] in _SOURCE_ONLY]
  platforms = [f"--platform={name}" for name in _PLATFORMS]
  subprocess.run(
    [*pip, "download", *quiet, "--only-binary=:all:", "--python-version=3.12"]
    + ["--implementation=cp", *platforms, f"--dest={wheels}"]
    + [pin for pin in list_pins() if pin not in source],
    check=True,
  )
  subprocess.run(
    [*pip, "wheel", *quiet, f"--wheel-dir={wheels}", *source], check=True
  )


def pack(data_dir: pathlib.Path, name: str, archive: pathlib.Path) -> None:
  """Packs the folder of a prepared data set below its data_dir."""
  if not (data_dir / name).is_dir():
    raise SystemExit(f"kit: {data_dir}: expected a folder {name} in it")
  with tarfile.open(archive, "w:xz") as packed:
    packed.add(data_dir / name, name)


def unpack(kit: str, folder: pathlib.Path) -> dict[str, str]:
  """Unpacks the data of a kit, once.

  Args:
    kit: folder that this program filled.
    folder: to unpack into; created if missing.

  Returns:
    Flag of experiments.accelerator -> path, for what the kit has.
  """
  found = {}
  source = pathlib.Path(kit)
  for name, archive in DATA.items():
    if not (source / archive).exists():
      continue
    target, part = folder / name, folder / f"{name}.part"
    if not target.exists():
      shutil.rmtree(part, ignore_errors=True)
      with tarfile.open(source / archive) as packed:
        packed.extractall(part, filter="data")
      part.rename(target)  # Atomic.
    found[name] = str(target)
  if (source / AIRBENCH).exists():
    found["airbench"] = str(source / AIRBENCH)
  if (source / FACTS).exists():
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / FACTS, folder / FACTS)
  return found


def read_commit(folder: pathlib.Path) -> str:
  """Returns the commit of an unpacked kit; "" if unknown."""
  path = folder / FACTS
  return json.loads(_read(path))["commit"] if path.exists() else ""


def _read(path: pathlib.Path) -> str:
  return path.read_text(encoding="utf-8")


def sum_mb(folder: pathlib.Path) -> float:
  """Returns the size of all files in MiB."""
  files = (path for path in folder.rglob("*") if path.is_file())
  return sum(path.stat().st_size for path in files) / 2**20


def _git(*arguments: str) -> str:
  command = ["git", "-C", str(ROOT), *arguments]
  return subprocess.run(
    command, capture_output=True, text=True, check=False, encoding="utf-8"
  ).stdout.strip()


def main() -> None:
  """Fills the folder and prints its contents."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--out", required=True, type=pathlib.Path)
  parser.add_argument("--cifar10", type=pathlib.Path, help="its data_dir")
  parser.add_argument("--imagenet", type=pathlib.Path, help="its data_dir")
  parser.add_argument("--airbench", type=pathlib.Path, help="a clone")
  parser.add_argument("--max_mb", type=float, default=45.0)
  values = parser.parse_args()
  out = values.out
  out.mkdir(parents=True, exist_ok=True)
  download(out / WHEELS)
  missing = []
  for path, name, archive in (
    (values.cifar10, "cifar10", DATA["cifar10_dir"]),
    (values.imagenet, "imagenet2012", DATA["imagenet_dir"]),
  ):
    (out / archive).unlink(missing_ok=True)
    if path is None:
      missing.append(name)
    else:
      pack(path, name, out / archive)
  (out / AIRBENCH).unlink(missing_ok=True)
  if values.airbench is None:
    missing.append("airbench")
  elif not (values.airbench / AIRBENCH).is_file():
    raise SystemExit(f"kit: --airbench={values.airbench}: no {AIRBENCH} there")
  else:
    shutil.copy(values.airbench / AIRBENCH, out / AIRBENCH)
  changed = "+" if _git("status", "--porcelain", "-uno") else ""
  facts = {
    "commit": _git("rev-parse", "--short=12", "HEAD") + changed,
    "packages": list_pins(),
    "missing": missing,
  }
  (out / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
  for path in sorted(out.iterdir()):
    size = sum_mb(path) if path.is_dir() else path.stat().st_size / 2**20
    print(f"{size:8.2f} MiB  {path.name}")
  total = sum_mb(out)
  print(
    f"{total:8.2f} MiB of {values.max_mb:g}; missing: {missing or 'nothing'}"
  )
  if total > values.max_mb:
    raise SystemExit(
      f"kit: expected at most {values.max_mb:g} MiB, got {total:.1f}: raise"
      " --max_mb or leave data out"
    )


if __name__ == "__main__":
  main()
