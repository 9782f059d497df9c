"""Predictions of a trained model for pictures, from its workdir alone."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
import inspect
import os
import pathlib
from typing import Any

import jax
import numpy as np
import scipy.special

from imgbench import checkpoints
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import registry
from imgbench.data import input_pipelines
from imgbench.data import source
from imgbench.train import evaluation
from imgbench.train import start as start_lib

Path = str | os.PathLike
# A path, several, or images uint8 [H, W, C] or [B, H, W, C].
Images = Path | Sequence[Path] | np.ndarray
_SETTING = "RUN"
_BATCH = 128  # images that are computed at once, at most
# Pictures for data sets of one size: the largest square in the middle, resized.
# Their own pictures keep their pixels, which Pillow decoded.
_ONE_SIZE = {"crop_fraction": 1.0, "method": "bicubic", "decoder": "pillow"}
_GREY = np.array([19595, 38470, 7471], np.uint32)  # in 2^-16, as Pillow has it


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Predictions for B images.

  Attributes:
    logits: float32 [B, K].
    class_names: K names.
  """

  logits: np.ndarray
  class_names: tuple[str, ...]

  @functools.cached_property
  def probabilities(self) -> np.ndarray:
    """Softmax of the logits, float32 [B, K]; NaN in rows with NaN or +inf."""
    with np.errstate(invalid="ignore"):
      return scipy.special.softmax(self.logits, axis=1)

  def classes(self, k: int = 1) -> np.ndarray:
    """Returns int [B, k], the best classes, best first; ties by index."""
    return np.argsort(-self.logits, axis=1, kind="stable")[:, :k]

  def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
    """Returns for each image names and probabilities of its best classes."""
    rows = zip(self.classes(k), self.probabilities, strict=True)
    return [
      [(self.class_names[i], float(row[i])) for i in best] for best, row in rows
    ]


