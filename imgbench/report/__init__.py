"""The report of a run: figures, tables and one self-contained HTML page."""

from collections.abc import Callable

import numpy as np

from imgbench import paths

ImageLookup = Callable[[str, np.ndarray], np.ndarray]


def write_report(
  workdir: str | paths.Folder, image_lookup: ImageLookup | None = None
) -> paths.Folder:
  """Writes `report.html` and its PNGs from the files of a run.

  It only reads files and computes no metric. The page omits files that an
  interrupted run has not written, and says so.

  Args:
    workdir: folder of a run; may be gs://BUCKET/FOLDER.
    image_lookup: (dataset key such as "cifar10:test", int64 indices [M]) ->
      uint8 [M, H, W, C], C 1 or 3: images of examples, indexed like the
      predictions. Without it, a `mistakes_*.png` of the same mistakes is kept.

  Returns:
    Path of `report.html`.

  Raises:
    InputError: no run in `workdir`, or an invalid file.
  """
  # Figures import matplotlib, which takes half a second.
  from imgbench.report import page

  return page.write(paths.reach(workdir, "--workdir"), image_lookup)
