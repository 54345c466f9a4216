"""How a pair is scored: functions of one block of queries and a gallery. No model, no dataset."""

from xgap_analysis.scoring.combined import rerank as rerank
from xgap_analysis.scoring.combined import weighted_sum as weighted_sum
from xgap_analysis.scoring.cosine import COSINE as COSINE
from xgap_analysis.scoring.cosine import cosine as cosine
from xgap_analysis.scoring.late_interaction import late_interaction as late_interaction
from xgap_analysis.scoring.learned import LEARNED as LEARNED
from xgap_analysis.scoring.learned import fit_scorer as fit_scorer
from xgap_analysis.scoring.learned import register_learned as register_learned
from xgap_analysis.scoring.pooled import pooled as pooled
from xgap_analysis.scoring.score import score as score
from xgap_analysis.scoring.scorer import SCORERS as SCORERS
from xgap_analysis.scoring.scorer import ScoreFunction as ScoreFunction
from xgap_analysis.scoring.scorer import Scorer as Scorer
from xgap_analysis.scoring.scorer import complete_scorers as complete_scorers
from xgap_analysis.scoring.scorer import register_scorer as register_scorer
from xgap_analysis.scoring.scorer import scorer as scorer
from xgap_analysis.scoring.systems.comclip import comclip as comclip
from xgap_analysis.scoring.systems.dreamlip import dreamlip as dreamlip
from xgap_analysis.scoring.systems.fdp import fdp as fdp
from xgap_analysis.scoring.systems.glscl import glscl as glscl
from xgap_analysis.scoring.systems.grain import grain as grain
from xgap_analysis.scoring.systems.howtocaption import howtocaption as howtocaption
from xgap_analysis.scoring.systems.mevtr import mevtr as mevtr
from xgap_analysis.scoring.systems.sprc import sprc as sprc
from xgap_analysis.scoring.systems.x_pool import x_pool as x_pool
from xgap_analysis.scoring.tokens import TokenBlock as TokenBlock