class Predictor:
  """A trained model on one device; `load` returns it.

  Images are prepared as the run evaluates them: the same decoder, crop and
  resize for pictures in files, the same normalization, and logits averaged over
  an image and its mirror if the run does that. Where all images of the run's
  data set have one size, the largest square in the middle of a picture of
  another size is resized to it.

  Attributes:
    class_names: K names.
    image_shape: (H, W, C) of images in arrays.
    step: of the checkpoint.
    ema: whether the parameters are the moving average.
    apply: images uint8 [B, H, W, C] -> logits float32 [B, K]; traceable.
    variables: of the model, float32.
    description: JSON values: how images are prepared, and the model.
  """

  def __init__(
    self,
    settings: config_lib.Config,
    data: dict[str, Any],
    variables: dict[str, Any],
    predict_fn: Any,
    *,
    step: int,
    ema: bool,
  ):
    self.class_names = tuple(data["class_names"])
    self.step = step
    self.ema = ema
    self.variables = variables
    self.apply = functools.partial(predict_fn, variables)
    self._jitted = jax.jit(predict_fn)
    height, width, channels = data["image_shape"]
    if height is None:
      self._resize = {
        "size": settings.input["size"],
        **settings.evaluation.input,
      }
      height = width = self._resize["size"]
    else:
      self._resize = {"size": height, **_ONE_SIZE}
    self.image_shape = height, width, channels
    defaults = inspect.signature(input_pipelines.build_eval_pipeline).parameters
    self.description = {
      "dataset": data["name"],
      "class_names": self.class_names,
      "image_shape": self.image_shape,
      "mean": data["mean"],
      "std": data["std"],
      "flip_average": settings.evaluation.flip_average,
      "resize": {
        name: self._resize.get(name, defaults[name].default)
        for name in ("size", "crop_fraction", "method")
      },
      "step": step,
      "ema": ema,
      "model": {
        "name": settings.recipe.model.name,
        "dtype": settings.recipe.model.dtype,
        **settings.recipe.model.settings,
      },
    }

  def predict(self, images: Images) -> Predictions:
    """Returns predictions for images.

    Args:
      images: the path of a JPEG or PNG file, or several paths; or an array
        uint8 [H, W, C] or [B, H, W, C] of the size `image_shape`, which is
        neither cropped nor resized.

    Raises:
      InputError: a file that is not a whole image, or an array of another
        shape or dtype.
    """
    parts = [part.logits for part in self.iterate(images)]
    return Predictions(np.concatenate(parts), self.class_names)

  def iterate(self, images: Images) -> Iterator[Predictions]:
    """Yields `predict` batch by batch, for more images than memory holds."""
    if isinstance(images, np.ndarray | jax.Array):
      batches = self._cut(np.asarray(images))
    else:
      paths = [images] if isinstance(images, Path) else list(images)
      for path in paths:
        if not isinstance(path, Path):
          expected = "paths, or one array uint8 [B, H, W, C]"
          raise errors.InputError("images", expected, type(path).__name__)
      batches = self._decode(paths)
    for batch in batches:
      yield Predictions(self._compute(batch), self.class_names)

  def _cut(self, images: np.ndarray) -> Iterator[np.ndarray]:
    whole = images[None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or whole.shape[1:] != self.image_shape:
      raise errors.InputError(
        "images",
        f"uint8 {list(self.image_shape)} or a batch of them",
        f"{images.dtype} {list(images.shape)}",
        "give the paths of pictures of other sizes",
      )
    errors.check(len(whole) > 0, "images", "at least one", 0)
    for start in range(0, len(whole), _BATCH):
      yield whole[start : start + _BATCH]

  def _decode(self, paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yields batches of decoded pictures."""
    height, width, channels = self.image_shape
    expected = "arrays, as images of this run are not square"
    errors.check(height == width, "images", expected, "paths")
    errors.check(len(paths) > 0, "images", "at least one", 0)
    with config_utils.prefix_errors("evaluation.input."):
      decoded = registry.call(
        "evaluation.input",
        input_pipelines.build_eval_pipeline,
        split=_Files(paths),
        bad=_Refused(""),
        **self._resize,
      )
    index = np.arange(len(paths), dtype=np.int32)
    parts = np.array_split(index, range(_BATCH, len(paths), _BATCH))
    orders = ((part, np.zeros_like(part)) for part in parts)
    for batch in decoded.batches(orders):
      yield batch.image if channels == 3 else _to_grey(batch.image)

  def _compute(self, images: np.ndarray) -> np.ndarray:
    """Returns logits; few batch sizes are compiled."""
    count = len(images)
    padding = (0, (1 << (count - 1).bit_length()) - count)
    logits = self._jitted(
      self.variables, np.pad(images, (padding, *[(0, 0)] * 3))
    )
    return np.asarray(logits)[:count]


class _Files:
  """Pictures in files, as a source that an input pipeline reads."""

  def __init__(self, paths: Sequence[Path]):
    self._paths = paths
    self.info = source.Info("files", "", len(paths), (None, None, 3), (), "")

  def read(self, index: int) -> tuple[bytes, int]:
    """Returns a file's content, and 0 for a label. Raises InputError."""
    try:
      return pathlib.Path(self._paths[index]).read_bytes(), 0
    except (OSError, ValueError) as error:  # ValueError: a null byte.
      given = errors.find_reason(error)
      expected = "a JPEG or PNG file"
      raise errors.InputError(self.where(index), expected, given) from error

  def where(self, index: int) -> str:
    """Returns the path of a picture."""
    return str(self._paths[index])


class _Refused(source.BadExamples):
  """Refuses the first picture that cannot be decoded."""

  def add(self, index: int, where: str, error: Exception) -> None:
    """Raises InputError."""
    raise errors.InputError(where, "a whole JPEG or PNG", error) from error


def _to_grey(images: np.ndarray) -> np.ndarray:
  """Returns RGB uint8 [B, H, W, 3] as grey [B, H, W, 1], rounded as Pillow."""
  return ((images @ _GREY + 0x8000) >> 16).astype(np.uint8)[..., None]


def load(
  run: Path, ema: bool | None = None, *, portable: bool = False
) -> Predictor:
  """Returns the model of a run, on one device.

  It is read from the workdir alone; the data set need not be there.

  Args:
    run: RUN, for its newest valid checkpoint, or RUN@STEP.
    ema: whether to take the moving average of the parameters; None: if the run
      has it. results.json has the results of both, `cifar10:test/...` and
      `cifar10+ema:test/...`.
    portable: choose nothing by platform: dtype "auto" is float32, and attention
      is computed without cuDNN.

  Raises:
    InputError: no checkpoint that is valid, one of a version of imgbench that
      saved no class names, or no moving average.
  """
  run = os.fspath(run)
  settings, compute, data = start_lib.open_run(run, _SETTING, portable)
  if compute.model.reconstructs:
    expected = "the run of a classifier"
    given = f"one of {settings.recipe.model.name}, which returns images"
    raise errors.InputError(_SETTING, expected, given)
  if ema and not settings.recipe.ema.decay:
    expected = "False or None: the run has no moving average (ema.decay)"
    raise errors.InputError("ema", expected, ema)
  state, meta = checkpoints.restore_other(
    run, compute.state_shapes(), setting=_SETTING
  )
  ema = bool(settings.recipe.ema.decay) if ema is None else ema
  variables = state.ema if ema else state.variables
  apply = compute.model.apply
  if portable and compute.model.definition is not None:
    apply = compute.model.definition().apply
  elif not portable:
    variables = compute.fold_for_evaluation(variables)
  predict_fn = evaluation.build_predict_fn(
    apply, compute.normalize, settings.evaluation.flip_average
  )
  return Predictor(
    settings, data, variables, predict_fn, step=meta["step"], ema=ema
  )
