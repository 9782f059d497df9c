#!/bin/sh
# logits.sh WHEEL: the walk of a researcher who has predictions of another
# framework. SHARED: a folder with public labels and predictions; without it only
# predictions made here are scored.
. "$(dirname "$0")/common.sh"

step "score logits with a label file"
"$python" - <<'PY'
import numpy as np

random = np.random.default_rng(0)
labels = np.arange(300) % 3
logits = random.normal(size=(300, 3)) + 2 * np.eye(3)[labels]
np.save("logits.npy", logits.astype(np.float32))
np.savez("keyed.npz", logits=logits[::-1], image_id=[f"i{n}" for n in range(300)][::-1])
np.save("ranking.npy", np.argsort(-logits, axis=1)[:, :2])
with open("labels.csv", "w") as file:
  file.write("image_id,label\n")
  file.writelines(f"i{n},{'abc'[label]}\n" for n, label in enumerate(labels))
open("names.txt", "w").write("a\nb\nc\n")
print(f"top-1 by NumPy: {(logits.argmax(1) == labels).mean():.4f}")
PY
for file in logits.npy keyed.npz ranking.npy; do
  imgbench score $file --dataset=mine --labels=labels.csv \
    --class_names=names.txt --out="out_$file"
  "$python" "$walks/read_result.py" "out_$file" all/top1_accuracy
  [ -s "out_$file/report.html" ]
  [ -s "out_$file/per_class.csv" ]
done
cmp "out_logits.npy/per_class.csv" "out_keyed.npz/per_class.csv"
imgbench operating-points out_logits.npy --dataset=mine:test --class=a \
  --recall=0.9

step "mistakes that are found before anything is written"
expect 2 imgbench score logits.npy --dataset=mine --labels=names.txt --out=bad
expect 2 imgbench score absent.npy --dataset=val --out=bad
expect 2 imgbench score ranking.npy --dataset=mine --labels=labels.csv \
  --scores=probabilities --out=bad
expect 2 imgbench score logits.npy --dataset=mine --labels=labels.csv \
  --class_names=names.txt --out=out_keyed.npz
[ ! -e bad ]

if [ -z "${SHARED:-}" ]; then
  echo "SHARED is not set: no public predictions are scored"
  exit 0
fi

step "score a real network on CIFAR-10"
imgbench score "$SHARED/label-errors/cifar10_test_set_pyx.npy" \
  --dataset=cifar10:test --repo="$SHARED/CIFAR-10.1" \
  --labels="$SHARED/CIFAR-10.1/cifar10_test_labels.npy" --out=network
"$python" "$walks/read_result.py" network cifar10:test/all/top1_accuracy \
  | grep ' 0.9294 10000$'

step "score rankings of a public model on ImageNet, ReaL and ImageNetV2"
predictions=$SHARED/ImageNetV2/data/predictions
name=$(basename "$(ls "$predictions"/imagenetv2-b-33/*.npy | head -n 1)" .npy)
imgbench score "$predictions/imagenet-validation-original/$name.npy" \
  "$predictions/imagenetv2-b-33/$name.npy" --dataset=val,real --dataset=v2 \
  --repo="$SHARED/ImageNetV2" --real="$SHARED/reassessed-imagenet/real.json" \
  --model=mine --out=public
[ -s public/public_ranks.csv ]
[ -s public/public_lines.csv ]
imgbench paper real-labels --repo="$SHARED/ImageNetV2" \
  --real="$SHARED/reassessed-imagenet/real.json" --out=paper
"$python" - "$name" <<'PY'
import csv, json, sys

table = csv.DictReader(open("paper/table.csv"))
known = {
  row["metric"]: float(row["value"])
  for row in table
  if row["model"] == sys.argv[1] and row["subset"] == "all"
}
results = json.load(open("public/results.json"))
found = results["imagenet2012_real:validation/all/real_accuracy"]["value"]
assert abs(found - known["real_accuracy"]) < 1e-8, (found, known)
PY
