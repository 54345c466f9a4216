"""The `xgap` command: one frozen dataclass for each sub-command, thin around the package."""

from xgap_analysis.cli.command import COMMANDS as COMMANDS
from xgap_analysis.cli.command import main as main
