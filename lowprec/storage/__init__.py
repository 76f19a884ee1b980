"""Files in which tensors take the bits of their formats."""

from lowprec.storage.packed import load_packed as load_packed
from lowprec.storage.packed import nbytes as nbytes
from lowprec.storage.packed import save_packed as save_packed
