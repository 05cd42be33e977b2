"""The words of the framework: levels, schedules, predictions, samplers, and the five interfaces.

Imports torch and nothing of ours; reads no file, opens no connection, holds no global state.
"""

if __name__ != "dmf.core":  # `import core` from the checkout would make a second Sampler
    raise ImportError(f"import dmf.core, not {__name__}")

from .activation_checkpointing import checkpoint_activations
from .augmentation import Augmentation, with_labels
from .averages import Average
from .backbone import Backbone
from .bits import Bits, bits_per_dim
from .class_weights import class_weights
from .codec import Codec, Pixels
from .conditioning import Cond, complete, drop, labels_cond, null_cond
from .dataset import Dataset, InMemory, LeftOut
from .decays import Decay, Progress
from .denoiser import Counted, Denoise, Denoiser, bind
from .densities import Density
from .editing import inpaint, known_pixels, start_from
from .feature_metric import FeatureMetric
from .feature_rows import FeatureRows
from .features import FeatureExtractor, probe
from .grids import Grid, levels_of
from .guidance import Guidance
from .inversion import encode
from .level import Level
from .likelihood import log_density
from .metric import Metric, ScoredModel, Way
from .objectives import Attempt, Objective, training_loss
from .optimizer_state import load_optimizer_state, make_state, optimizer_state
from .optimizing import MakeOptimizer, WeightGroup, take_step
from .predictions import Coefficients, Prediction
from .sampler import Context, Sampler, SamplingError, sample
from .scans import Scan
from .schedule import NoiseSchedule
from .spans import Period, Span, images_of
from .spec import CondSpec, DataSpec, Example
from .statistics import Statistics
from .streams import ImageStreams, generator, stream_seed
from .table import TableSchedule
from .weightings import LossSpace, Weighting

__all__ = [
    "Attempt",
    "Augmentation",
    "Average",
    "Backbone",
    "Bits",
    "Codec",
    "Coefficients",
    "Cond",
    "CondSpec",
    "Context",
    "Counted",
    "DataSpec",
    "Dataset",
    "Decay",
    "Denoise",
    "Denoiser",
    "Density",
    "Example",
    "FeatureExtractor",
    "FeatureMetric",
    "FeatureRows",
    "Grid",
    "Guidance",
    "ImageStreams",
    "InMemory",
    "LeftOut",
    "Level",
    "LossSpace",
    "MakeOptimizer",
    "Metric",
    "NoiseSchedule",
    "Objective",
    "Period",
    "Pixels",
    "Prediction",
    "Progress",
    "Sampler",
    "SamplingError",
    "Scan",
    "ScoredModel",
    "Span",
    "Statistics",
    "TableSchedule",
    "Way",
    "WeightGroup",
    "Weighting",
    "bind",
    "bits_per_dim",
    "checkpoint_activations",
    "class_weights",
    "complete",
    "drop",
    "encode",
    "generator",
    "images_of",
    "inpaint",
    "known_pixels",
    "labels_cond",
    "levels_of",
    "load_optimizer_state",
    "log_density",
    "make_state",
    "null_cond",
    "optimizer_state",
    "probe",
    "sample",
    "start_from",
    "stream_seed",
    "take_step",
    "training_loss",
    "with_labels",
]
