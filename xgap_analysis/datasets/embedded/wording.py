"""Sentences about drawings: a concept's name as the subject, with the article and the verb that go with it."""

import re

SEVERAL = ("men", "people", "women")  # names that begin so are of several things, whatever they end with
ONE = ("ss", "us", "is", "os")  # endings of names of one thing: a dress, a bus, a rhinoceros
WITHOUT_ARTICLE = frozenset(  # substances, games and names of their own
    (
        *("Mx Claus", "Santa Claus", "Tokyo tower", "ZZZ", "bacon", "badminton", "baguette bread", "bowling", "bread"),
        *("broccoli", "bubble tea", "building construction", "butter", "canned food", "construction", "cooked rice"),
        *("coral", "curry rice", "custard", "dango", "dna", "falafel", "field hockey", "flatbread", "fog", "fondue"),
        *("garlic", "ginger root", "horse racing", "ice", "ice hockey", "lacrosse", "light rail", "luggage", "mate"),
        *("milky way", "mount fuji", "nail polish", "oden", "ping pong", "popcorn", "pouring liquid", "sake", "salt"),
        *("shaved ice", "soap", "spaghetti", "stuffed flatbread", "sushi", "tennis", "thread", "wood", "yarn"),
    )
)


def is_several(name: str) -> bool:
    """Whether a name is of several things, as "chopsticks" and "women wrestling" are and "bus" is not."""
    words = name.split()
    ending = words[-1].endswith("s") and (words[-1] == "skis" or not words[-1].endswith(ONE))
    return ending or words[0] in SEVERAL


def with_article(name: str) -> str:
    """A name as a sentence has it: "a kite", "an apple", and "chopsticks", "salt" as they are.

    Example:
        >>> [with_article(name) for name in ("kite", "umbrella", "unicorn", "x-ray", "gloves", "salt")]
        ['a kite', 'an umbrella', 'a unicorn', 'an x-ray', 'gloves', 'salt']
    """
    if is_several(name) or name in WITHOUT_ARTICLE:
        return name
    vowel = re.match(r"(?!(uni|eu|ewe|one|use))[aeiou]|hour|x-ray", name, re.IGNORECASE)
    return f"{'an' if vowel else 'a'} {name}"


def sentence(name: str, verb: str) -> str:
    """What a thing does: "a kite moves left", and of several things "gloves move left".

    Args:
        name: of the thing or things.
        verb: of one thing, with what follows it: "rises", "moves left".
    """
    first, *rest = verb.split()
    return " ".join([with_article(name), first.removesuffix("s") if is_several(name) else first, *rest])
