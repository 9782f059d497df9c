"""The classes of `scenes`, their hierarchy and their confusions."""

import numpy as np

from imgbench.scenes import objects
from imgbench.scenes import organisms

DOGS = tuple(organisms.BREEDS)
OTHER_ORGANISMS = tuple(organisms.DRAWINGS)
OBJECTS = tuple(objects.DRAWINGS)
CLASS_NAMES = DOGS + OTHER_ORGANISMS + OBJECTS
NUM_CLASSES = len(CLASS_NAMES)
NUM_DOGS = len(DOGS)
NUM_ORGANISMS = NUM_DOGS + len(OTHER_ORGANISMS)
NUM_CLUTTER = len(objects.CLUTTER)

# Three classes that each class may be confused with.
_CONFUSIONS = {
  "husky": ("shepherd", "corgi", "dalmatian"),
  "shepherd": ("husky", "corgi", "retriever"),
  "corgi": ("shepherd", "husky", "beagle"),
  "beagle": ("dalmatian", "retriever", "corgi"),
  "dalmatian": ("beagle", "retriever", "husky"),
  "retriever": ("beagle", "dalmatian", "shepherd"),
  "bird": ("fish", "butterfly", "frog"),
  "fish": ("bird", "sailboat", "car"),
  "frog": ("fish", "bird", "mushroom"),
  "butterfly": ("daisy", "bird", "umbrella"),
  "daisy": ("butterfly", "lamp", "clock"),
  "mushroom": ("umbrella", "lamp", "frog"),
  "mug": ("bottle", "lamp", "house"),
  "lamp": ("umbrella", "mushroom", "bottle"),
  "ball": ("clock", "mug", "daisy"),
  "car": ("house", "sailboat", "fish"),
  "house": ("envelope", "car", "lamp"),
  "ladder": ("chair", "bottle", "house"),
  "umbrella": ("lamp", "mushroom", "sailboat"),
  "clock": ("ball", "daisy", "mug"),
  "sailboat": ("umbrella", "fish", "house"),
  "chair": ("ladder", "lamp", "mug"),
  "bottle": ("mug", "lamp", "ladder"),
  "envelope": ("house", "car", "clock"),
}
CONFUSIONS = np.array(
  [[CLASS_NAMES.index(name) for name in _CONFUSIONS[c]] for c in CLASS_NAMES],
  np.int32,
)

# Groups of the classes: name, group above it, classes.
GROUPS = (
  ("organisms", "", ()),
  ("animals", "organisms", OTHER_ORGANISMS[:4]),
  ("dogs", "animals", DOGS),
  ("plants and fungi", "organisms", OTHER_ORGANISMS[4:]),
  ("objects", "", ("ball", "house")),
  ("vehicles", "objects", ("car", "sailboat")),
  ("furniture", "objects", ("chair", "lamp")),
  ("containers", "objects", ("mug", "bottle", "envelope")),
  ("tools and instruments", "objects", ("ladder", "umbrella", "clock")),
)


def subsets() -> dict[str, np.ndarray]:
  """Returns bool [K] masks over classes, with the names of ImageNet's subsets.

  As in ImageNet, dogs are organisms, and what is no organism is an object.
  """
  index = np.arange(NUM_CLASSES)
  dog, organism = index < NUM_DOGS, index < NUM_ORGANISMS
  return {
    "dog": dog,
    "organism": organism,
    "object": ~organism,
    "organism_not_dog": organism & ~dog,
    "not_dog": ~dog,
  }
