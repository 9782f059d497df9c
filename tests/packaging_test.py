"""Tests of the installed package: wheel and source distribution."""

import os
import subprocess
import sys
import zipfile

import pytest

from tests.train import processes

pytestmark = pytest.mark.slow


def run(folder, *words, code=0):
  """Runs a command with the site-packages of `folder` first."""
  variables = processes.environment()
  variables["PYTHONPATH"] = str(folder / "site")
  done = subprocess.run(
    [sys.executable, "-c", "from imgbench import commands; commands.main()"]
    + list(words),
    cwd=folder / "empty",
    env=variables,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == code, done.stderr
  return done.stdout


def pip(*words):
  command = [sys.executable, "-m", "pip", *words]
  subprocess.run(command, check=True, cwd=processes.ROOT, capture_output=True)


def build_sdist(folder):
  code = "from setuptools import build_meta as b; print(b.build_sdist('{}'))"
  done = subprocess.run(
    [sys.executable, "-c", code.format(folder)],
    check=True,
    cwd=processes.ROOT,
    capture_output=True,
    text=True,
  )
  return folder / done.stdout.splitlines()[-1]


def build_wheel(folder, source):
  """Returns the wheel of a source folder or distribution."""
  pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(source))
  (wheel,) = folder.glob("*.whl")
  return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """Installs the package alone; its dependencies are those of the tests.

  The wheel is built from the source distribution.
  """
  folder = tmp_path_factory.mktemp("installed")
  (folder / "empty").mkdir()
  wheel = build_wheel(folder, build_sdist(folder))
  pip("install", "--no-deps", f"--target={folder / 'site'}", str(wheel))
  return folder


def read_package(wheel):
  """Returns name -> bytes of the package's files, none of them compiled."""
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    assert not any(
      name.startswith(("configs", "experiments")) for name in names
    )
    return {
      name: archive.read(name)
      for name in names
      if name.startswith("imgbench/") and not name.endswith(".so")
    }


def test_wheels_have_configs_and_experiments(installed, tmp_path):
  """Also the one that is built from the repository, with the same files."""
  (wheel,) = installed.glob("*.whl")
  found = read_package(wheel)
  direct = read_package(build_wheel(tmp_path, processes.ROOT))
  assert found.items() <= direct.items()
  for folder in ("imgbench", "configs", "experiments"):
    for path in processes.ROOT.joinpath(folder).rglob("*.py"):
      name = path.relative_to(processes.ROOT)
      assert str(name if folder == "imgbench" else "imgbench" / name) in found


def test_programs_run_in_an_empty_folder(installed):
  assert run(installed, "--version").split()[0] == "imgbench"
  short = "--config.steps.total=2 steps"
  run(installed, "train", "--config=tiny", "--workdir=run", short)
  assert (installed / "empty/run/report.html").is_file()
  out = run(installed, "sweep", "--config=tiny", "--sweep_dir=s", "--dry_run")
  assert str(installed / "site/imgbench/configs/tiny.py") in out
  run(installed, "bench", "--config=bench:quick", "--out=b", "--dry_run")
  assert "steps.total" in run(installed, "config", "tiny")
  run(installed, "paper", "imagenet-v2", "--repo=absent", code=2)
  assert os.listdir(installed / "empty") == ["run"]


def test_configs_of_users_import_their_neighbors(installed):
  own = installed / "empty" / "configs"
  own.mkdir()
  own.joinpath("mine.py").write_text("STEPS = '2 steps'\n")
  own.joinpath("run.py").write_text(
    "from configs import mine\nfrom imgbench.configs import tiny\n\n\n"
    "def get_config():\n  config = tiny.get_config()\n"
    "  config.steps.total = mine.STEPS\n  return config\n"
  )
  out = run(installed, "config", "configs/run.py")
  assert 'steps.total = "2 steps"' in out


@pytest.mark.parametrize("version", ["311", "312", "313", "399"])
def test_versions_are_pinned_for_tested_pythons(tmp_path, version):
  python = tmp_path / "python"
  python.write_text(f"#!/bin/sh\necho {version}\n")
  python.chmod(0o755)
  done = subprocess.run(
    [".ci/pip-constraints", python],
    cwd=processes.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  file = f"requirements/constraints-py{version}.txt"
  tested = processes.ROOT.joinpath(file).exists()
  assert tested == (version != "399")
  assert done.stdout.split() == (["-c", file] if tested else [])
  assert bool(done.stderr) != tested
