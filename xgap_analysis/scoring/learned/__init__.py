"""Scorers with weights: how they are fitted to pairs, what they know of it, and the parts that they share."""

from xgap_analysis.scoring.learned.fit import LEARNED as LEARNED
from xgap_analysis.scoring.learned.fit import Learned as Learned
from xgap_analysis.scoring.learned.fit import fit_scorer as fit_scorer
from xgap_analysis.scoring.learned.fit import fitted as fitted
from xgap_analysis.scoring.learned.fit import plain_learned_scorers as plain_learned_scorers
from xgap_analysis.scoring.learned.fit import register_learned as register_learned
from xgap_analysis.scoring.learned.pairs import Paired as Paired
from xgap_analysis.scoring.learned.saving import load_scorer as load_scorer
from xgap_analysis.scoring.learned.saving import save_scorer as save_scorer
