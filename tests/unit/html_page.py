"""A page as an HTML parser sees it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "input", "br", "link", "hr"}
SHAPES = {"line", "circle", "polyline", "path", "rect"}


class Page(HTMLParser):
    """Elements in their order, each with its attributes and the text within it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        """One per element, with that of its children."""
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, "an element is not closed"

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute of <{tag}> twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES | VOID, f"<{tag}/> is an open element in HTML"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open[-1]][0] == tag, f"</{tag}> closes another element"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.texts[place] += data

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and texts of the elements with this tag and these attributes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            (own, " ".join(text.split()))
            for (name, own), text in zip(self.elements, self.texts, strict=True)
            if name == tag and wanted.items() <= own.items()
        ]

    def rows(self) -> list[list[str]]:
        """The texts of the cells of all tables' rows."""
        found: list[list[str]] = []
        for (tag, _), text in zip(self.elements, self.texts, strict=True):
            if tag == "tr":
                found.append([])
            elif tag in ("th", "td"):
                found[-1].append(" ".join(text.split()))
        return found

    def links(self) -> list[str]:
        """All that the page refers to outside itself."""
        names = ("href", "src", "srcset", "action", "data", "poster", "xlink:href")
        found = [own[name] for _, own in self.elements for name in names if name in own]
        return [url for url in found if not url.startswith(("#", "data:image/"))]
