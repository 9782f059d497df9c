"""Tests of the commands in docs/accelerator.md, in tiny sizes."""

from collections.abc import Callable
import json
import pathlib
import re
import shlex
import subprocess
import sys
import time
import zipfile

import pytest

from imgbench import timing
from imgbench.bench import rows
from imgbench.experiments.accelerator import output
from imgbench.experiments.accelerator import stages
from tests.data import fake_folder
from tests.data import shared_files
from tests.train import processes

DOC = processes.ROOT / "docs" / "accelerator.md"
# Stages before networks, which do not run a second time.
BEFORE = ("facts", "correctness", "metrics")


def documented() -> list[list[str]]:
  """Returns the commands of the page, split as a shell does it."""
  blocks = re.findall(r"^```text\n(.*?)^```", DOC.read_text(), re.M | re.S)
  text = "".join(blocks).replace("\\\n", " ")
  return [shlex.split(line) for line in text.splitlines()]


def path_if_any(find: Callable[[], pathlib.Path]) -> str:
  """Returns the path of data; "" if a test would skip without them."""
  try:
    return str(find())
  except pytest.skip.Exception:
    return ""


def write_kit(folder: pathlib.Path) -> None:
  """Writes a kit with one empty wheel."""
  wheel = folder / "wheels" / "nothing_at_all-0-py3-none-any.whl"
  wheel.parent.mkdir(parents=True)
  about = "nothing_at_all-0.dist-info"
  with zipfile.ZipFile(wheel, "w") as file:
    version = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    file.writestr(f"{about}/WHEEL", version)
    names = "Metadata-Version: 2.1\nName: nothing_at_all\nVersion: 0\n"
    file.writestr(f"{about}/METADATA", names)
    file.writestr(f"{about}/RECORD", "")


def start(arguments: list[str]) -> subprocess.Popen:
  return subprocess.Popen(
    arguments,
    cwd=processes.ROOT,
    env=processes.environment() | {"PYTHON": sys.executable},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(arguments: list[str]) -> str:
  child = start(arguments)
  out, _ = child.communicate()
  assert child.returncode == 0, out
  return out


@pytest.mark.slow
def test_documented_commands_in_tiny_sizes(tmp_path):
  """The first one is killed in stage networks and called again."""
  cifar10 = path_if_any(lambda: shared_files.shared_path("data", "tfds"))
  imagenet = path_if_any(fake_folder.prepared)
  out, kit = tmp_path / "out", tmp_path / "kit"
  write_kit(kit)
  readme = tmp_path / "README.md"
  readme.write_text((processes.ROOT / "README.md").read_text())
  known = {
    "--out=runs/accelerator": f"--out={out}",
    "--check=runs/accelerator": f"--check={out}",
    "--cifar10_dir=CIFAR10": f"--cifar10_dir={cifar10}",
    "--imagenet_dir=IMAGENET": f"--imagenet_dir={imagenet}",
    "--readme=README.md": f"--readme={readme}",
    "kit": str(kit),
  }
  program = ".venv/bin/imgbench"
  commands = [
    [sys.executable, "-m", "imgbench", *words[1:]]
    if words[0] == program
    else words
    for words in documented()
  ]
  commands = [
    [word for word in (known.get(w, w) for w in words) if word]
    for words in commands
  ]
  started = [c for c in commands if c[2:4] == ["imgbench", "accelerator"]]
  tools = [c for c in started if c[4] == "results"]
  suites = [c for c in started if c not in tools]
  offline = [c for c in commands if c[0] == "sh"]
  made = [c for c in commands if c[0] == "make"]
  assert [len(x) > 0 for x in (suites, tools, offline, made)] == [True] * 4
  assert len(suites + tools + offline + made) == len(commands)

  first, *others = ([*command, "--tiny"] for command in suites)
  work = pathlib.Path(f"{out}.work")
  child = start(first)
  path = work / "bench" / rows.ROWS
  deadline = timing.clock() + 600
  while not (path.exists() and b'"train"' in path.read_bytes()):
    assert timing.clock() < deadline and child.poll() is None
    time.sleep(0.1)
  child.kill()
  child.wait()
  child.stdout.close()
  kept = path.read_bytes()
  kept = kept[: kept.rfind(b"\n") + 1]
  records = {name: work / "stages" / f"{name}.json" for name in BEFORE}
  before = {name: record.read_bytes() for name, record in records.items()}
  text = run(first)
  assert {name: r.read_bytes() for name, r in records.items()} == before
  assert not any(f"{name}: runs" in text for name in BEFORE)
  assert "networks: runs" in text and path.read_bytes().startswith(kept)

  ended = json.loads((out / output.RESULTS).read_text())
  assert [r["stage"] for r in ended["stages"]] == [
    stage.name for stage in stages.STAGES
  ]
  for record in ended["stages"]:
    skipped = record["status"] == "skipped" and record["message"]
    assert record["status"] == "ok" or skipped, record
  numbers = {one["name"]: one for one in ended["measurements"]}
  tests = numbers["tests passed"]
  assert tests["value"] == 1.0 and tests["n"] >= 22
  assert tests["note"].endswith(", 2 skipped")  # Those of cuDNN.
  assert len(list(out.iterdir())) <= 8

  # Nothing is left to do.
  for command in others:
    assert ": runs" not in run(command)
  for command in tools:
    run(command)
  run([*tools[0], "--complete"])
  for command in offline:
    alone = [w.replace(str(out), f"{out}_offline") for w in command]
    assert "facts: ok" in run([*alone, "--tiny", "--stages=facts"])
  targets = (processes.ROOT / "Makefile").read_text()
  for _, target, *_ in made:
    assert re.search(rf"^{target}\b.*:", targets, re.M), target
