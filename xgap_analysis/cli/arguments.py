"""Types of arguments that several sub-commands share."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

Space = Literal["image", "text"]
Number = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Precision = Literal["fp32", "bf16", "fp16"]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
Activation = Annotated[
    Literal["quickgelu", "gelu"] | None, tyro.conf.arg(metavar="{quickgelu,gelu}", help_behavior_hint="")
]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
