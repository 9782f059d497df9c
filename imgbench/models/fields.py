"""Receptive fields: the part of the image that elements of arrays depend on.

Each index of each axis of an array displaces that part by some rows and
columns, listed in the axis's table; displacements of all axes add up. A window
widens the part, a product or mean over an axis joins the parts of its indices,
a reshape splits and merges tables. Elements whose parts are not displaced
copies of each other, as after attention, count as dependent on all parts
together, so a field is an upper bound. Padding counts like pixels.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from jax.extend import core
import numpy as np

from imgbench.models import flops

CONVOLUTION = "conv_general_dilated"
# Primitives that mix elements but may keep a shape, by how their names start.
_MIXING = ("cum", "sort", "rev", "fft", "scan")


@dataclasses.dataclass(frozen=True)
class Window:
  """Indices of an axis that are read: `size` from each of `count` starts.

  Attributes:
    size: of the window.
    stride: from one window to the next.
    start: of the first window, negative in padding.
    count: number of windows.
    dilation: from one index of a window to the next.
    spread: factor by which the axis is spread with zeros before.
  """

  size: int
  stride: int
  start: int
  count: int
  dilation: int = 1
  spread: int = 1

  def count_read(self, length: int) -> int:
    """Returns how many indices of an axis some window reads."""
    if self.spread > 1:
      return length
    starts = np.arange(self.count)[:, None] * self.stride + self.start
    read = starts + np.arange(self.size) * self.dilation
    return len(np.intersect1d(read, np.arange(length)))


@dataclasses.dataclass(frozen=True)
class View:
  """The part of the image that each element of an array depends on.

  Attributes:
    tables: float [n, 2] for each axis of n indices, the first row zeros.
    low, high: float [2], first and last row and column at the first indices.
    sides: int [2], rows and columns of the image.
  """

  tables: tuple[np.ndarray, ...]
  low: np.ndarray
  high: np.ndarray
  sides: np.ndarray

  @property
  def field(self) -> tuple[int, int]:
    """Rows and columns."""
    rows, cols = np.ceil(self.high - self.low + 1)
    return int(rows), int(cols)

  def replace(
    self, tables: Iterable[np.ndarray], shape: Sequence[int]
  ) -> "View":
    """Returns the view of another shape; tables of one index are repeated."""
    pairs = list(zip(tables, shape, strict=True))
    first = sum((t[:1].sum(axis=0) for t, _ in pairs), np.zeros(2))
    fitted = tuple(t - t[:1] + np.zeros((n, 1)) for t, n in pairs)
    return View(fitted, self.low + first, self.high + first, self.sides)

  def mix(self, axes: Iterable[int]) -> "View":
    """Returns the view if each element along axes depends on all of them."""
    tables, low, high = list(self.tables), self.low, self.high
    for axis in axes:
      low = low + tables[axis].min(axis=0, initial=0)
      high = high + tables[axis].max(axis=0, initial=0)
      tables[axis] = np.zeros_like(tables[axis])
    # Without displacements they are places in the image.
    placed = np.array([not any(t[:, i].any() for t in tables) for i in (0, 1)])
    low = np.where(placed, np.maximum(low, 0), low)
    high = np.where(placed, np.minimum(high, self.sides - 1), high)
    return View(tuple(tables), low, high, self.sides)

  def slide(self, axis: int, window: Window) -> "View":
    """Returns the view with one index per window along an axis."""
    table, shape = self.tables[axis], list(map(len, self.tables))
    shape[axis] = window.count
    indices = np.arange(window.count) * window.stride + window.start
    step = table[1:2].sum(axis=0)
    if np.array_equal(table, np.arange(len(table))[:, None] * step):
      view, new = self, indices[:, None] * step / window.spread
    else:
      view, step, new = self.mix([axis]), np.zeros(2), np.zeros((1, 2))
    tables = [*view.tables[:axis], new, *view.tables[axis + 1 :]]
    moved = view.replace(tables, shape)
    reach = (window.size - 1) * window.dilation // window.spread * step
    return dataclasses.replace(moved, high=moved.high + reach)


def view_image(shape: tuple[int, int, int]) -> View:
  """Returns the view of images [1, H, W, C]: each pixel sees itself."""
  rows, cols = (np.arange(n)[:, None] for n in shape[:2])
  still = np.zeros((1, 2))
  tables = (still, rows * [1.0, 0.0], cols * [0.0, 1.0], still)
  view = View((), np.zeros(2), np.zeros(2), np.array(shape[:2]))
  return view.replace(tables, (1, *shape))


def find_windows(equation: core.JaxprEqn) -> dict[int, Window]:
  """Returns the windows of an equation by axis of its first operand."""
  name, params = equation.primitive.name, equation.params
  if flops.is_convolution(equation):
    return _find_own_windows(equation)
  shape = _shape(equation.outvars[0])
  ones, axes = [1] * len(shape), tuple(range(len(shape)))
  columns: tuple[Any, ...] = ()
  if name == CONVOLUTION:
    numbers, kernel = params["dimension_numbers"], _shape(equation.invars[1])
    axes = numbers.lhs_spec[2:]
    columns = (
      [kernel[axis] for axis in numbers.rhs_spec[2:]],
      params["window_strides"],
      [-low for low, _ in params["padding"]],
      [shape[axis] for axis in numbers.out_spec[2:]],
      params["rhs_dilation"],
      params["lhs_dilation"],
    )
  elif name.startswith("reduce_window"):
    columns = (
      params["window_dimensions"],
      params["window_strides"],
      [-low for low, _ in params["padding"]],
      shape,
      params["window_dilation"],
      params["base_dilation"],
    )
  elif name == "slice":
    columns = ones, params["strides"] or ones, params["start_indices"], shape
  elif name == "pad":
    lows, _, inner = zip(*params["padding_config"], strict=True)
    spread = [n + 1 for n in inner]
    columns = ones, ones, [-low for low in lows], shape, ones, spread
  windows = [Window(*window) for window in zip(*columns, strict=True)]
  return dict(zip(axes, windows, strict=bool(windows)))


def _find_own_windows(equation: core.JaxprEqn) -> dict[int, Window]:
  """Returns the windows of a convolution of `layers`."""
  (program,) = core.jaxprs_in_params(equation.params)
  for inner in program.eqns:
    if inner.primitive.name == CONVOLUTION:
      return find_windows(inner)
  # A small map, by one matrix product: the least stride and padding that fit.
  before, kernel = map(_shape, equation.invars[-2:])
  found, size, shape = {}, kernel[0], _shape(equation.outvars[0])
  for axis in (1, 2):
    stride = max(1, before[axis] // shape[axis])
    spare = (shape[axis] - 1) * stride + size - before[axis]
    padding = max(0, spare + 1) // 2
    found[axis] = Window(size, stride, -padding, shape[axis])
  return found


def propagate(
  equation: core.JaxprEqn, views: Sequence[View | None]
) -> list[View]:
  """Returns the views of an equation's outputs.

  Args:
    equation: a primitive, or a convolution of `layers`.
    views: of the inputs, None if they do not depend on the image; not all.
  """
  shapes = list(map(_shape, equation.outvars))
  known = [view for view in views if view is not None]
  view = None
  if equation.primitive.name == "split":
    axis, sizes = equation.params["axis"], equation.params["sizes"]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    windows = [Window(1, 1, *part) for part in zip(starts, sizes, strict=True)]
    return [known[0].slide(axis, window) for window in windows]
  if len(known) == 1:
    view = _follow_one(equation, views.index(known[0]), known[0], shapes[0])
  if equation.primitive.name == "concatenate":
    axis = equation.params["dimension"]
    view = _join([view.mix([axis]) for view in known], shapes[0])
  elif view is None and _is_elementwise(equation, known):
    view = _join(known, shapes[0])
  if view is not None:
    return [view] * len(shapes)
  still = [np.zeros((1, 2))]
  whole = [view.mix(range(len(view.tables))) for view in known]
  return [
    _join([view.replace(still * len(s), s) for view in whole], s)
    for s in shapes
  ]


def _follow_one(equation, place: int, view: View, shape) -> View | None:
  """Returns the view after a primitive of one array that moves elements.

  Args:
    equation: of the primitive.
    place: of the array among its operands.
    view: of the array.
    shape: of the output.
  """
  name, params = equation.primitive.name, equation.params
  tables = [np.zeros((1, 2))] * len(shape)
  if name == "dot_general":
    contracted, batch = (axes[place] for axes in params["dimension_numbers"])
    view = view.mix(contracted)
    own = set(range(len(view.tables))) - {*contracted, *batch}
    free = [view.tables[axis] for axis in sorted(own)]
    others = tables[len(batch) + len(free) :]
    outer = [*others, *free] if place else [*free, *others]
    return view.replace([*(view.tables[axis] for axis in batch), *outer], shape)
  windows = find_windows(equation) if place == 0 else {}
  for axis, window in windows.items():
    view = view.slide(axis, window)
  if name == CONVOLUTION or flops.is_convolution(equation):
    numbers = params.get("dimension_numbers")
    before = numbers.lhs_spec if numbers else (0, 3, 1, 2)
    after = numbers.out_spec if numbers else before
    view = view.mix([before[1]])
    for old, new in zip(before[2:], after[2:], strict=True):
      tables[new] = view.tables[old]
    return view.replace(tables, shape) if windows else None
  if windows:
    return view
  if name in ("reshape", "squeeze"):
    return _reshape(view, shape)
  if name == "transpose":
    moved = [view.tables[axis] for axis in params["permutation"]]
    return view.replace(moved, shape)
  if name == "broadcast_in_dim":
    for old, new in enumerate(params["broadcast_dimensions"]):
      tables[new] = view.tables[old]
    return view.replace(tables, shape)
  if name.startswith(("reduce_", "arg")) and "axes" in params:
    view = view.mix(params["axes"])
    kept = set(range(len(view.tables))) - set(params["axes"])
    return view.replace([view.tables[axis] for axis in sorted(kept)], shape)
  return None


def _is_elementwise(equation, views: Sequence[View]) -> bool:
  shape = _shape(equation.outvars[0])
  return not equation.primitive.name.startswith(_MIXING) and all(
    len(view.tables) == len(shape)
    and all(len(t) in (1, n) for t, n in zip(view.tables, shape, strict=True))
    for view in views
  )


def _join(views: Sequence[View], shape: Sequence[int]) -> View:
  """Returns the view of arrays that are combined by element."""
  for axis in range(len(shape)):
    tables = [view.tables[axis] for view in views]
    if not all(np.array_equal(table, tables[0]) for table in tables):
      views = [view.mix([axis]) for view in views]
  low = np.min([view.low for view in views], axis=0)
  high = np.max([view.high for view in views], axis=0)
  pairs = zip(views[0].tables, shape, strict=True)
  tables = [t if len(t) == n else np.zeros((1, 2)) for t, n in pairs]
  return dataclasses.replace(views[0], low=low, high=high).replace(
    tables, shape
  )


def _reshape(view: View, shape: Sequence[int]) -> View:
  """Returns the view after axes were split or merged."""
  tables: list[np.ndarray] = []
  olds, news = list(range(len(view.tables))), list(shape)
  while news:
    sizes, merged = [news.pop(0)], np.zeros((1, 2))
    axes: list[int] = []
    while len(merged) != math.prod(sizes) or (olds and not axes):
      if len(merged) < math.prod(sizes) or not axes:
        axes.append(olds.pop(0))
        merged = merged[:, None] + view.tables[axes[-1]]
        merged = merged.reshape(-1, 2)
      else:
        sizes.append(news.pop(0))
    parts = _split(merged, sizes)
    if parts is None:
      view, parts = view.mix(axes), [np.zeros((n, 2)) for n in sizes]
    tables += parts
  return view.replace(tables, shape)


def _split(table: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray] | None:
  """Returns tables of some sizes that add up to one; None if none do."""
  grid = table.reshape(*sizes, 2)
  total, parts = np.zeros(2), []
  for axis, size in enumerate(sizes):
    parts.append(np.moveaxis(grid, axis, 0).reshape(size, -1, 2)[:, 0])
    after = tuple(range(1, len(sizes) - axis))
    total = total + np.expand_dims(parts[-1], after)
  return parts if np.array_equal(total, grid) else None


def _shape(variable) -> tuple[int, ...]:
  return tuple(variable.aval.shape)
