"""Photos as training will see them, each with its verdict, as HTML."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from dreambooth_pl.data.masks import find_masks, prepare_mask, read_mask
from dreambooth_pl.data.photos import VettingReport, prepare, read_photo, vet_folder
from dreambooth_pl.data.sidecars import captions_beside
from dreambooth_pl.errors import UserError
from dreambooth_pl.files.pictures import once_per_file
from dreambooth_pl.studio.subjects import Subject
from dreambooth_pl.studio.texts import Texts

THUMBNAIL = 224
"""Side in pixels."""
_MASK_COLOUR = (220, 40, 90)


@dataclass(frozen=True)
class Verdict:
    """What is said of one photo."""

    kind: str
    """used, mended, warned or refused."""
    notes: tuple[str, ...] = ()


def photo_cards(subject: Subject, resolution: int, texts: Texts) -> tuple[str, list[str]]:
    """Return the photos of a subject as HTML, and the names of those that are used.

    Args:
        subject: whose photos.
        resolution: side in pixels of the images that are trained on, for the warnings.
        texts: the language.
    """
    try:
        report = vet_folder(subject.photos, resolution=resolution)
    except UserError as error:  # nothing can be used: the message names each file
        if not any(subject.photos.iterdir()):
            return _box(texts("photos.empty")), []
        return _box(str(error).partition(": ")[2], "bad"), []
    verdicts = judge(report)
    masks, trouble = _masks(report)
    captions = captions_beside(report.used)
    cards = []
    used = dict(zip(report.used, zip(masks, captions, strict=True), strict=True))
    for path in sorted({*report.used, *(note.path for note in report.refused)}):
        mask, beside = used.get(path, (None, []))
        caption = beside[0].read_text(encoding="utf-8", errors="replace") if beside else ""
        cards.append(_card(path, verdicts[path], mask, caption.strip(), texts))
    counts = [verdict.kind for verdict in verdicts.values()]
    summary = texts(
        "photos.summary",
        used=len(report.used),
        warned=counts.count("warned"),
        refused=counts.count("refused"),
    )
    lines = [*trouble, *(_advice(len(report.used), texts))]
    html = f'<p class="st-summary" role="status">{escape(summary)}</p>'
    html += "".join(_box(line, "warn") for line in lines)
    html += f'<ul class="st-photos">{"".join(cards)}</ul>'
    return html, [path.name for path in report.used]


def judge(report: VettingReport) -> dict[Path, Verdict]:
    """Return the verdict of each photo of a report: the worst that is said of it."""
    verdicts: dict[Path, Verdict] = {path: Verdict("used") for path in report.used}
    for kind, notes in (
        ("mended", report.fixed),
        ("warned", report.warned),
        ("refused", report.refused),
    ):
        for note in notes:
            before = verdicts.get(note.path, Verdict(kind)).notes
            verdicts[note.path] = Verdict(kind, (*before, note.text))
    return verdicts


def _masks(report: VettingReport) -> tuple[list[Path | None], list[str]]:
    try:
        return find_masks(report.used, None), []
    except UserError as error:
        return [None] * len(report.used), [str(error)]


def _advice(used: int, texts: Texts) -> list[str]:
    return [texts("photos.few")] if used < 3 else []


def _card(path: Path, verdict: Verdict, mask: Path | None, caption: str, texts: Texts) -> str:
    name = escape(path.name)
    if verdict.kind == "refused":
        picture = '<div class="st-none" aria-hidden="true">×</div>'
    else:
        source = _thumbnail_with_mask(path, mask) if mask else thumbnail(path)
        picture = f'<img src="{source}" alt="{name}" width="{THUMBNAIL}" height="{THUMBNAIL}">'
    notes = "".join(f"<p>{escape(note)}</p>" for note in verdict.notes)
    said = f'<p class="st-caption">“{escape(caption)}”</p>' if caption else ""
    label = escape(texts(f"photos.verdict.{verdict.kind}"))
    return (
        f'<li class="st-photo {verdict.kind}">{picture}<p class="st-name">{name}</p>'
        f'<p class="st-verdict">{label}</p>{notes}{said}</li>'
    )


@once_per_file(512)
def thumbnail(path: Path) -> str:
    """Return a photo, cropped as training crops it, as a data URI."""
    return _data_uri(prepare(read_photo(path), THUMBNAIL))


def _thumbnail_with_mask(path: Path, mask: Path) -> str:
    """Return a photo with what its mask leaves out under a colour."""
    image = prepare(read_photo(path), THUMBNAIL)
    try:
        weights = prepare_mask(read_mask(mask, path), (THUMBNAIL, THUMBNAIL), (0.5, 0.5))
    except UserError:
        return _data_uri(image)
    left_out = Image.fromarray(((1 - weights[0]) * 150).byte().numpy(), mode="L")
    image.paste(_MASK_COLOUR, (0, 0), left_out)
    return _data_uri(image)


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _box(text: str, kind: str = "") -> str:
    lines = "<br>".join(escape(line) for line in text.splitlines())
    return f'<p class="st-box {kind}">{lines}</p>'
