"""Finds the collectives of a compiled program in its text.

XLA writes a collective in many forms: alone or as a pair of start and done, in
a tuple with others, wrapped in an asynchronous computation, on TPUs as copies
in several fusions (start, parts that overlap other work, done), and a
reduce-scatter as a fusion of all-reduce and slice. Each is found once.
"""

from collections.abc import Iterable
import dataclasses
import math
import re

from imgbench.bench.hlo import parser

ALL_REDUCE = "all-reduce"
ALL_GATHER = "all-gather"
REDUCE_SCATTER = "reduce-scatter"
ALL_TO_ALL = "all-to-all"
PERMUTE = "collective-permute"
BROADCAST = "collective-broadcast"
KINDS = (
  ALL_REDUCE,
  ALL_GATHER,
  REDUCE_SCATTER,
  "ragged-all-to-all",
  ALL_TO_ALL,
  PERMUTE,
  BROADCAST,
)
# Axes with sizes, optionally the order of the devices, axes of a group.
_MESH = r"mesh\[([^\]]*)\](?:, device_ids=\(.*?\))? *\{([^}]*)\}"
# A device sends (n - 1) / n of the bytes this many times; None: all, once.
_RING_PASSES = {ALL_REDUCE: 2, PERMUTE: None, BROADCAST: None}


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of a program.

  Attributes:
    kind: one of KINDS.
    arrays: the whole arrays that are reduced or were gathered; for permutations
      and all-to-all those that a device receives.
    group_size: devices per group.
    times: per call of the program.
    asynchronous: whether other work may overlap.
    source: op_name of the program, e.g. "jit(step)/transpose(...)".
  """

  kind: str
  arrays: tuple[parser.Array, ...]
  group_size: int
  times: int
  asynchronous: bool
  source: str

  @property
  def elements(self) -> int:
    """Elements of `arrays` per call of the program."""
    return self.times * sum(array.elements for array in self.arrays)

  @property
  def num_bytes(self) -> int:
    """Bytes of `arrays` per call of the program."""
    return self.times * sum(array.num_bytes for array in self.arrays)

  @property
  def sent_bytes(self) -> float:
    """Least bytes that each device sends per call of the program.

    n devices reduce b bytes by sending 2 b (n - 1) / n each (Patarasuk and
    Yuan 2009), and gather, scatter or exchange them by half of that.
    """
    passes = _RING_PASSES.get(self.kind, 1)
    if passes is None:
      return float(self.num_bytes)
    return passes * self.num_bytes * (self.group_size - 1) / self.group_size

  @property
  def dtypes(self) -> str:
    return "+".join(sorted({array.dtype for array in self.arrays}))


def find(text: str) -> list[Collective]:
  """Returns the collectives of a program's text, in order.

  Groups of one device, which move nothing, are left out.

  Raises:
    ValueError: no program, or a loop of unknown length with collectives.
  """
  program = parser.parse(text)
  repeats = program.count_repeats()
  pieces = {
    name
    for name, computation in program.computations.items()
    if "async" in name
    or any("AsyncCollective" in one.rest for one in computation)
  }
  found = {}
  for name, times in repeats.items():
    for instruction in program.computations.get(name, ()):
      kind = _find_kind(instruction)
      if kind is None:
        continue
      key = instruction.name
      channel = instruction.search(r"channel_id=(\d+)")
      if name in pieces and channel is not None:
        # Copies of one collective: start, overlapping parts, done. Outside of
        # these several collectives may have the same channel.
        key = f"{kind} of channel {channel}"
        if key in found:
          found[key] = dataclasses.replace(found[key], asynchronous=True)
          continue
      one = _read_collective(instruction, kind, times, program.num_devices)
      if one.group_size > 1:
        found[key] = one
  return list(found.values())


def _find_kind(instruction: parser.Instruction) -> str | None:
  opcode = instruction.opcode.removesuffix("-start")
  if opcode not in KINDS:
    return None
  # XLA:TPU's reduce-scatter.
  if instruction.computation.startswith("all-reduce-scatter"):
    return REDUCE_SCATTER
  return opcode


def _read_collective(instruction, kind, times, num_devices) -> Collective:
  parsed = instruction.type
  # An asynchronous computation is started by its caller.
  start = instruction.opcode.endswith("-start")
  if start and isinstance(parsed, list) and kind != ALL_REDUCE:
    parsed = parsed[1]  # Of operands, results and device state.
  size = parse_group_size(instruction.rest, num_devices)
  found = tuple(parser.list_arrays(parsed))
  if kind == REDUCE_SCATTER and instruction.opcode != ALL_REDUCE:
    found = tuple(
      dataclasses.replace(array, shape=(size, *array.shape)) for array in found
    )
  return Collective(
    kind=kind,
    arrays=found,
    group_size=size,
    times=times,
    asynchronous=start or "async" in instruction.computation,
    source=instruction.search(r'op_name="([^"]*)"') or "",
  )


def parse_group_size(attributes: str, num_devices: int) -> int:
  """Returns the number of devices in each group of a collective.

  Args:
    attributes: with replica_groups as {{0,1},{2,3}}, as [2,2]<=[4], as
      mesh['data'=2,'fsdp'=2] {'fsdp'}, or as {} for all; or with
      source_target_pairs.
    num_devices: of the program.
  """
  if "source_target_pairs=" in attributes:
    return num_devices
  groups = attributes.partition("replica_groups=")[2]
  if match := re.match(r"\{\{([\d, ]*)\}", groups):
    return len(match[1].split(","))
  if match := re.match(r"\[\d+,(\d+)\]<=", groups):
    return int(match[1])
  if match := re.match(_MESH, groups):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
    # A part of an axis: 'fsdp':(2)4 is 4 of it.
    used = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2])
    return math.prod(int(part or sizes[name]) for name, part in used)
  return num_devices


def sum_sent(found: Iterable[Collective]) -> float:
  """Returns the least bytes that each device sends per call of the program."""
  return sum(one.sent_bytes for one in found)
