"""Sections of all configs with their defaults, and typed options.

Durations are text with a unit: "500 steps", "2 epochs", "1e6 examples",
"10 percent" (of the run), "never". Batch sizes are global. Values in the
sections steps, logging, evaluation, parallel and checkpoint, and plugins, may
change when a run is resumed (but for parallel.batch_norm and
parallel.microbatches), others not. `imgbench config NAME` prints what each key
means.
"""

import ml_collections


def base_config() -> ml_collections.ConfigDict:
  """Returns the sections of every config; those to be filled are empty."""
  config = ml_collections.ConfigDict()
  config.plugins = ()  # modules that register models, data sets and the like
  config.seed = 0
  # Of jax.random: impl "threefry2x32", "rbg" or "unsafe_rbg"; partitionable of
  # threefry. JAX_DEFAULT_PRNG_IMPL and JAX_THREEFRY_PARTITIONABLE do not count.
  config.prng = dict(impl="threefry2x32", partitionable=True)
  config.global_batch_size = 256

  config.data = dict(name="", train_split="train", data_dir="", options={})
  config.model = dict(name="", dtype="auto")
  config.augment = dict(
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    pad=0,
    flip="none",
    cutout=0,
    mixup=0.0,
    cutmix=0.0,
    switch=0.5,
  )
  # Only for data sets whose images have several sizes, as evaluation.input. All
  # data sets: on_bad_example and most_bad, for damaged records and images.
  config.input = ml_collections.ConfigDict()
  config.loss = dict(name="softmax", label_smoothing=0.0)
  config.ema = dict(decay=0.0)
  config.optim = dict(name="")
  config.schedule = dict(name="")
  config.init = dict(source="")  # a run or file of weights to start from

  config.steps = dict(total="10 epochs", per_dispatch=0)
  config.logging = dict(every="50 steps", tensorboard=True, report=True)
  config.evaluation = dict(
    every="1 epochs",
    batch_size=500,
    flip_average=False,
    ks=(1, 5),
    alpha=0.05,
    class_masks={},
    known_leaks="",
    warnings={},
    input={},
    shift={},
    sets={},
  )
  config.checkpoint = dict(every="1 epochs", keep=2, best="", asynchronous=True)
  config.parallel = dict(
    strategy="jit",
    devices=0,
    fsdp=1,
    batch_norm="global",
    microbatches=1,
  )
  config.deterministic = False
  return config


def use_whitened_muon(config: ml_collections.ConfigDict) -> None:
  """Fills model and optim: a small whitened convnet trained by Muon."""
  config.model = dict(
    name="whitened",
    dtype="auto",
    widths=(48, 96),
    depth=2,
    stem_size=4,
    stem_stride=2,
    stem_filters=16,
    stem_bias=False,
    activation="gelu",
    logit_scale=1 / 9,
    norm_momentum=0.6,
  )
  config.optim = dict(
    name="muon",
    momentum=0.7,
    nesterov=True,
    ns_steps=5,
    ns_dtype="auto",
    normalize_kernels=True,
    other_ratio=1.0,
    other_momentum=0.85,
  )


IMAGENET = "imagenet2012"
# Of ImageNet's training images, on a scale of 0 to 1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def use_imagenet(config: ml_collections.ConfigDict, size: int = 224) -> None:
  """Fills data, input and evaluation: ImageNet and all sets derived from it.

  The validation set is evaluated during training, the others at the end. A
  config can delete those that are not prepared.
  """
  config.data.name = IMAGENET
  config.input = dict(size=size)
  config.augment.update(
    mean=IMAGENET_MEAN, std=IMAGENET_STD, flip="random", pad=0
  )
  config.evaluation.input = dict(
    size=size, crop_fraction=0.875, method="bicubic"
  )
  v2 = lambda name: dict(
    name=f"imagenet_v2/{name}",
    split="test",
    type="classification",
    every="never",
  )
  some = lambda name: dict(
    name=name,
    split="test",
    type="classification",
    restrict_classes=True,
    every="never",
  )
  reviewed = dict(
    name="imagenet2012_multilabel", type="multilabel", every="never"
  )
  config.evaluation.sets = dict(
    val=dict(split="validation", type="classification"),
    real=dict(
      name="imagenet2012_real", split="validation", type="real", every="never"
    ),
    multilabel=dict(split="validation", **reviewed),
    imagenet_m=dict(split="imagenet_m", **reviewed),
    v2=v2("matched-frequency"),
    v2_threshold=v2("threshold-0.7"),
    v2_top=v2("topimages"),
    a=some("imagenet_a"),
    r=some("imagenet_r"),
  )
  config.evaluation.shift = dict(
    base="val", sets=("v2", "v2_threshold", "v2_top", "a", "r")
  )


def use_cifar10(
  config: ml_collections.ConfigDict, options: ml_collections.ConfigDict
) -> None:
  """Fills the data sets: CIFAR-10, and CIFAR-10.1 with option v4 or v6.

  CIFAR-10.1 (1806.00451) has new images; the accuracy lost on it is measured.
  It has to be prepared too: --dataset=cifar10_1/v6.
  """
  config.data.name = "cifar10"
  sets = dict(test=dict(type="classification", split="test"))
  shifted = [name for name in ("v4", "v6") if options[name]]
  for name in shifted:
    sets[name] = dict(
      name=f"cifar10_1/{name}",
      type="classification",
      split="test",
      every="never",
    )
  config.evaluation.sets = sets
  if shifted:
    config.evaluation.shift = dict(base="test", sets=shifted)


def parse_options(text: str | None, **defaults):
  """Returns the options after a config's colon as a ConfigDict.

  Args:
    text: e.g. "long,seed=3"; a name alone is true.
    **defaults: known options with their defaults, whose types they have.

  Raises:
    ValueError: an unknown option, or one of another type.
  """
  options = ml_collections.ConfigDict(defaults)
  for part in filter(None, (text or "").split(",")):
    name, equals, value = part.partition("=")
    if name not in defaults:
      known = ", ".join(defaults) or "none"
      raise ValueError(f"unknown option {name!r}; known: {known}")
    kind = type(defaults[name])
    if kind is bool:
      if value.lower() not in ("", "true", "false"):
        raise ValueError(f"option {name}: expected true or false, got {value}")
      options[name] = value.lower() != "false"
    elif not equals:
      raise ValueError(f"option {name}: expected {name}=<{kind.__name__}>")
    else:
      options[name] = kind(value)
  return options
