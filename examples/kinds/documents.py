"""What the examples know about documents: Markdown, HTML and plain text."""

import hashlib
import html.parser
import json
import re

from safe_files import files_in, write_whole

FORMATS = {".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html", ".txt": "text"}
MAX_BYTES = 10 * 1024 * 1024  # a document, not a dump; larger ones would only fill the memory
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
INLINE_LINK = re.compile(r"!?\[[^\]\n]{0,500}\]\(\s*<?([^\s)>]+)>?[^)\n]*\)")
REFERENCE_LINK = re.compile(r"^\[[^\]\n]{1,500}\]:\s*<?(\S+?)>?(?:\s.*)?$", re.MULTILINE)
BARE_LINK = re.compile(r"\bhttps?://[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]")


class Page(html.parser.HTMLParser):
    """Collects the visible text, the title, the links and the anchors of an HTML page."""

    def __init__(self, text):
        super().__init__()
        self.text, self.title, self.links, self.anchors, self.open = [], "", [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]
        self.anchors += [attrs[name] for name in ("id", "name") if attrs.get(name)]
        if tag in ("title", "script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.text.append(data)
        elif self.open[-1] == "title":
            self.title += data


def documents_in(root):
    """The documents below a folder."""
    return [path for path in files_in(root) if path.suffix.lower() in FORMATS]


def describe(path):
    """Title, number of words, links and anchors of a document. Raises ValueError if it is none, OSError if it cannot be read."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path.name} is not a document: its name must end in {', '.join(FORMATS)}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_BYTES} bytes: split it")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 ({error}): save it as UTF-8") from None
    if kind == "html":
        page = Page(text)
        title, plain, links, anchors = page.title.strip(), " ".join(page.text), page.links, page.anchors
    elif kind == "markdown":
        prose = CODE.sub("", text)  # what looks like a link in code is none
        headings = HEADING.findall(prose)
        title = headings[0] if headings else ""
        plain = INLINE_LINK.sub(lambda link: link[0].split("]", 1)[0], prose)
        links = INLINE_LINK.findall(prose) + REFERENCE_LINK.findall(prose)
        links += BARE_LINK.findall(REFERENCE_LINK.sub("", INLINE_LINK.sub("", prose)))
        # As the usual renderers make them: lower case, no punctuation, hyphens for spaces.
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    else:
        title = next((line.strip() for line in text.splitlines() if line.strip()), "")
        plain, links, anchors = text, BARE_LINK.findall(text), []
    words = len(re.findall(r"\w+(?:['’-]\w+)*", plain))
    links, anchors = list(dict.fromkeys(links)), list(dict.fromkeys(anchors))
    digest = hashlib.sha256(data).hexdigest()
    return {"title": title or path.stem, "format": kind, "words": words, "links": links, "anchors": anchors, "sha256": digest}


def process(path, name, output):
    """Describes the document `path` in `output/NAME.json`. A file that says so already is left alone."""
    found = {"document": name, **describe(path)}
    target = output / f"{name}.json"
    text = json.dumps(found, indent=2) + "\n"
    if not (target.is_file() and target.read_text() == text):
        write_whole(target, text)
    return {"title": found["title"], "words": found["words"], "links": len(found["links"])}
