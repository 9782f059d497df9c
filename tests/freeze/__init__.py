"""The freeze: shows that a refactoring changed no behavior.

make freeze BASE=COMMIT

runs the same programs in a checkout of the base and in this tree, on this
machine, and compares what they leave. No result is stored in the repository:
trained numbers differ between kinds of CPUs. Adapting it: what is taken from
the project by name stands in `probe.IMPORTS`; all else are command lines.

Not compared:
- standard error and TensorBoard's event files: they hold times; metrics.jsonl
  has the same numbers.
- files of checkpoints, which differ from run to run; the digests of all arrays
  in them are compared, and each tree resumes checkpoints of the base.
- figures, of which only the size in pixels is, and the PDFs' existence.
- under --fast, whatever trains, and blocks that repeat (see `probe`).
- programs for GPUs and TPUs, and runs of several processes: the tests have
  those. Lowering is for 4 devices of a CPU, with images of 32 pixels.
- names of Python functions in StableHLO, and of their results.
"""
