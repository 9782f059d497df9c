"""Writes and reads prediction files of every kind."""

import csv
import json

import numpy as np

from imgbench.papers.readers import own


def write_csv(path, image_ids, labels, header=None):
  with path.open("w", newline="") as file:
    lines = csv.writer(file)
    lines.writerow(
      header or ["image_id", *(f"label{i + 1}" for i in range(len(labels[0])))]
    )
    lines.writerows([i, *row] for i, row in zip(image_ids, labels, strict=True))
  return path


def write_jsonl(path, image_ids, labels):
  lines = [
    json.dumps({"image_id": str(i), "labels": list(row), "seconds": 1})
    for i, row in zip(image_ids, labels, strict=True)
  ]
  path.write_text("\n".join(lines) + "\n")
  return path


def write_npz(path, **arrays):
  np.savez(path, **arrays)
  return path


WRITERS = {"csv": write_csv, "jsonl": write_jsonl}


def write(kind, folder, image_ids, labels):
  """Writes class ids with image ids; returns the path."""
  path = folder / f"mine.{kind}"
  if kind == "npz":
    image_ids, labels = np.array(image_ids), np.array(labels)
    return write_npz(path, image_id=image_ids, top5=labels)
  return WRITERS[kind](path, image_ids, np.array(labels).tolist())


def read(path, dataset):
  spec = own.Spec("mine", dataset.name, path)
  found = own.read(spec, {dataset.name: dataset})
  assert (found.model, found.dataset, found.path) == (
    "mine",
    dataset.name,
    path,
  )
  assert found.ranking.dtype == np.int16
  return found.ranking
