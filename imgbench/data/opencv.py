"""Imports OpenCV when it is first needed."""

import functools


@functools.cache
def load():
  """Returns the module `cv2`, limited to one thread per call.

  The limit holds for the whole process. Batches are filled by threads already;
  more threads would only compete.
  """
  import cv2

  cv2.setNumThreads(1)
  return cv2
