"""Comparisons, studies and their tables."""

from xgap_analysis.experiments.comparison import COMPARISONS as COMPARISONS
from xgap_analysis.experiments.comparison import Comparison as Comparison
from xgap_analysis.experiments.evaluation import Evaluation as Evaluation
from xgap_analysis.experiments.fused_weights import Sweep as Sweep
from xgap_analysis.experiments.fused_weights import swept as swept
from xgap_analysis.experiments.study import Study as Study
from xgap_analysis.experiments.table_files import save_table as save_table
from xgap_analysis.experiments.tables import embedded_table as embedded_table
from xgap_analysis.experiments.tables import main_rows as main_rows
