"""The path of the images from the data set to the step.

`order` says which image comes when, a `Source` gives the rows asked for, on the device, and a `Feed` puts both together
with the augmentations.
"""

from .batches import Batch, Feed
from .choice import source_of
from .order import epoch_order, image_numbers
from .resident import Resident
from .source import Rows, Source, each

__all__ = ["Batch", "Feed", "Resident", "Rows", "Source", "each", "epoch_order", "image_numbers", "source_of"]
