"""Programs that read damaged and hostile files."""

from collections.abc import Callable
import dataclasses
import io
import json
import pathlib
import random
import shutil
import subprocess
import zipfile

import numpy as np

from imgbench import commands
from imgbench import living
from imgbench.launch import locks
from imgbench.launch import units
from tests import forked
from tests import trials
from tests.data import tiny_tfds
from tests.launch import written_sweep
from tests.papers import human_files
from tests.train import processes
from tests.trials import inputs

LIMIT_S = 60
PEAK_BYTES = 3 << 29  # of a program on files of kilobytes
BOMB_BYTES = 3 << 30  # what a small compressed file holds
_TINY = f"--config={processes.ROOT}/configs/tiny.py"

_LEAVES = (
  *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**63, 10**400),
  *("", "\x1b[31mred\x1b[0m", "../../outside", "/absent", "a\nb", "=1+1"),
  *("<script>", "é" * 5000, [], {}, [[]], {"": None}),
)
_JSON = (
  *(b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN"),
  b'{"a": ' * 50_000,
)
# Opcodes: mark, tuples, lists, dicts, memo, numbers, texts, names, calls.
_PICKLED = (
  *(b"(", b"t", b"l", b"]", b"}", b"d", b"a", b"e", b"s", b"u", b"2", b"0"),
  *(b"\x94", b"q\x00", b"h\x00", b"r\xff\xff\xff\x7f", b"j\x00\x00\x00\x00"),
  *(b"\x85", b"\x86", b"\x87", b"\x8f", b"\x90", b"\x91", b"N", b"K\x01"),
  *(b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"\x8d" + b"\xff" * 8),
  *(b"\x8c\x01a", b"cos\nsystem\n", b"\x8c\x08builtins\x8c\x03set\x93"),
  *(
    b"cbuiltins\nlist\n",
    b"R",
    b"\x81",
    b"b",
    b"o",
    b"\x82\x01",
    b"Q",
    b"\x97",
  ),
)


@dataclasses.dataclass(frozen=True)
class Setting:
  """Run and process that the files refer to.

  Attributes:
    workdir: of a finished run.
    bystander: pid of a process that is no run, and that must not be stopped.
  """

  workdir: pathlib.Path
  bystander: int


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of file, and the programs that read it.

  Attributes:
    name: of the table's row.
    write: (folder, setting); writes whole files.
    pattern: of the files that are changed.
    damage: (generator, content) -> content.
    lines: command lines from the command's name, with {folder}.
  """

  name: str
  write: Callable[[pathlib.Path, Setting], None]
  pattern: str
  damage: Callable[[random.Random, bytes], bytes]
  lines: tuple[tuple[str, ...], ...]


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
  """Returns bytes with a random part changed."""
  at = rng.randrange(len(content) + 1)
  some = rng.randbytes(rng.choice((1, 4, 64)))
  return rng.choice(
    (
      content[:at],
      content[:at] + some + content[at:],
      content[:at] + some + content[at + len(some) :],
      content[:at] + content[at + 8 :],
      content + content,
      b"",
    )
  )


def damage_json(rng: random.Random, content: bytes) -> bytes:
  """Returns JSON with a random value replaced, or bytes that are no JSON."""
  if rng.random() < 0.2:
    return rng.choice(_JSON)
  if rng.random() < 0.2:
    return damage_bytes(rng, content)
  value = json.loads(content)
  places = list(_list_places(value))
  if places:
    holder, key = rng.choice(places)
    holder[key] = rng.choice(_LEAVES)
    if isinstance(holder, dict) and rng.random() < 0.2:
      del holder[key]
  return json.dumps(value).encode()


def _list_places(value):
  """Yields the container and the key of each value inside of a value."""
  if isinstance(value, dict | list):
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
      yield value, key
      yield from _list_places(value[key])


def damage_pickle(rng: random.Random, content: bytes) -> bytes:
  """Returns a damaged pickle, or random opcodes."""
  if rng.random() < 0.4:
    return damage_bytes(rng, content)
  parts = rng.choices(_PICKLED, k=rng.randint(1, 200))
  if rng.random() < 0.5:  # Grows by powers.
    parts += [b"(h\x00h\x00h\x00t\x94q\x00", b"(h\x00h\x00l\x94q\x00"] * 40
  return b"\x80\x04" + b"N\x94q\x00" + b"".join(parts) + b"."


def damage_npz(rng: random.Random, content: bytes) -> bytes:
  """Returns an npz with one changed array, or damaged bytes."""
  if rng.random() < 0.3:
    return damage_bytes(rng, content)
  with zipfile.ZipFile(io.BytesIO(content)) as old:
    members = {name: old.read(name) for name in old.namelist()}
  name = rng.choice(sorted(members))
  make = rng.choice((_write_bomb, _write_false_shape, _write_other_array))
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
    for other, data in members.items():
      if other != name:
        new.writestr(other, data)
    with new.open(name, "w", force_zip64=True) as member:
      make(rng, member)
  return file.getvalue()


def _write_header(member, shape, kind) -> None:
  header = {"descr": kind, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(member, header)


def _write_bomb(rng: random.Random, member) -> None:
  rows = BOMB_BYTES // 4
  _write_header(member, rng.choice(((rows,), (rows // 8, 8))), "<f4")
  for _ in range(BOMB_BYTES >> 24):
    member.write(bytes(1 << 24))


def _write_false_shape(rng: random.Random, member) -> None:
  shape = rng.choice(((1 << 40,), (1 << 31, 1 << 31), (0,), (), (1, 0, 9)))
  _write_header(member, shape, rng.choice(("<f4", "<i8", "<U4", "|S1")))
  member.write(bytes(64))


def _write_other_array(rng: random.Random, member) -> None:
  kind = rng.choice(("<f8", ">f4", "<i2", "|b1", "<U3", "<c8", "<M8[s]", "O"))
  values = np.zeros(rng.choice((0, 1, 72, 1000)), kind)
  np.lib.format.write_array(member, values, allow_pickle=kind == "O")


def _copy_run(folder: pathlib.Path, setting: Setting) -> None:
  shutil.copytree(setting.workdir, folder / "run")


def _write_sweep(folder: pathlib.Path, setting: Setting) -> None:
  points = [{"seed": seed, "schedule.peak": 0.1} for seed in range(3)]
  sweep = written_sweep.sweep(folder / "sweep", points)
  # A process that is no run: `sweep cancel` must not stop it.
  process = living.describe_process(setting.bystander)
  for unit in sweep.units:
    written_sweep.write_run(unit, (100, 120))
    units.record(unit, state=units.RUNNING, process=process, attempts=1)
  (folder / "sweep" / locks.LAUNCHER).write_text(json.dumps(process))


def _write_pickle(folder: pathlib.Path, setting: Setting) -> None:
  del setting
  human_files.write_pickle(folder / "human.pickle")


def _write_records(folder: pathlib.Path, setting: Setting) -> None:
  del setting
  tiny_tfds.write(folder / "data", {"train": [tiny_tfds.examples(24)]})


_REPORT = ("report", "--workdir={folder}/run")
_POINTS = (
  *("operating-points", "--workdir={folder}/run", "--class=0"),
  *("--dataset=scenes:validation", "--recall=0.9"),
)
_TRAIN = ("train", _TINY, "--workdir={folder}/run", *inputs.SHORT)
_TRAIN_TFDS = (
  *_TRAIN,
  *("--config.data.name=tiny", "--config.data.data_dir={folder}/data"),
  *("--config.data.options={}", "--config.evaluation.sets={}"),
  "--config.checkpoint.best=",
)
_SWEEP = "--sweep_dir={folder}/sweep"
KINDS = (
  Kind(
    "results and status of a run",
    _copy_run,
    "run/*.json",
    damage_json,
    (_REPORT, _POINTS, _TRAIN),
  ),
  Kind(
    "predictions of a run",
    _copy_run,
    "run/predictions/*.npz",
    damage_npz,
    (_REPORT, _POINTS),
  ),
  Kind(
    "sweep",
    _write_sweep,
    "sweep/**/*.json",
    damage_json,
    (
      ("sweep table", _SWEEP, "--out={folder}/table"),
      ("sweep", "status", _SWEEP),
      ("sweep", "cancel", _SWEEP),
    ),
  ),
  Kind(
    "pickle of annotations",
    _write_pickle,
    "human.pickle",
    damage_pickle,
    (("paper multilabel", "--annotations={folder}/human.pickle"),),
  ),
  Kind(
    "description of a data set",
    _write_records,
    "data/**/*.json",
    damage_json,
    (_TRAIN_TFDS,),
  ),
  Kind(
    "records of a data set",
    _write_records,
    "data/**/*.tfrecord*",
    damage_bytes,
    (_TRAIN_TFDS,),
  ),
)


def run(
  rng: random.Random, folder: pathlib.Path, workdir: pathlib.Path, count: int
) -> list[trials.Trial]:
  """Lets programs read changed files.

  Args:
    rng: chooses files and changes.
    folder: where they are written.
    workdir: of a finished run.
    count: number of trials.
  """
  with subprocess.Popen(["sleep", "100000"]) as bystander:
    try:
      found = _run(rng, folder, Setting(workdir, bystander.pid), count)
      alive = bystander.poll() is None
    finally:
      bystander.kill()
  problem = "" if alive else "a process that is no run was stopped"
  return [*found, trials.Trial("hostile", "bystander", "", problem)]


def _run(
  rng: random.Random, folder: pathlib.Path, setting: Setting, count: int
) -> list[trials.Trial]:
  drawn, lines = [], []
  for number in range(count):
    kind = rng.choice(KINDS)
    own = folder / "files" / str(number)
    own.mkdir(parents=True)
    kind.write(own, setting)
    path = rng.choice(sorted(own.glob(kind.pattern)))
    path.write_bytes(kind.damage(rng, path.read_bytes()))
    name, *rest = (
      x.replace("{folder}", str(own)) for x in rng.choice(kind.lines)
    )
    drawn.append((kind, f"{name} with {path.relative_to(folder)}"))
    lines.append([commands.COMMANDS[name].module, *rest])
  outcomes = forked.run_all(lines, folder / "runs", LIMIT_S)
  strangers = {p.name for p in folder.iterdir()} - {"files", "runs"}
  return [
    trials.Trial("hostile", kind.name, name, _judge(done, strangers))
    for (kind, name), done in zip(drawn, outcomes, strict=True)
  ]


def _judge(done: forked.Outcome, strangers: set[str]) -> str:
  """Returns what did not hold at the end of a program."""
  if done.peak_bytes > PEAK_BYTES:
    return f"{done.peak_bytes / 2**20:.0f} MiB of memory"
  if strangers:
    return f"files outside of the folder: {sorted(strangers)}"
  return inputs.judge(done)
