"""Counts the kernels of a program compiled for a GPU, and what they move.

XLA launches one kernel per instruction of the program's schedule: a fusion, a
library call (cuDNN, cuBLAS), a copy. Counting after compilation matters:
StableHLO still holds every branch of `platform_dependent`. A loop counts as its
body, as often as it is known to run, else once. Caches and launches are
ignored, so times are not predictions.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import math
import re
from typing import Any

from imgbench.bench.hlo import parser
from imgbench.tables import formats
from imgbench.tables import table

LARGE_BYTES = 1_000_000
# Rates of the roofline: nine and eight tenths of an H200's datasheet (4.8 TB/s,
# 989 TFLOP/s in bfloat16), assumed to be what large copies and products reach.
# Products in other types are timed at the same rate, which flatters float32.
BYTES_PER_S = 4.3e12
FLOPS_PER_S = 790e12
# Instructions that launch nothing.
_FREE = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
  *("after-all", "partition-id", "replica-id", "opt-barrier"),
}
# Instructions whose computations are launched one instruction at a time.
_CONTROL = {"while", "conditional", "call", "async-start"}
_SLICES = {"slice", "dynamic-slice", "gather"}
_LAYOUT = {"copy", "transpose"}
_CONVOLUTIONS = ("__cudnn$conv", "convolution")
_PRODUCTS = ("__cublas$", "dot")


@dataclasses.dataclass(frozen=True)
class MatrixOp:
  """A convolution or a matrix product.

  Attributes:
    kind: library function or opcode, e.g. "__cudnn$convForward".
    operands: the first two.
    result: without the library's workspace.
    dim_labels: layout of a convolution; "" for a product.
    flops: a multiply-add is two; padding counts as data.
  """

  kind: str
  operands: tuple[parser.Array, ...]
  result: parser.Array
  dim_labels: str
  flops: int

  @property
  def large_float32(self) -> list[parser.Array]:
    """Its float32 operands of LARGE_BYTES or more."""
    wide = (array for array in self.operands if array.dtype == "f32")
    return [array for array in wide if array.num_bytes >= LARGE_BYTES]

  @property
  def dtypes(self) -> str:
    return f"{'x'.join(a.dtype for a in self.operands)}->{self.result.dtype}"


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One instruction of the schedule that launches something.

  Attributes:
    name: of the instruction.
    opcodes: inside a fusion, or its own; library calls by their target.
    num_bytes: operands read and outputs written, of one launch.
    matrix_ops: its convolutions and products.
    times: launches in one call of the program.
  """

  name: str
  opcodes: tuple[str, ...]
  num_bytes: int
  matrix_ops: tuple[MatrixOp, ...]
  times: int

  @property
  def flops(self) -> int:
    return sum(op.flops for op in self.matrix_ops)

  @property
  def seconds(self) -> float:
    """The larger of the times for bytes and FLOPs, of one launch."""
    return max(self.num_bytes / BYTES_PER_S, self.flops / FLOPS_PER_S)

  @property
  def changes_layout(self) -> bool:
    """Whether it copies or transposes, alone or beside other work."""
    return not _LAYOUT.isdisjoint(self.opcodes)


def summarize(text: str) -> dict[str, Any]:
  """Returns the counts of a compiled program's text, of one call, for JSON.

  Raises:
    ValueError: the text is no compiled program.
  """
  program = parser.parse(text)
  kernels = find(program)
  opcodes = collections.Counter()
  for name, times in program.repeats().items():
    for one in program.computations.get(name, ()):
      opcodes[_kind(one)] += times
  matching = lambda pattern: sum(
    times for name, times in opcodes.items() if re.search(pattern, name)
  )
  layout = [one for one in kernels if one.changes_layout]
  wide = [
    (kernel.times, sum(array.num_bytes for array in op.large_float32))
    for kernel in kernels
    for op in kernel.matrix_ops
    if op.large_float32
  ]
  return {
    "count": _sum(kernels, lambda one: 1),
    "small_count": _sum(kernels, lambda one: one.num_bytes < LARGE_BYTES),
    "bytes": _sum(kernels, lambda one: one.num_bytes),
    "flops": _sum(kernels, lambda one: one.flops),
    "roofline_ms": 1e3 * _sum(kernels, lambda one: one.seconds),
    "matrix_ops": group_matrix_ops(kernels),
    "layout_count": _sum(layout, lambda one: 1),
    "layout_bytes": _sum(layout, lambda one: one.num_bytes),
    "float32_matrix_ops": sum(times for times, _ in wide),
    "float32_operand_bytes": sum(times * size for times, size in wide),
    "scatters": opcodes["scatter"],
    "sorts": matching("(?i)sort"),
    "whiles": opcodes["while"],
    "host_callbacks": matching("callback|infeed|outfeed"),
  }


def _sum(kernels: Iterable[Kernel], value: Callable[[Kernel], float]):
  return sum(one.times * value(one) for one in kernels)


def group_matrix_ops(kernels: Iterable[Kernel]) -> list[dict[str, Any]]:
  """Returns convolutions and products by kind, layout and types."""
  counts, flops = collections.Counter(), collections.Counter()
  for kernel in kernels:
    for op in kernel.matrix_ops:
      key = op.kind, op.dim_labels, op.dtypes
      counts[key] += kernel.times
      flops[key] += kernel.times * op.flops
  names = ("kind", "dim_labels", "dtypes", "count", "flops")
  return [
    dict(zip(names, (*key, counts[key], flops[key]), strict=True))
    for key in sorted(counts)
  ]


