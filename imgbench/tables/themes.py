"""Colour themes of figures for light and dark pages, and rendering."""

from collections.abc import Callable
import dataclasses
import io
import warnings

import matplotlib
from matplotlib import colors
from matplotlib import figure as mpl_figure
from matplotlib import rcsetup
from matplotlib.backends import backend_agg
import numpy as np
from PIL import Image

from imgbench import texts

DPI = 150  # of the PNGs; pages show them smaller, for dense screens
WIDTH = 10.0  # inches of a figure that fills the column of a page


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours as hex text.

  `series` is safe for common colour blindness (blue, vermilion, green, purple
  and yellow after Okabe and Ito 2008, lighter on dark); `ramp` is monotone in
  lightness.
  """

  name: str
  background: str
  text: str
  muted: str
  grid: str
  series: tuple[str, ...]
  ramp: tuple[str, ...]

  def colormap(self) -> colors.Colormap:
    # Few enough to survive quantization to the 256 colours of a PNG.
    return colors.LinearSegmentedColormap.from_list(self.name, self.ramp, N=96)


LIGHT = Theme(
  name="light",
  background="#ffffff",
  text="#1c2127",
  muted="#5d6672",
  grid="#e3e7ec",
  series=("#0072b2", "#d55e00", "#00845f", "#a8508a", "#8a6d00"),
  ramp=("#f4f7fa", "#b9d7ec", "#4a9bcb", "#0b5c94", "#062f52"),
)
DARK = Theme(
  name="dark",
  background="#171b21",
  text="#e7ebf0",
  muted="#9aa5b1",
  grid="#2c333c",
  series=("#56b4e9", "#f08a4b", "#2fc195", "#df9bc6", "#e0c24a"),
  ramp=("#1d232b", "#173f5f", "#2277ad", "#6fbdea", "#e2f3ff"),
)

Draw = Callable[[Theme], mpl_figure.Figure]


def render(
  draw: Draw,
  theme: Theme,
  photographs: bool = False,
) -> bytes:
  """Returns the figure that `draw` makes as a PNG; equal input, equal bytes.

  Args:
    draw: makes the figure; called under the theme's settings.
    theme: colours.
    photographs: keep all colours instead of 256.
  """
  with matplotlib.rc_context(_settings(theme)), warnings.catch_warnings():
    # The page itself shows names that the font cannot.
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
    figure = draw(theme)
    figure.set_dpi(DPI)
    canvas = backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
  if not photographs:
    # A third of the bytes, and a page embeds all of them twice.
    picture = picture.quantize(
      256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
  buffer = io.BytesIO()
  picture.save(buffer, "png", dpi=(DPI, DPI), optimize=True)
  return buffer.getvalue()


def render_pdf(draw: Draw, theme: Theme) -> bytes:
  """Returns the figure as a PDF for print; equal input, equal bytes.

  Args:
    draw: as of `render`.
    theme: colours.
  """
  settings = _settings(theme) | {"pdf.fonttype": 42}  # searchable text
  buffer = io.BytesIO()
  with matplotlib.rc_context(settings):
    draw(theme).savefig(buffer, format="pdf", metadata={"CreationDate": None})
  return buffer.getvalue()


def plain(name: str) -> str:
  """Returns a name on one line, of which Matplotlib reads no mathematics."""
  return texts.printable(name).replace("$", r"\$")


def figure(height: float, width: float = WIDTH) -> mpl_figure.Figure:
  """Returns an empty figure of this size in inches."""
  return mpl_figure.Figure(figsize=(width, height), layout="constrained")


def ink_on(color) -> str:
  """Returns black or white, whichever reads better on an RGBA colour."""
  red, green, blue = (
    c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
    for c in color[:3]
  )
  luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
  return "#0d1117" if luminance > 0.18 else "#ffffff"


def _settings(theme: Theme) -> dict:
  # From the defaults: the user's matplotlibrc must not change a report.
  settings = {
    key: value
    for key, value in matplotlib.rcParamsDefault.items()
    if not key.startswith(("backend", "interactive", "toolbar"))
  }
  return settings | {
    "figure.facecolor": theme.background,
    "savefig.facecolor": theme.background,
    "axes.facecolor": theme.background,
    "axes.edgecolor": theme.grid,
    "axes.labelcolor": theme.muted,
    "axes.titlecolor": theme.text,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": rcsetup.cycler(color=theme.series),
    "grid.color": theme.grid,
    "grid.linewidth": 0.8,
    "text.color": theme.text,
    "xtick.color": theme.muted,
    "ytick.color": theme.muted,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
  }
