"""Writes tiny folders as TFDS prepares them, byte by byte and without it."""

import io
import json
import pathlib
import struct

from array_record.python import array_record_module
import numpy as np
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

CLASS_NAMES = ("ant", "bee", "cat")
_CORE = "tensorflow_datasets.core.features"


def crc32c_by_bit(data: bytes) -> int:
  """CRC-32C straight from its definition: the slow twin."""
  register = 0xFFFFFFFF
  for byte in data:
    register ^= byte
    for _ in range(8):
      register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
  return register ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
  crc = crc32c_by_bit(data)
  rotated = (crc >> 15) | (crc << 17)
  return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def tfrecord_bytes(records) -> bytes:
  parts = []
  for record in records:
    length = struct.pack("<Q", len(record))
    parts += [length, masked(length), record, masked(record)]
  return b"".join(parts)


def encode(image: np.ndarray, image_format: str = "PNG") -> bytes:
  file = io.BytesIO()
  Image.fromarray(image.squeeze()).save(file, image_format)
  return file.getvalue()


def images(count: int, shape=(8, 8, 3), seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, *shape), np.uint8)


def serialize(fields) -> bytes:
  example = tf_example_pb2.Example()
  for name, value in fields.items():
    feature = example.features.feature[name]
    if isinstance(value, bytes):
      feature.bytes_list.value.append(value)
    else:
      feature.int64_list.value.append(value)
  return example.SerializeToString(deterministic=True)


def examples(count: int, seed: int = 0, **fields) -> list[bytes]:
  """Returns records of random pictures; `fields` are added to each."""
  return [
    serialize({"image": encode(image), "label": i % 3, **fields})
    for i, image in enumerate(images(count, seed=seed))
  ]


def image_feature(shape=(8, 8, 3), dtype: str = "uint8") -> dict:
  dimensions = ["-1" if d is None else str(d) for d in shape]
  return {
    "image": {"dtype": dtype, "shape": {"dimensions": dimensions}},
    "pythonClassName": f"{_CORE}.image_feature.Image",
  }


def label_feature(num_classes: int = len(CLASS_NAMES)) -> dict:
  return {
    "classLabel": {"numClasses": str(num_classes)},
    "pythonClassName": f"{_CORE}.class_label_feature.ClassLabel",
  }


def text_feature() -> dict:
  return {"pythonClassName": f"{_CORE}.text_feature.Text", "text": {}}


def write(
  data_dir,
  splits,
  *,
  name: str = "tiny",
  version: str = "1.0.0",
  file_format: str = "tfrecord",
  features=None,
  info=None,
) -> pathlib.Path:
  """Writes `<data_dir>/<name>/<version>` and returns that path.

  Args:
    data_dir: any folder.
    splits: split name -> list of shards, each a list of serialized examples.
    name, version, file_format: as in dataset_info.json.
    features: feature name -> its JSON; image and label if None.
    info: overrides keys of dataset_info.json.
  """
  folder = pathlib.Path(data_dir, name, version)
  folder.mkdir(parents=True)
  split_infos = []
  for split, shards in splits.items():
    for i, records in enumerate(shards):
      shard = f"{name}-{split}.{file_format}-{i:05d}-of-{len(shards):05d}"
      _write_shard(folder / shard, records, file_format)
    split_infos.append(
      {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": split,
        "numBytes": str(sum(len(r) for records in shards for r in records)),
        "shardLengths": [str(len(records)) for records in shards],
      }
    )
  features = features or {"image": image_feature(), "label": label_feature()}
  described = {
    "name": name,
    "version": version,
    "fileFormat": file_format,
    "moduleName": "tests.tiny",
    "splits": split_infos,
    **(info or {}),
  }
  (folder / "dataset_info.json").write_text(json.dumps(described))
  (folder / "features.json").write_text(
    json.dumps(
      {
        "featuresDict": {"features": features},
        "pythonClassName": f"{_CORE}.features_dict.FeaturesDict",
      }
    )
  )
  (folder / "label.labels.txt").write_text("\n".join(CLASS_NAMES) + "\n")
  return folder


def _write_shard(path: pathlib.Path, records, file_format: str) -> None:
  if file_format == "tfrecord":
    path.write_bytes(tfrecord_bytes(records))
    return
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for record in records:
    writer.write(record)
  writer.close()
