"""One model serves several threads: an inversion on one does not change what another encodes."""

import threading
from collections.abc import Callable

import pytest
import torch

from xgap_analysis.core.features import Features
from xgap_analysis.datasets.items import Texts
from xgap_analysis.models import Model
from xgap_analysis.views.encode import encode
from xgap_analysis.views.inversion.invert import invert

TRIES = 200


@pytest.mark.parametrize("kind_", ["native", "siglip"])
@pytest.mark.parametrize("project", [True, False])
def test_encodings_beside_an_inversion_are_right_and_raise_nothing(
    kind_: str, project: bool, make_model: Callable[..., Model]
) -> None:
    if (kind_, project) == ("siglip", False):
        pytest.skip("its text projection has a bias")
    model = make_model(kind_, shortcuts=False)  # every step puts a hook on the token table
    texts = Texts([str(i) for i in range(5)], ["a cat", "two dogs", "the sea", "a b c d", ""])
    expected = encode(model, texts, project=project, store=None, progress=False).vectors
    dim = model.image.encode(torch.zeros(1, 3, 32, 32)).shape[1]
    given = Features(torch.randn(4, dim, generator=torch.Generator().manual_seed(0)), list("abcd"), "image", "image")
    right = invert(model, given, steps=20, store=None, progress=False).features.vectors
    over, inverted, raised = threading.Event(), [], []

    def work() -> None:
        while not over.is_set():
            try:
                inverted.append(invert(model, given, steps=20, store=None, progress=False).features.vectors)
            except Exception as error:
                raised.append(error)
                return

    beside = threading.Thread(target=work)
    beside.start()
    wrong = 0
    try:
        for _ in range(TRIES):
            found = encode(model, texts, project=project, progress=False, store=None).vectors
            wrong += not torch.allclose(found, expected, atol=1e-5)
    finally:
        over.set()
        beside.join()
    assert (wrong, raised) == (0, [])
    assert inverted
    assert all((x * right).sum(dim=1).min() > 0.9999 for x in inverted)
