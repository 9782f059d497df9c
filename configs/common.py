"""What the configs share: the sections with their defaults, typed options.

Durations are texts with a unit: "500 steps", "2 epochs", "1e6 examples",
"10 percent" (of the run), "never". Batch sizes are global. Values in the
sections steps, logging, evaluation, parallel and checkpoint may change when a
run is resumed, others not.
"""

import ml_collections


def base_config() -> ml_collections.ConfigDict:
  """The sections that every config has; those it must fill are empty."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.global_batch_size = 256

  # data.options go to the data set, e.g. the sizes of "scenes".
  config.data = dict(name="", train_split="train", data_dir="", options={})
  config.model = dict(name="", dtype="auto")
  config.augment = dict(
    mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), pad=0, flip="none", cutout=0
  )
  config.loss = dict(label_smoothing=0.0)
  config.optim = dict(name="")
  config.schedule = dict(name="")

  # per_dispatch: steps in one call on accelerators; 0 chooses.
  config.steps = dict(total="10 epochs", per_dispatch=0)
  config.logging = dict(every="50 steps", tensorboard=True, report=True)
  # sets: alias -> type, split and optionally name, data_dir, options, every,
  # probabilities (kept for curves by class; None: where they are small).
  # class_masks: name -> file of classes, a subset of its own in all results.
  # warnings: settings of imgbench.metrics.diagnostics.Thresholds.
  config.evaluation = dict(
    every="1 epochs",
    batch_size=500,
    flip_average=False,
    ks=(1, 5),
    alpha=0.05,
    class_masks={},
    warnings={},
    sets={},
  )
  config.checkpoint = dict(every="1 epochs", keep=2, best="", asynchronous=True)
  config.parallel = dict(strategy="jit", devices=0)
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
    normalize_kernels=True,
    other_ratio=1.0,
    other_momentum=0.85,
  )


def parse_options(text: str | None, **defaults):
  """Returns the options behind a config's colon as a ConfigDict.

  Args:
    text: e.g. "long,seed=3"; a name alone is true.
    **defaults: every option that is known, with its type.

  Raises:
    ValueError: an option that is not known, or of another type.
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
