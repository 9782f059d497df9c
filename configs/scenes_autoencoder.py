"""An autoencoder of objects on the embedded synthetic set; flags organisms.

Command: imgbench train --config=configs/scenes_autoencoder.py \
  --workdir=runs/autoencoder
Hardware and time: 2 CPU cores, 87 s of CPU time from start to report.
Result: 23.9 dB PSNR on the validation split; ROC AUC of telling images with
organisms from images without by their error: 0.58 (0.54 to 0.62) on one half of
it, 0.60 (0.56 to 0.64) on the other. A threshold for a recall of 90% on one
half has a recall of 89% and a precision of 73% on the other, where 70% of the
images show an organism.

No organism is drawn in the training images. The error still tells little, as it
follows how much detail an image has, and objects, backgrounds and noise have as
much of it as organisms: the mean squared gradient of the pixels alone has a ROC
AUC of 0.62, and a linear autoencoder (PCA) 0.56 to 0.64 with 8 to 1,024
components. Other depths and codes, the absolute error and inpainting had 0.54
to 0.59.
"""

import ml_collections

from imgbench.configs import common


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  common.parse_options(arg)
  config = common.base_config()
  config.global_batch_size = 50
  config.data.name = "scenes"
  # Only images in which no organism is drawn, whatever their labels say.
  config.data.options = dict(only="object")
  config.model = dict(name="autoencoder", dtype="auto", widths=(32, 64), code=8)
  config.augment.update(flip="random")
  config.loss = dict(name="mse")
  config.optim = dict(name="adamw", weight_decay=1e-4)
  config.schedule = dict(name="warmup_cosine", peak=2e-3, warmup="10 percent")
  config.steps.total = "6 epochs"
  config.evaluation.every = "3 epochs"
  detect = dict(
    type="reconstruction", options=dict(only=""), abnormal=("organism",)
  )
  config.evaluation.sets = dict(
    val=dict(split="validation[:50%]", **detect),
    # The threshold is chosen on the first half of the split.
    judged=dict(
      split="validation[50%:]", threshold_from="val", recall=0.9, **detect
    ),
    train_clean=dict(
      split="train[:2000]", type="reconstruction", every="never"
    ),
  )
  config.checkpoint.best = "val/mse"
  return config
