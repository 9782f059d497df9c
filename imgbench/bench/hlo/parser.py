"""Parses the text of compiled XLA programs: shapes, computations, loops."""

from collections.abc import Iterator
import dataclasses
import functools
import math
import re

# Bits of an element; shapes of other types (token, opaque) hold no data.
_BITS = {
  "pred": 8,
  **dict.fromkeys(("s4", "u4", "f4e2m1fn"), 4),
  **dict.fromkeys(("s8", "u8"), 8),
  **dict.fromkeys(("f8e4m3fn", "f8e5m2", "f8e4m3", "f8e4m3b11fnuz"), 8),
  **dict.fromkeys(("s16", "u16", "f16", "bf16"), 16),
  **dict.fromkeys(("s32", "u32", "f32"), 32),
  **dict.fromkeys(("s64", "u64", "f64", "c64"), 64),
  "c128": 128,
}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
  r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>.+?)"
  r" (?P<opcode>[a-z][a-z0-9\-]*)\((?P<rest>.*)$"
)
_CALLED = re.compile(
  r"\b(?:calls|to_apply|body|(?:branch|called)_computations"
  r"|(?:true|false)_computation)=(\{[^}]*\}|%?[\w.\-]+)"
)
_ARRAY = re.compile(r"^([a-z]\w*)\[([\d,<=]*)\]$")


@dataclasses.dataclass(frozen=True)
class Array:
  """A dense array: its XLA type, e.g. "bf16", and shape."""

  dtype: str
  shape: tuple[int, ...]

  @property
  def elements(self) -> int:
    return math.prod(self.shape)

  @property
  def num_bytes(self) -> int:
    return -(-self.elements * _BITS.get(self.dtype, 0) // 8)


def parse_type(text: str) -> list | Array | None:
  """Returns the type of an instruction: an Array, or a list for a tuple.

  Args:
    text: e.g. "(f32[8,4]{1,0:T(8,128)}, bf16[2])"; layouts are ignored.

  Returns:
    None for types without data.
  """
  text = re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", text).strip()
  if text.startswith("("):
    return [parse_type(part) for part in _split_parts(text[1:-1])]
  match = _ARRAY.match(text)
  if match is None or match[1] not in _BITS:
    return None
  sizes = match[2].replace("<=", "").split(",")
  return Array(match[1], tuple(int(size) for size in sizes if size))


def _split_parts(text: str) -> Iterator[str]:
  """Yields the parts between commas outside of brackets."""
  depth, start = 0, 0
  for position, char in enumerate(text):
    depth += (char in "([") - (char in ")]")
    if char == "," and not depth:
      yield text[start:position]
      start = position + 1
  if text[start:].strip():
    yield text[start:]


def list_arrays(parsed: list | Array | None) -> list[Array]:
  """Returns the arrays of a parsed type, in order."""
  if isinstance(parsed, list):
    return [array for part in parsed for array in list_arrays(part)]
  return [] if parsed is None else [parsed]


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program.

  Attributes:
    name: without "%".
    type_text: of its result.
    opcode: e.g. "all-reduce-start".
    rest: operands and attributes.
    computation: that contains it.
  """

  name: str
  type_text: str
  opcode: str
  rest: str
  computation: str

  @property
  def type(self) -> list | Array | None:
    return parse_type(self.type_text)

  def search(self, pattern: str) -> str | None:
    """Returns the first group of a pattern in operands and attributes."""
    match = re.search(pattern, self.rest)
    return match[1] if match else None

  @functools.cached_property
  def called(self) -> list[str]:
    """Computations that it calls, without conditions of loops."""
    names = []
    for match in _CALLED.finditer(self.rest):
      names += re.findall(r"[\w.\-]+", match[1])
    return names


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled program.

  Attributes:
    computations: by name.
    entry: name of the main computation.
    num_devices: number of devices that run it.
  """

  computations: dict[str, list[Instruction]]
  entry: str
  num_devices: int

  def count_repeats(self) -> dict[str, int]:
    """Returns how often each computation runs per call, if it does.

    Every branch of a conditional counts.

    Raises:
      ValueError: a loop with an unknown number of rounds.
    """
    times = {}

    def visit(name, count):
      times[name] = times.get(name, 0) + count
      for instruction in self.computations.get(name, ()):
        for called in instruction.called:
          rounds = 1
          if instruction.opcode == "while":
            rounds = self.count_rounds(instruction)
          visit(called, count * rounds)

    visit(self.entry, 1)
    return times

  def count_rounds(self, loop: Instruction) -> int:
    """Returns how often a loop's body runs; 1 if unknown. Raises ValueError."""
    known = loop.search(r"known_trip_count\W+n\W+(\d+)")
    if known:
      return int(known)
    # Counted loops, e.g. of lax.scan, start at 0 with steps of 1.
    condition = self.computations[loop.search(r"condition=%?([\w.\-]+)")]
    limits = {
      i.name: int(i.rest.split(")")[0])
      for i in condition
      if i.opcode == "constant" and i.rest[:1].isdigit()
    }
    for instruction in condition:
      compared = instruction.search(r", %?([\w.\-]+)\), direction=LT")
      if compared in limits:
        return limits[compared]
    return self._assume_one_round(loop)

  def _assume_one_round(self, loop: Instruction) -> int:
    """Returns 1 for a loop without collectives, where it does not matter."""
    seen, waiting = set(), [loop.search(r"body=%?([\w.\-]+)")]
    while waiting:
      name = waiting.pop()
      seen.add(name)
      for instruction in self.computations.get(name, ()):
        if "channel_id=" in instruction.rest:
          raise ValueError(
            f"{loop.name}: expected a loop that counts to a constant, got"
            f" {loop.rest[:200]}"
          )
        waiting += [c for c in instruction.called if c not in seen]
    return 1


def parse(text: str) -> Program:
  """Returns the program of `jax.stages.Compiled.as_text()`."""
  computations, entry, current = {}, "", None
  for line in text.splitlines():
    header = None if line[:1] in (" ", "}", "") else _HEADER.match(line)
    if header and not line.startswith("HloModule"):
      current = computations.setdefault(header[2], [])
      name = header[2]
      entry = name if header[1] else entry
    elif current is not None and line[:1] == " ":
      match = _INSTRUCTION.match(line)
      if match:
        current.append(
          Instruction(
            match["name"], match["type"], match["opcode"], match["rest"], name
          )
        )
  if not entry:
    raise ValueError(f"expected the text of a program, got {text[:80]!r}")
  head = text.partition("\n")[0]
  sizes = [
    int(re.search(rf"\b{key}=(\d+)", head)[1])
    for key in ("replica_count", "num_partitions")
    if f"{key}=" in head
  ]
  return Program(computations, entry, math.prod(sizes))
