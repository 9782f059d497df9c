"""OpenCV, imported when it is first needed."""

import functools


@functools.cache
def load():
  """Returns the module `cv2`, working in the thread that calls it.

  The threads that fill batches are enough: more would only hinder each other.
  This holds for the whole process.
  """
  import cv2

  cv2.setNumThreads(1)
  return cv2
