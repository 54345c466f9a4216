"""Text and names that are not clean UTF-8: read where there is a rule for them."""

import codecs
import unicodedata

from xgap_analysis.core.table_values import clean_text


def decoded(content: bytes) -> tuple[str, bool]:
    """Bytes as text, and whether they said how: as UTF-8 or UTF-16 with its mark; others are read as Windows-1252."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if marked else ("utf-8-sig",):
        try:
            return content.decode(encoding), True
        except UnicodeDecodeError:
            pass
    try:
        return content.decode("cp1252"), False
    except UnicodeDecodeError:  # one of the five bytes that Windows-1252 leaves open
        return content.decode("latin-1"), False


def readable(name: str) -> str:
    """The name of a file as text that can be printed and stored; bytes that are not UTF-8 are read as Windows-1252."""
    try:
        return decoded(name.encode("utf-8", "surrogateescape"))[0]
    except UnicodeEncodeError:  # half a character, for which no byte of a file's name stands
        return clean_text(name)


def one_form(label: str) -> str:
    """A label with its accents in the one form of writing them (NFC); macOS writes file names in the other."""
    return unicodedata.normalize("NFC", label)
