"""Input pipelines of data sets whose images have several sizes."""

from imgbench.data import decode
from imgbench.data import pipeline
from imgbench.data import randaugment
from imgbench.data import source
from imgbench.data import transforms


def build_train_pipeline(
  *,
  split: source.EncodedSource,
  seed: int,
  size: int,
  area: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  method: str = "bilinear",
  randaugment_layers: int = 0,
  randaugment_magnitude: float = 10.0,
  decoder: str = "auto",
  threads: int = 0,
  prefetch: int = 2,
  on_bad_example: str = "stop",
  most_bad: int = 100,
) -> pipeline.Pipeline:
  """Returns the training pipeline of a split, section input of a config.

  An Inception crop of [size, size], and RandAugment if it has layers.

  Args:
    split: with encoded images.
    seed: of crops and augmentation.
    size: side of the images.
    area: see `transforms.InceptionCrop`, as the next two.
    ratio: width over height.
    method: of resizing.
    randaugment_layers: 0: none.
    randaugment_magnitude: see `randaugment.RandAugment`.
    decoder: see `decode.build_decoder`.
    threads: that decode, 0: one per usable CPU.
    prefetch: batches that are decoded ahead.
    on_bad_example: "stop" or "skip", if an example cannot be read or decoded.
    most_bad: examples that may be skipped; the one before in the batch is
      trained on instead.

  Raises:
    InputError: a setting out of range.
  """
  crop = transforms.InceptionCrop(
    size, tuple(area), tuple(ratio), method=method
  )
  transform = crop
  if randaugment_layers:
    transform = transforms.Augmented(
      crop,
      randaugment.RandAugment(randaugment_layers, randaugment_magnitude),
    )
  return pipeline.Pipeline(
    split,
    transform,
    size,
    decoder=decode.build_decoder(decoder),
    seed=seed,
    threads=threads,
    prefetch=prefetch,
    bad=source.BadExamples("input", on_bad_example, most_bad),
  )


def build_eval_pipeline(
  *,
  split: source.EncodedSource,
  size: int,
  crop_fraction: float = 0.875,
  method: str = "bicubic",
  decoder: str = "auto",
  threads: int = 0,
  prefetch: int = 2,
  bad: source.BadExamples | None = None,
) -> pipeline.Pipeline:
  """Returns the evaluation pipeline of a split, section evaluation.input.

  Examples that cannot be read or decoded are marked in the batch.

  Args:
    split: with encoded images.
    size: side of the images.
    crop_fraction: the short side is resized to size / crop_fraction, then the
      center is cut out.
    method: of resizing.
    decoder: see `decode.build_decoder`.
    threads: that decode, 0: one per usable CPU.
    prefetch: batches that are decoded ahead.
    bad: counts bad examples; None: they are errors.

  Raises:
    InputError: a setting out of range.
  """
  return pipeline.Pipeline(
    split,
    transforms.CentreCrop(size, crop_fraction, method=method),
    size,
    decoder=decode.build_decoder(decoder, exact=True),
    seed=None,
    threads=threads,
    prefetch=prefetch,
    bad=bad,
    replaces_bad=False,
  )
