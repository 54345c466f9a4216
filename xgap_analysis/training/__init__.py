"""Training: objectives, how they are put together, and the loop."""

from xgap_analysis.training.frames import FittedFrames as FittedFrames
from xgap_analysis.training.frames import fit_frames as fit_frames
from xgap_analysis.training.given import Further as Further
from xgap_analysis.training.given import GivenScores as GivenScores
from xgap_analysis.training.joint import FittedJoint as FittedJoint
from xgap_analysis.training.joint import fit_joint as fit_joint
from xgap_analysis.training.joint_files import load_joint as load_joint
from xgap_analysis.training.joint_files import save_joint as save_joint
from xgap_analysis.training.loop import Trained as Trained
from xgap_analysis.training.loop import evaluate as evaluate
from xgap_analysis.training.loop import train as train
from xgap_analysis.training.objectives import OBJECTIVES as OBJECTIVES
from xgap_analysis.training.objectives import BatchFeatures as BatchFeatures
from xgap_analysis.training.objectives import Needs as Needs
from xgap_analysis.training.objectives import Sizes as Sizes
from xgap_analysis.training.objectives import Term as Term
from xgap_analysis.training.objectives import objective as objective
from xgap_analysis.training.objectives import register_objective as register_objective
from xgap_analysis.training.recipe import Recipe as Recipe
from xgap_analysis.training.recipes import RECIPES as RECIPES
from xgap_analysis.training.recipes import recipe as recipe
from xgap_analysis.training.recipes import register_recipe as register_recipe
from xgap_analysis.training.two_views import fit_two_views as fit_two_views
