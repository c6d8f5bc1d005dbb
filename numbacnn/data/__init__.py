"""Data sets by name, from folders, images and IDX files; and the loader that serves them in batches."""

from numbacnn.data.dataset import Dataset
from numbacnn.data.datasets import NAMES, download, load, load_splits, verify
from numbacnn.data.folder import load_folder
from numbacnn.data.idx import read_idx, write_idx
from numbacnn.data.images import (
    has_bright_border,
    image_size,
    read_image,
    read_mask,
    resize_nearest,
    write_image,
    write_mask,
)
from numbacnn.data.loader import Batch, DataLoader
from numbacnn.data.preview import preview
from numbacnn.data.reading import Splits
from numbacnn.data.remote import NamedSet
from numbacnn.data.scenes import make_scenes

__all__ = [
    "NAMES",
    "Batch",
    "DataLoader",
    "Dataset",
    "NamedSet",
    "Splits",
    "download",
    "has_bright_border",
    "image_size",
    "load",
    "load_folder",
    "load_splits",
    "make_scenes",
    "preview",
    "read_idx",
    "read_image",
    "read_mask",
    "resize_nearest",
    "verify",
    "write_idx",
    "write_image",
    "write_mask",
]
