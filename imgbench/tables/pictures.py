"""Figures, written as PNG files and embedded in a page."""

import base64
from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import struct
from typing import Any

from imgbench import paths
from imgbench import writers
from imgbench.tables import page
from imgbench.tables import themes

_PIXELS_PER_INCH = 99  # themes.WIDTH is then as wide as the column


@dataclasses.dataclass(frozen=True)
class Figure(page.Drawn):
  """A picture with its caption.

  Attributes:
    light: PNG for light pages and for print.
    dark: for dark pages; None: the light one.
    alt: alternative text.
    caption: below the figure.
  """

  light: bytes
  dark: bytes | None
  alt: str
  caption: str

  @property
  def size(self) -> tuple[int, int]:
    """Width and height on the page, in CSS pixels."""
    width, height = struct.unpack(">II", self.light[16:24])  # PNG's first chunk
    scale = _PIXELS_PER_INCH / themes.DPI
    return round(width * scale), round(height * scale)

  @staticmethod
  def url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def draw(
  path: paths.Folder,
  figure: Callable[..., Any],
  of: Any,
  *,
  alt: str,
  caption: str,
  options: Mapping[str, Any] | None = None,
  **given: Any,
) -> list[Figure]:
  """Writes a figure for light pages and returns it for both.

  Args:
    path: of the PNG.
    figure: (theme, of, **given) -> figure.
    of: the data; nothing is drawn if it is empty.
    alt: as of `Figure`.
    caption: as of `Figure`.
    options: of `themes.render`.
    **given: further arguments of `figure`.
  """
  if not of:
    return []
  light, dark = (
    themes.render(lambda t: figure(t, of, **given), theme, **options or {})
    for theme in (themes.LIGHT, themes.DARK)
  )
  writers.write_atomically(path, light)
  return [Figure(light, dark, alt, caption)]
