"""Small files like human_accuracy.pickle and its JSON form.

The structure is what the code and the notebooks of the repository
modestyachts/evaluating_machine_accuracy_on_imagenet (commit 606500c and later)
look up in human_accuracy.pickle, and what TFDS 4.9.10 reads of
human_accuracy_v3.0.0.json.
"""

import collections
import json
import pathlib
import pickle

from imgbench.labels import classes

PEOPLE = ("human_a", "human_b", "human_c")
MODELS = ("alexnet", "resnet50", "vgg16")

# Validation and ImageNetV2 images: two dogs, a bird, four objects, one of
# which is problematic.
CLASSES = (151, 160, 10, 700, 701, 702, 703)
PROBLEMATIC = 6  # its place in CLASSES
VALIDATION = tuple(f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 8))
VERSION_2 = tuple(f"{n:040x}" for n in range(1, 8))
# Annotated, but not labeled by humans.
MORE = tuple(f"ILSVRC2012_val_{n:08d}.JPEG" for n in (101, 102))


def wnid(index: int) -> str:
  return classes.imagenet_classes().wnids[index]


def labels_of(index: int) -> dict[str, list[str]]:
  """Correct: the class; unclear: the next; wrong: the one after that."""
  return {
    "correct": [wnid(index)],
    "unclear": [wnid(index + 1)],
    "wrong": [wnid(index + 2)],
  }


def named_by(name: str, place: int, index: int) -> int:
  """Returns a labeler's answer; models err more on ImageNetV2."""
  wrong_at = {
    "human_a": {0},
    "human_b": {0, 1},
    "human_c": {0},
    "alexnet": {0, 1, 2, 3, 8, 9, 10, 11, 12},
    "resnet50": {0, 1, 8, 9, 10},
    "vgg16": {0, 2, 8, 9, 12},
  }
  return index + 2 if place in wrong_at[name] else index


def times(place: int) -> dict[str, str]:
  """Even places took 20 s, odd ones 90 s; place 4 spans midnight in 20 s."""
  if place == 4:
    start, end = "2019-07-01 23:59:50.5", "2019-07-02 00:00:10.5"
  elif place % 2:
    start, end = "2019-07-01 10:00:00", "2019-07-01 10:01:30"
  else:
    start, end = "2019-07-01 10:00:00", "2019-07-01 10:00:20"
  return {"start_time": start, "end_time": end}


def content() -> dict:
  """Returns a small content of human_accuracy.pickle."""
  images = (*VALIDATION, *VERSION_2)
  originals = dict(zip(images, (*CLASSES, *CLASSES), strict=True))
  problematic = {VALIDATION[PROBLEMATIC], VERSION_2[PROBLEMATIC]}
  annot_data = collections.defaultdict(dict)
  for name in (*PEOPLE, *MODELS):
    for place, (image, index) in enumerate(originals.items()):
      entry = {"label": wnid(named_by(name, place, index))}
      if name in PEOPLE:
        entry["extra_info"] = times(place)
      annot_data[name][image] = entry
  annot_data["human_majority"] = dict(annot_data["human_a"])
  annot_data["fv_4k"] = {VALIDATION[0]: {"label": wnid(0)}}  # incomplete
  table = classes.imagenet_classes()
  subsets = classes.subsets()
  inside = lambda mask: {
    w for w, yes in zip(table.wnids, mask, strict=True) if yes
  }
  all_annotated = {**originals, **dict(zip(MORE, (20, 30), strict=True))}
  return {
    "labeled_images": list(images),
    "annot_data": annot_data,
    "image_map": {
      image: {"id": image, "problematic": image in problematic}
      for image in images
    },
    "image_labels": {
      image: {state: set(found) for state, found in labels_of(index).items()}
      for image, index in originals.items()
    },
    "split_wnids": {
      ("object",): inside(subsets["object"]),
      ("organism",): inside(subsets["organism"]),
      ("organism", "dog"): inside(subsets["dog"]),
    },
    "all_candidates": collections.OrderedDict(
      (image, {"id_ours": image, "wnid": wnid(originals[image])})
      for image in VERSION_2
    ),
    "wnid_map": {image: wnid(i) for image, i in all_annotated.items()},
    "initial_annots": {
      image: labels_of(index) for image, index in all_annotated.items()
    },
  }


def write_pickle(
  path: pathlib.Path, protocol: int = 4, value=None
) -> pathlib.Path:
  path.write_bytes(pickle.dumps(value or content(), protocol))
  return path


def json_content() -> dict:
  """Returns a small content of human_accuracy_v3.0.0.json."""
  found = content()
  return {
    "initial_annots": found["initial_annots"],
    "problematic_images": {
      VALIDATION[PROBLEMATIC]: {"why": "no label"},
      VERSION_2[PROBLEMATIC]: {},
    },
    "imagenet_m": [VALIDATION[0], VALIDATION[3]],
    "something_else": 1,
  }


def write_json(path: pathlib.Path, value=None) -> pathlib.Path:
  path.write_text(json.dumps(value or json_content()))
  return path
