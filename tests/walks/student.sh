#!/bin/sh
# student.sh WHEEL: the walk of a student, who trains on the embedded set and on
# pictures of their own, changes the recipe, and uses the trained model.
. "$(dirname "$0")/common.sh"

step "look around"
imgbench --version
imgbench --help
imgbench config tiny > keys.txt
grep -q '^optim.weight_decay = .*# ' keys.txt
expect 2 imgbench train --config=tiny --workdir=run --config.optim.moment=0.9
expect 2 imgbench trian --config=tiny

step "train, stop, resume"
imgbench train --config=tiny --workdir=run --config.steps.total="4 steps"
[ -s run/report.html ]
"$python" "$walks/read_result.py" run top1_accuracy
imgbench train --config=tiny --workdir=run --config.steps.total="8 steps"
expect 2 imgbench train --config=tiny --workdir=run --config.seed=5

step "change the recipe with flags"
imgbench train --config=tiny --workdir=lion --config.steps.total="4 steps" \
  --config.optim.name=optax.lion --config.optim.b1=0.95 \
  --config.schedule.peak=0.0003 --config.evaluation.warnings.train_gap=0.5

step "add a model"
cat > mine.py <<'PY'
from flax import linen as nn

from imgbench import models
from imgbench.models import base


class Linear(base.Classifier):
  scale: float = 1.0

  @nn.compact
  def __call__(self, images, train):
    flat = images.reshape(images.shape[0], -1)
    return nn.Dense(self.num_classes, dtype=self.dtype)(flat) * self.scale


models.BUILDERS.register("linear", base.builder(Linear))
PY
imgbench train --config=tiny --workdir=linear --config.plugins=mine \
  --config.model.name=linear --config.model.scale=0.5 \
  --config.steps.total="4 steps"
expect 2 imgbench train --config=tiny --workdir=absent --config.plugins=absent

step "train on a folder of pictures"
"$python" "$walks/draw_pictures.py" pictures
imgbench train --config=folder --config.data.data_dir=pictures \
  --config.model.name=cnn --config.input.size=32 --workdir=pets \
  --config.steps.total="8 steps" --config.schedule.warmup=never \
  --config.evaluation.sets.seen.split=train
"$python" "$walks/read_result.py" pets folder:validation/all/top1_accuracy

step "use the model; the pictures of training are gone"
mv pictures/val others
rm -r pictures
imgbench predict pets others/red --k=1 --out=predicted.csv
[ "$(wc -l < predicted.csv)" = 9 ]
imgbench predict run@8 others/red/0.png
expect 2 imgbench predict pets mine.py
imgbench evaluate run --workdir=again --config.evaluation.sets.seen.split=train
"$python" "$walks/read_result.py" again scenes:train/all/top1_accuracy
imgbench report run
imgbench operating-points run --dataset=scenes:validation --class=0 --recall=0.9
imgbench export pets --format=stablehlo --out=pets.stablehlo
imgbench export pets --format=safetensors --out=pets.safetensors
"$python" - <<'PY'
import numpy as np
from PIL import Image
from jax import export

import imgbench

model = imgbench.load("pets")
found = model.predict(["others/red/0.png", "others/blue/1.jpg"])
print(model.class_names, found.top(2))
images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
with open("pets.stablehlo", "rb") as file:
  call = export.deserialize(bytearray(file.read())).call
np.testing.assert_allclose(
  np.asarray(call(images)), model.predict(images).logits, atol=1e-5
)
PY
