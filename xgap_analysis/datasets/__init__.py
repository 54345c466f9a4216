"""Datasets by name."""

from xgap_analysis.core.relevance import Relevance as Relevance
from xgap_analysis.datasets.catalog import DATASETS as DATASETS
from xgap_analysis.datasets.catalog import load_dataset as load_dataset
from xgap_analysis.datasets.catalog import modalities_of as modalities_of
from xgap_analysis.datasets.catalog import register_dataset as register_dataset
from xgap_analysis.datasets.dataset import Dataset as Dataset
from xgap_analysis.datasets.items import Images as Images
from xgap_analysis.datasets.items import Items as Items
from xgap_analysis.datasets.items import Texts as Texts
from xgap_analysis.datasets.local.objects import as_dataset as as_dataset
from xgap_analysis.datasets.parts import Parts as Parts
