"""Training: objectives, how they are put together, and the loop."""

from xgap_analysis.training.loop import Trained as Trained
from xgap_analysis.training.loop import judge as judge
from xgap_analysis.training.loop import train as train
from xgap_analysis.training.recipe import Recipe as Recipe
