"""Terms of training objectives, one file per family: small pure functions of unit features, and what has a name."""

from xgap_analysis.training.objectives.arc_margin import arc_margin_loss as arc_margin_loss
from xgap_analysis.training.objectives.batch import BatchFeatures as BatchFeatures
from xgap_analysis.training.objectives.consistency import cross_modal_consistency as cross_modal_consistency
from xgap_analysis.training.objectives.consistency import in_modal_consistency as in_modal_consistency
from xgap_analysis.training.objectives.contrast import clip_loss as clip_loss
from xgap_analysis.training.objectives.contrast import one_to_many_loss as one_to_many_loss
from xgap_analysis.training.objectives.contrast import siglip_loss as siglip_loss
from xgap_analysis.training.objectives.contrast import simclr_loss as simclr_loss
from xgap_analysis.training.objectives.lexical import overuse as overuse
from xgap_analysis.training.objectives.lexical import sparse_contrast as sparse_contrast
from xgap_analysis.training.objectives.ranking_margin import ranking_margin as ranking_margin
from xgap_analysis.training.objectives.self_distillation import self_distil as self_distil
from xgap_analysis.training.objectives.term import OBJECTIVES as OBJECTIVES
from xgap_analysis.training.objectives.term import Needs as Needs
from xgap_analysis.training.objectives.term import Sizes as Sizes
from xgap_analysis.training.objectives.term import Term as Term
from xgap_analysis.training.objectives.term import objective as objective
from xgap_analysis.training.objectives.term import register_objective as register_objective
from xgap_analysis.training.objectives.uniformity import alignment_loss as alignment_loss
from xgap_analysis.training.objectives.uniformity import uniformity_loss as uniformity_loss
from xgap_analysis.training.objectives.weighted import active as active
from xgap_analysis.training.objectives.weighted import total as total
