"""imgbench: train and honestly evaluate image classifiers in JAX.

Public entry points; everything else may change between versions:
- `imgbench.load(run)` returns a trained model, see `imgbench.predictor`;
- `imgbench.train.loop.train_and_evaluate(config, workdir)` trains, evaluates
  and resumes, as `imgbench train` does;
- `imgbench.metrics.summary.summarize(counts, outcomes, labels, ...)` computes
  every metric of a split, with intervals, from predictions;
- `imgbench.metrics.stream.Stream(num_classes)` counts batches of logits on the
  devices, for evaluation in other training loops;
- `imgbench.models.build_model(name, ...)` builds a model of pure functions;
- the registries `models.BUILDERS`, `optim.OPTIMIZERS`, `optim.SCHEDULES`,
  `losses.LOSSES`, `data.SOURCES`, `evaluators.EVALUATORS`,
  `metrics.specs.METRICS` and `writers.WRITERS`, whose `register(name)` adds an
  entry, in a module of `config.plugins` (docs/extending.md).
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
  from imgbench import predictor

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(run: str, ema: bool | None = None) -> predictor.Predictor:
  """Returns the model of a run: `load("runs/demo").predict("image.jpg")`.

  Args:
    run: RUN, its workdir, or RUN@STEP; see `predictor.load`.
    ema: whether to take the moving average of the parameters; None: if the run
      has it.
  """
  from imgbench import predictor

  return predictor.load(run, ema)
