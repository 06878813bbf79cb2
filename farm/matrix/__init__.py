"""The matrix: from a file to its cells. Pure, but for reading the file."""

from farm.matrix.cells import MAX_CELLS, expansion
from farm.matrix.combine import expand
from farm.matrix.read import Document, load, loads

__all__ = ["MAX_CELLS", "Document", "expand", "expansion", "load", "loads"]
