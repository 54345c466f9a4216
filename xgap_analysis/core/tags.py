"""What an item shows, known beside its pixels or letters: tags, which the `oracle` reads and no other model sees."""

from collections.abc import Iterable
from typing import Any, TypeVar

from PIL import Image

Tag = tuple[str, str]  # kind and name: ("concept", "1f43b"), ("artist", "noto")
IN_INFO = "tags"  # where an image of Pillow's carries them; a copy, a crop or a conversion keeps it
Own = TypeVar("Own", bound=Image.Image)


class TaggedText(str):
    """A text that carries tags, and is otherwise the same text.

    Example:
        >>> text = TaggedText("a kite", [("concept", "1fa81")])
        >>> text == "a kite", text.tags
        (True, (('concept', '1fa81'),))
    """

    tags: tuple[Tag, ...]

    def __new__(cls, text: str, tags: Iterable[Tag] = ()) -> "TaggedText":
        """The text with its tags."""
        made = super().__new__(cls, text)
        made.tags = tuple(tags)
        return made


def tagged(image: Own, tags: Iterable[Tag]) -> Own:
    """The same image, which carries these tags from now on."""
    image.info[IN_INFO] = tuple(tags)
    return image


def tags_of(item: Any) -> tuple[Tag, ...]:
    """The tags of an image, of a text, of anything that has `tags`, or of a list of these (the frames of a clip), one
    after another; none where it carries none.
    """
    if isinstance(item, Image.Image):
        return tuple(item.info.get(IN_INFO, ()))
    if isinstance(item, list | tuple):
        return tuple(tag for part in item for tag in tags_of(part))
    return tuple(getattr(item, "tags", ()))
