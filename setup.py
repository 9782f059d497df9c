"""Packaging of imgbench: ranges here, tested versions in requirements/."""

import pathlib
import re
import zlib

import setuptools
from setuptools.command import build_py

HERE = pathlib.Path(__file__).parent
# Includes google-cloud-storage, which Orbax needs to read buckets.
GCS = ["gcsfs>=2026.9"]
# jax.export serializes with the first.
EXPORT = ["flatbuffers>=24.3", "safetensors>=0.5"]
# `imgbench review`.
REVIEW = [
  # Pages and their server; both are pure Python.
  *("starlette>=1.0", "uvicorn>=0.40"),
  # Passwords as the newest hash, signed cookies, uploaded files.
  *("argon2-cffi>=25", "itsdangerous>=2.2", "python-multipart>=0.0.20"),
  # Guides are Markdown that reviewers' browsers must not run.
  *("markdown-it-py>=4.0", "nh3>=0.3"),
  # Alpha with missing votes, any number of them.
  "krippendorff>=0.9",
]
VERSION = re.search(
  r'__version__ = "([^"]+)"', (HERE / "imgbench/__init__.py").read_text()
).group(1)

TURBO = "imgbench/data/turbo.c"


class BuildPackages(build_py.build_py):
  """Copies configs/ and experiments/ into packages of imgbench.

  A checkout and an editable installation find them at the top level, see
  imgbench/configs/__init__.py.
  """

  def build_packages(self):
    """Copies the packages to the build folder."""
    super().build_packages()
    for path in list_copied():
      package = ".".join(("imgbench", *path.parent.parts))
      self.build_module(path.stem, str(path), package)

  def get_source_files(self):
    """Returns the files of a source distribution."""
    return [*super().get_source_files(), *map(str, list_copied())]


def list_copied():
  """Returns the files of configs/ and experiments/."""
  return [
    path
    for folder in ("configs", "experiments")
    for path in sorted(pathlib.Path(folder).rglob("*.py"))
    if path.parts != (folder, "__init__.py")
  ]


setuptools.setup(
  name="imgbench",
  version=VERSION,
  description="Accelerator benchmarking on image classification in JAX.",
  long_description=(HERE / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  cmdclass={"build_py": BuildPackages},
  packages=setuptools.find_packages(include=["imgbench", "imgbench.*"]),
  package_data={
    "imgbench": [
      "py.typed",
      "**/*.j2",
      "**/*.css",
      "review/server/static/*.js",
      "review/**/*.sql",
      "launch/tpu_worker.sh",
      "data/turbo.c",  # the loaded library is checked against it
      "labels/*.csv",
      "scenes/guide/*.md",
      "papers/*.toml",
      "weights/*.toml",
      # WordNet's license has to accompany data derived from it.
      "labels/WORDNET_LICENSE",
    ]
  },
  # A plain C library. Without a compiler or the header of libjpeg-turbo the
  # installation succeeds without it.
  ext_modules=[
    setuptools.Extension(
      "imgbench.data._turbo",
      [TURBO],
      libraries=["jpeg", "m"],
      define_macros=[
        ("TURBO_SOURCE", f"{zlib.crc32((HERE / TURBO).read_bytes())}UL")
      ],
      extra_compile_args=["-O3", "-Wall", "-Wextra"],
      optional=True,
    )
  ],
  install_requires=[
    "absl-py>=2.1",
    "array_record>=0.5",
    "chex>=0.1.90",
    # Antialiased resizing, five times as fast as Pillow, which is the fallback
    # on platforms without a wheel.
    'cykooz-resizer>=4.0; platform_machine != "aarch64"',
    "etils[epath]>=1.10",
    "flax>=0.12",
    # Checksums of TFRecord files. Without a wheel it may be slow pure Python;
    # for Python 3.12 there are wheels from 1.6.
    "google-crc32c>=1.6",
    # tensorflow-datasets imports it without declaring it.
    "importlib_resources>=6.0",
    "jax>=0.10",
    # Pages of runs and benchmarks: escapes by default.
    "jinja2>=3.1",
    "markupsafe>=3.0",
    "matplotlib>=3.9",
    "ml-collections>=1.0",
    "numpy>=2.0",
    # RandAugment: four times as fast as Pillow.
    "opencv-python-headless>=4.10",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    # Frames of measurements: merges, ranks, pivots; never of examples.
    "pandas>=2.2",
    "pillow>=11",
    "scipy>=1.14",
    # JPEGs of many sizes, into buffers, without the interpreter's lock.
    "simplejpeg>=1.8",
    "tensorboardX>=2.6",
    "tensorflow-datasets>=4.9.9",
    "tqdm>=4.66",
  ],
  extras_require={
    # NVIDIA drivers from 525 support CUDA 12, from 580 CUDA 13.
    "cuda12": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    # --workdir in a bucket, gs://BUCKET/FOLDER.
    "gcs": GCS,
    # `imgbench export`.
    "export": EXPORT,
    # `imgbench review`: the server and agreement.
    "review": REVIEW,
    # Preparing data sets with TFDS; imgbench itself never imports TensorFlow.
    "prepare": ["tensorflow>=2.18"],
    "test": [
      *GCS,
      *EXPORT,
      *REVIEW,
      "gcp-storage-emulator>=2026.7",
      *("hypothesis", "pytest>=8.4", "pytest-xdist", "ruff"),
    ],
    # `make test-browser`; the browser is the system's Chromium.
    "browser": ["playwright>=1.50"],
    # `make types`; `make venv` installs it beside "test".
    "dev": ["mypy>=2.4"],
  },
  entry_points={"console_scripts": ["imgbench=imgbench.commands:main"]},
)
