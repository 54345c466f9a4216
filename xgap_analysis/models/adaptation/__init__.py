"""What changes a model: adapters as LoRA or CLIP-Adapter are, and the model that a base and an adapter make.

The rooms beside it hold something else: `models/adapters/` has one file per family of models (how a library's model
becomes towers), and nothing in it is trained.
"""

from xgap_analysis.models.adaptation import experts as experts
from xgap_analysis.models.adaptation import grounded as grounded
from xgap_analysis.models.adaptation import head as head
from xgap_analysis.models.adaptation import lexical as lexical
from xgap_analysis.models.adaptation import one_network as one_network
from xgap_analysis.models.adaptation import pools as pools
from xgap_analysis.models.adaptation import prompts as prompts
from xgap_analysis.models.adaptation import sentences as sentences
from xgap_analysis.models.adaptation import stretched as stretched
from xgap_analysis.models.adaptation.adapted import adapted as adapted
from xgap_analysis.models.adaptation.adapter import ADAPTERS as ADAPTERS
from xgap_analysis.models.adaptation.adapter import Adapter as Adapter
from xgap_analysis.models.adaptation.adapter import adapter as adapter
from xgap_analysis.models.adaptation.adapter import register_adapter as register_adapter
from xgap_analysis.models.adaptation.published import load_adapter as load_adapter
