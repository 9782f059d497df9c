"""Tests of what the freeze calls a difference, without running the trees."""

import gzip
import io
import json

import numpy as np
from PIL import Image
import pytest

from tests.freeze import comparing
from tests.freeze import items
from tests.freeze import probe

PROGRAM = """
module @jit_step attributes {mhlo.num_partitions = 4 : i32} {
  func.func public @main(%arg0: tensor<4xf32>) -> (tensor<4xf32> {NAME}) {
    %0 = call @_where(%arg0) : (tensor<4xf32>) -> tensor<4xf32>
    %1 = call @clip(%0) : (tensor<4xf32>) -> tensor<4xf32>
    %2 = stablehlo.custom_call @Sharding(%1) : tensor<4xf32>
    return %2 : tensor<4xf32>
  }
  func.func private @_where(%arg0: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.add %arg0, %arg0 : tensor<4xf32>
  }
  func.func private @clip(%arg0: tensor<4xf32>) -> tensor<4xf32> {
  }
}
""".replace("NAME", 'jax.result_info = "result[0]"')
RECORD = {"step": 3, "train/loss": 0.25, "time/train_s": 1.5, "images_per_s": 9}


def differences(name, before, after, paths=None):
  encode = lambda x: x if isinstance(x, bytes) else x.encode()
  found = comparing.compare_bytes(
    name, encode(before), encode(after), paths or {}
  )
  assert found.count > 0
  return found.differences


def array_file(**arrays) -> bytes:
  data = io.BytesIO()
  np.savez_compressed(data, **arrays)
  return data.getvalue()


def picture(*size) -> bytes:
  data = io.BytesIO()
  Image.new("RGB", size).save(data, "PNG")
  return data.getvalue()


@pytest.mark.parametrize(
  ("change", "count"),
  [
    ({}, 0),
    ({"time/train_s": 2.5, "images_per_s": 4}, 0),
    ({"time/train_s": None}, 1),
    ({"train/loss": 0.5}, 1),
    ({"step": 3.0}, 1),
    ({"more": 1}, 1),
  ],
)
def test_json_values_count_and_times_do_not(change, count):
  for name in ("status.json", "metrics.jsonl"):
    before, after = json.dumps(RECORD), json.dumps(RECORD | change)
    assert len(differences(name, before, after)) == count


def test_order_of_json_keys_counts():
  turned = dict(reversed(RECORD.items()))
  found = differences("a.json", json.dumps(RECORD), json.dumps(turned))
  assert found == ["a.json: keys in another order"]


def test_bytes_of_csv_and_npz_count():
  assert not differences("a.csv", "n,value\n3,0.5\n", "n,value\n3,0.5\n")
  for other in ("n,value\n3,0.50\n", "n,value\r\n3,0.5\n", "value,n\n0.5,3\n"):
    assert differences("a.csv", "n,value\n3,0.5\n", other)
  one = array_file(label=np.arange(3))
  assert not differences("a.npz", one, array_file(label=np.arange(3)))
  other = array_file(label=np.arange(3, dtype=np.int32))
  assert differences("a.npz", one, other)


def test_pages_by_their_text_and_pictures_by_their_size():
  page = "<style>a {color: red}</style><p>top-1  accuracy</p>"
  same = "<style>a {color: blue}</style><div>top-1\naccuracy</div>"
  assert not differences("a.html", page, same)
  assert differences("a.html", page, same.replace("top-1", "top-5"))
  assert not differences("a.png", picture(3, 4), picture(3, 4))
  assert differences("a.png", picture(3, 4), picture(4, 4))


@pytest.mark.parametrize(
  ("old", "new", "same"),
  [
    ("_where", "select_rows", True),
    ("jit_step", "jit_device_step", True),
    ("result[0]", "result.state", True),
    ("stablehlo.add", "stablehlo.multiply", False),
    ("@Sharding", "@Other", False),
    ("call @clip(%0)", "call @_where(%0)", False),
    ("tensor<4xf32>", "tensor<8xf32>", False),
  ],
)
def test_names_of_functions_do_not_count_and_operations_do(old, new, same):
  assert old in PROGRAM
  before, after = PROGRAM.encode(), PROGRAM.replace(old, new).encode()
  found = differences("a.mlir.gz", gzip.compress(before), gzip.compress(after))
  assert (not found) == same


def test_folders(tmp_path):
  trees = {name: tmp_path / name for name in ("before", "after")}
  for name, folder in trees.items():
    (folder / "run/checkpoints/4/meta").mkdir(parents=True)
    (folder / "run/status.json").write_text(json.dumps(RECORD))
    (folder / f"run/events.out.tfevents.{name}").touch()
    (folder / f"run/checkpoints/4/{name}").touch()
    meta = {"step": 4, "digests": {".params": 7}, "train_s": len(name)}
    (folder / "run/checkpoints/4/meta/metadata").write_text(
      json.dumps({"text": json.dumps(meta)})
    )
    (folder / "program.out").write_text(f"wrote {folder}/run\n")
  paths = {str(folder): "<out>" for folder in trees.values()}
  found = comparing.compare_folders(*trees.values(), paths)
  assert found.differences == [] and found.count == 4 + 3 + 1
  meta = trees["after"] / "run/checkpoints/4/meta/metadata"
  meta.write_text(meta.read_text().replace("7", "8"))
  (trees["after"] / "run/status.json").unlink()
  found = comparing.compare_folders(*trees.values(), paths)
  assert found.differences == [
    "run/checkpoints/4/meta/metadata: /digests/.params: 7 -> 8",
    "run/status.json: only in the base",
  ]


def test_reports_are_made_from_constant_times(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text(json.dumps(RECORD) + "\n")
  comparing.still_times(tmp_path)
  assert json.loads(path.read_text()) == {
    **RECORD,
    "time/train_s": 1.0,
    "images_per_s": 1,
  }


def test_all_models_are_there():
  from imgbench import models

  assert list(probe.MODELS) == list(models.BUILDERS)
  assert sum(item.fast for item in items.ITEMS.values()) == 4
