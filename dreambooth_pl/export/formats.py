"""The export formats, a file each."""

from dreambooth_pl.export.diffusers import DiffusersFormat
from dreambooth_pl.export.format import ExportFormat
from dreambooth_pl.export.kohya import KohyaFormat
from dreambooth_pl.export.merged import MergedFormat
from dreambooth_pl.export.peft import PeftFormat

FORMATS: dict[str, ExportFormat] = {
    "diffusers": DiffusersFormat(),
    "kohya": KohyaFormat(),
    "peft": PeftFormat(),
    "merged": MergedFormat(),
}
"""By the name that `--format` takes."""
