"""Counts kernels, bytes and FLOPs of a program compiled for a GPU.

XLA launches one kernel per instruction of the program's schedule: a fusion, a
library call (cuDNN, cuBLAS), a copy. Counting after compilation matters:
StableHLO still has every branch of `platform_dependent`. The body of a loop
counts as often as it is known to run, else once. Caches and launch overheads
are ignored, so times are not predictions.
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
# Rates of the roofline: 90% and 80% of an H200's datasheet (4.8 TB/s, 989
# TFLOP/s in bfloat16), assumed for large copies and products. The same rate is
# used for products in other types, which underestimates float32.
BYTES_PER_S = 4.3e12
FLOPS_PER_S = 790e12
# Instructions that launch no kernel.
_FREE = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
  *("after-all", "partition-id", "replica-id", "opt-barrier"),
}
# Instructions whose computations launch kernels of their own.
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
    flops: a multiply-add counts as two; padding counts as data.
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
  """An instruction of the schedule that launches a kernel.

  Attributes:
    name: of the instruction.
    opcodes: its own, or those inside a fusion; targets of library calls.
    num_bytes: operands read and outputs written per launch.
    matrix_ops: its convolutions and products.
    times: launches per call of the program.
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
    """Time of a launch: the larger of those for bytes and FLOPs."""
    return max(self.num_bytes / BYTES_PER_S, self.flops / FLOPS_PER_S)

  @property
  def changes_layout(self) -> bool:
    """Returns whether it copies or transposes, alone or in a fusion."""
    return not _LAYOUT.isdisjoint(self.opcodes)


def summarize(text: str) -> dict[str, Any]:
  """Returns the counts per call of a compiled program's text, for JSON.

  Raises:
    ValueError: the text is no compiled program.
  """
  program = parser.parse(text)
  kernels = find(program)
  opcodes = collections.Counter()
  for name, times in program.count_repeats().items():
    for one in program.computations.get(name, ()):
      opcodes[_find_kind(one)] += times

  def count_matching(pattern: str) -> int:
    matching = (name for name in opcodes if re.search(pattern, name))
    return sum(opcodes[name] for name in matching)

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
    "sorts": count_matching("(?i)sort"),
    "whiles": opcodes["while"],
    "host_callbacks": count_matching("callback|infeed|outfeed"),
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
  """Returns a summary as text."""
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
      rounds = program.count_rounds(one) if one.opcode == "while" else 1
      for called in one.called:
        yield from _visit(program, called, times * rounds)
    else:
      yield _build_kernel(program, one, types, times)


def _build_kernel(program, instruction, types, times) -> Kernel:
  body = [instruction]
  names = _find_operands(instruction)
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
  num_bytes = sum(_count_read(kind, name, body) for kind, name in read)
  num_bytes += _count_written(instruction, body, types)
  ops = (_build_matrix_op(one, types) for one in body)
  return Kernel(
    name=instruction.name,
    opcodes=tuple(_find_kind(one) for one in body),
    num_bytes=num_bytes,
    matrix_ops=tuple(op for op in ops if op),
    times=times,
  )


def _find_operands(instruction: parser.Instruction) -> list[str]:
  return re.findall(r"%([\w.\-]+)", instruction.rest.partition(")")[0])


def _find_kind(instruction: parser.Instruction) -> str:
  target = instruction.search(r'custom_call_target="([^"]+)"')
  return target or instruction.opcode


def _count_bytes(kind: list | parser.Array | None) -> int:
  return sum(array.num_bytes for array in parser.list_arrays(kind))


def _count_read(kind, name: str, body) -> int:
  """Returns bytes of an operand, or of its slices if only these are used."""
  users = [one for one in body if name in _find_operands(one)]
  parts = 0
  for user in users:
    first, *others = _find_operands(user)
    if name in others or user.opcode not in {*_SLICES, "dynamic-update-slice"}:
      return _count_bytes(kind)
    # An array that is updated in place is not read.
    parts += _count_bytes(user.type) if user.opcode in _SLICES else 0
  return min(parts, _count_bytes(kind))


def _count_written(instruction, body, types) -> int:
  outputs = parser.list_arrays(instruction.type)
  if _find_kind(instruction).startswith("__cu") and len(outputs) > 1:
    outputs = outputs[:-1]  # Libraries return their workspace last.
  written = sum(array.num_bytes for array in outputs)
  for one in body:
    if one.opcode == "dynamic-update-slice" and one.type in outputs:
      part = types.get(_find_operands(one)[1])
      written += _count_bytes(part) - _count_bytes(one.type)
  return written


def _build_matrix_op(instruction, types) -> MatrixOp | None:
  kind = _find_kind(instruction)
  if not kind.startswith((*_CONVOLUTIONS, *_PRODUCTS)):
    return None
  operands = [types.get(name) for name in _find_operands(instruction)[:2]]
  result = parser.list_arrays(instruction.type)[0]
  labels = instruction.search(r"dim_labels=([\w>\-]+)") or ""
  if labels:
    flops = _count_convolution_flops(kind, operands, result, labels)
  else:
    dims = instruction.search(
      r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d,"]*)'
    )
    summed = [int(dim) for dim in re.findall(r"\d+", dims or "")]
    depth = math.prod(operands[0].shape[dim] for dim in summed)
    flops = 2 * result.elements * depth
  return MatrixOp(kind, tuple(operands), result, labels, flops)


def _count_convolution_flops(kind, operands, result, labels) -> int:
  """Returns FLOPs: a multiply-add per output and weight of its channel.

  cuDNN's gradients keep the labels of the forward convolution: the gradient of
  the input takes (gradient, kernel), that of the kernel returns the kernel.
  """
  output, kernel = result, operands[1]
  if kind.endswith("BackwardInput"):
    output = operands[0]
  elif kind.endswith("BackwardFilter"):
    output, kernel = operands[1], result
  channels = kernel.shape[re.split(r"_|->", labels)[1].index("o")]
  return 2 * output.elements * kernel.elements // channels