def format_summary(summary: Mapping[str, Any]) -> str:
  """Returns a summary to be read."""
  gb = lambda key: f"{summary[key] / 1e9:.2f} GB"
  others = ("scatters", "sorts", "whiles", "host_callbacks")
  lines = [
    f"  kernels: {summary['count']:,} ({summary['small_count']:,} move less"
    f" than 1 MB), {gb('bytes')}, {summary['flops'] / 1e12:.3f} TFLOP; at least"
    f" {summary['roofline_ms']:.2f} ms",
    f"  copies and transposes: {summary['layout_count']}, {gb('layout_bytes')};"
    f" {', '.join(f'{name} {summary[name]}' for name in others)}",
    f"  convolutions and products, {summary['float32_matrix_ops']} of large"
    f" float32 operands ({gb('float32_operand_bytes')}):",
  ]
  columns = (
    table.number("count", "times"),
    table.Column("kind"),
    table.Column("dtypes"),
    table.number("flops", "TFLOP", lambda flops: formats.decimal(flops / 1e12)),
    table.Column("dim_labels", "dimensions"),
  )
  found = summary["matrix_ops"]
  operations = table.Table("", columns, found).lines() if found else []
  return "\n".join([*lines, *(f"    {line}" for line in operations)])


def find(program: parser.Program) -> list[Kernel]:
  """Returns the kernels of a program, in the order of its schedule."""
  return list(_visit(program, program.entry, 1))


def _visit(program, name, times) -> Iterator[Kernel]:
  computation = program.computations[name]
  types = {one.name: one.type for one in computation}
  for one in computation:
    if one.opcode in _FREE or one.opcode.endswith("-done"):
      continue
    if one.opcode in _CONTROL:
      rounds = program.rounds(one) if one.opcode == "while" else 1
      for called in one.called:
        yield from _visit(program, called, times * rounds)
    else:
      yield _kernel(program, one, types, times)


def _kernel(program, instruction, types, times) -> Kernel:
  body = [instruction]
  names = _operands(instruction)
  if instruction.opcode == "fusion":
    (called,) = instruction.called
    body = program.computations[called]
    inner = {
      int(i.rest.split(")")[0]): i.name for i in body if i.opcode == "parameter"
    }
    read = [(types.get(name), inner[i]) for i, name in enumerate(names)]
    types = {one.name: one.type for one in body}
  else:
    read = [(types.get(name), name) for name in dict.fromkeys(names)]
  num_bytes = sum(_read_bytes(kind, name, body) for kind, name in read)
  num_bytes += _written_bytes(instruction, body, types)
  ops = (_matrix_op(one, types) for one in body)
  return Kernel(
    name=instruction.name,
    opcodes=tuple(_kind(one) for one in body),
    num_bytes=num_bytes,
    matrix_ops=tuple(op for op in ops if op),
    times=times,
  )


def _operands(instruction: parser.Instruction) -> list[str]:
  return re.findall(r"%([\w.\-]+)", instruction.rest.partition(")")[0])


def _kind(instruction: parser.Instruction) -> str:
  target = instruction.attribute(r'custom_call_target="([^"]+)"')
  return target or instruction.opcode


def _size(kind: list | parser.Array | None) -> int:
  return sum(array.num_bytes for array in parser.list_arrays(kind))


def _read_bytes(kind, name: str, body) -> int:
  """Bytes of an operand; where only slices of it are used, those of them."""
  users = [one for one in body if name in _operands(one)]
  parts = 0
  for user in users:
    first, *others = _operands(user)
    if name in others or user.opcode not in {*_SLICES, "dynamic-update-slice"}:
      return _size(kind)
    # What is updated in place is not read.
    parts += _size(user.type) if user.opcode in _SLICES else 0
  return min(parts, _size(kind))


def _written_bytes(instruction, body, types) -> int:
  outputs = parser.list_arrays(instruction.type)
  if _kind(instruction).startswith("__cu") and len(outputs) > 1:
    outputs = outputs[:-1]  # Libraries return their workspace last.
  written = sum(array.num_bytes for array in outputs)
  for one in body:
    if one.opcode == "dynamic-update-slice" and one.type in outputs:
      written += _size(types.get(_operands(one)[1])) - _size(one.type)
  return written


def _matrix_op(instruction, types) -> MatrixOp | None:
  kind = _kind(instruction)
  if not kind.startswith((*_CONVOLUTIONS, *_PRODUCTS)):
    return None
  operands = [types.get(name) for name in _operands(instruction)[:2]]
  result = parser.list_arrays(instruction.type)[0]
  labels = instruction.attribute(r"dim_labels=([\w>\-]+)") or ""
  if labels:
    flops = _convolution_flops(kind, operands, result, labels)
  else:
    dims = instruction.attribute(
      r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d,"]*)'
    )
    summed = [int(dim) for dim in re.findall(r"\d+", dims or "")]
    depth = math.prod(operands[0].shape[dim] for dim in summed)
    flops = 2 * result.elements * depth
  return MatrixOp(kind, tuple(operands), result, labels, flops)


def _convolution_flops(kind, operands, result, labels) -> int:
  """A multiply-add per output and weight of its channel.

  cuDNN's gradients keep the labels of the forward convolution: that of the
  input takes (gradient, kernel), that of the kernel returns it.
  """
  output, kernel = result, operands[1]
  if kind.endswith("BackwardInput"):
    output = operands[0]
  elif kind.endswith("BackwardFilter"):
    output, kernel = operands[1], result
  channels = kernel.shape[re.split(r"_|->", labels)[1].index("o")]
  return 2 * output.elements * kernel.elements // channels
