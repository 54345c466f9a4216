"""The notation name(option=value): what is written is read again, and what cannot be read is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xgap_analysis.core.calls import Call, parse, spelled
from xgap_analysis.core.errors import XgapError

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+:-]{0,8}", fullmatch=True)
options = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # with brackets, commas, quotes, line ends
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
literals = st.recursive(
    words | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)


def calls(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.builds(Call, names, st.lists(inner, max_size=2).map(tuple), st.dictionaries(options, inner, max_size=3))


# A call without anything in brackets is a plain word, which is read as one.
nested = calls(literals | calls(literals).filter(lambda call: call.arguments or call.options))


@given(nested)
def test_what_is_written_is_read_again(call: Call) -> None:
    assert parse(str(call)) == call
    assert str(parse(str(call))) == str(call)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("center", Call("center")),
        (" center ( ) ", Call("center")),
        ("pca-text(rank=64)", Call("pca-text", (), {"rank": 64})),
        ("pca-text( rank = 64 , words=imagenet,)", None),
        ("isoclip(k_top=1e-3, k=[1, 2], flag=True)", Call("isoclip", (), {"k_top": 1e-3, "k": [1, 2], "flag": True})),
        ("oti(template='a photo, of {}')", Call("oti", (), {"template": "a photo, of {}"})),
        ('oti(template="it\'s (one")', Call("oti", (), {"template": "it's (one"})),
        (r"oti(template='it\'s')", Call("oti", (), {"template": "it's"})),
        (r"precomputed('C:\\')", Call("precomputed", ("C:\\",))),
        ("precomputed(/data/my file.npy, space=text)", Call("precomputed", ("/data/my file.npy",), {"space": "text"})),
        (
            "fuse(image, oti(steps=25), weight=0.3)",
            Call("fuse", ("image", Call("oti", (), {"steps": 25})), {"weight": 0.3}),
        ),
        (
            "a(b(c(d=1), 2), e=f(g=h))",
            Call("a", (Call("b", (Call("c", (), {"d": 1}), 2)),), {"e": Call("f", (), {"g": "h"})}),
        ),
        ("a(b=-1.5)", Call("a", (), {"b": -1.5})),
        ("a(b=None, c='None')", Call("a", (), {"b": None, "c": "None"})),
        ("a(b='1')", Call("a", (), {"b": "1"})),
    ],
)
def test_values_are_literals_calls_or_plain_words(text: str, expected: Call | None) -> None:
    if expected is None:  # an option without a value, which the trailing comma leaves
        with pytest.raises(XgapError, match="is not written like name"):
            parse(text)
    else:
        assert parse(text) == expected
        assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "()", "(a=1)", "1a", "a(", "a)", "a((b)", "a(b=1", "a(b=1))", "a(b=[1)", "a(b={1]})", "a(b=1) c", "a b"),
        *("a(b=)", "a(=1)", "a(b=1, 2)", "a(b=1,,c=2)", "a(b='x)", "a(**x)=1", "a(b=c=d)", "a(b=c(d=)", "a(b=c d(e)f)"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(XgapError, match="is not written like name"):
        parse(text)


def test_an_option_that_is_given_twice_is_refused() -> None:
    with pytest.raises(XgapError, match="option 'b' is given twice in 'a"):
        parse("a(b=1, b=2)")


def test_a_name_alone_is_written_without_brackets() -> None:
    assert spelled("oti") == spelled("oti", (), {}) == "oti"
    assert spelled("a", ("b", 2), {"c": "x, y", "d": Call("e", (), {"f": 1})}) == "a(b, 2, c='x, y', d=e(f=1))"


@given(words)
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        call = parse(text)
    except XgapError:
        return
    assert parse(str(call)) == call
