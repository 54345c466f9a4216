"""Names as subjects of sentences."""

import pytest

from xgap_analysis.datasets.embedded.wording import is_several, sentence, with_article


@pytest.mark.parametrize(
    ("name", "verb", "expected"),
    [
        ("kite", "rises", "a kite rises"),
        ("umbrella", "moves left", "an umbrella moves left"),
        ("unicorn", "turns", "a unicorn turns"),
        ("one-piece swimsuit", "falls", "a one-piece swimsuit falls"),
        ("ewe", "falls", "a ewe falls"),
        ("euro banknote", "shrinks", "a euro banknote shrinks"),
        ("hourglass done", "grows", "an hourglass done grows"),
        ("OK hand", "rises", "an OK hand rises"),
        ("chopsticks", "moves right", "chopsticks move right"),
        ("french fries", "rises", "french fries rise"),
        ("women wrestling", "turns", "women wrestling turn"),
        ("skis", "falls", "skis fall"),
        ("bus", "grows", "a bus grows"),
        ("octopus", "shrinks", "an octopus shrinks"),
        ("rhinoceros", "turns", "a rhinoceros turns"),
        ("wine glass", "moves left", "a wine glass moves left"),
        ("salt", "rises", "salt rises"),
        ("Santa Claus", "falls", "Santa Claus falls"),
    ],
)
def test_a_sentence_has_the_article_and_the_verb_of_its_subject(name: str, verb: str, expected: str) -> None:
    assert sentence(name, verb) == expected


def test_what_is_several_has_no_article() -> None:
    for name in ("gloves", "people hugging", "woman’s clothes", "two hearts"):
        assert is_several(name)
        assert with_article(name) == name
