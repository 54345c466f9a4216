"""Sections of documents: each as an item of its own, and ranked in two stages, the document before the section."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xgap_analysis.core.errors import XgapError
from xgap_analysis.core.features import Features, FeaturesLike, as_features
from xgap_analysis.core.mixed import MADE_FROM
from xgap_analysis.core.precision import exact
from xgap_analysis.core.tokens import NO_DIRECTION, TokenFeatures
from xgap_analysis.scoring.blocks import ScoreNormaliser, descending, first_of


def each_section(documents: TokenFeatures) -> tuple[Features, dict[str, str]]:
    """The sections of all documents as items with ids `<document>/section-<number from 0>`, and whose they are.

    Args:
        documents: a vector for each section, from the view `sections`.

    Returns:
        Features `[N, d]`, N the number of sections, and section id to document id.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> documents = xg.TokenFeatures(torch.eye(3), [0, 1, 3], ["memo", "report"], "image", "document")
        >>> sections, document_of = each_section(documents)
        >>> sections.ids
        ('memo/section-0', 'report/section-0', 'report/section-1')
        >>> document_of["report/section-1"]
        'report'
    """
    own = [(item, k) for item, n in zip(documents.ids, documents.lengths.tolist(), strict=True) for k in range(n)]
    ids = [f"{item}/section-{k}" for item, k in own]
    # Shares are known by the ids of documents, and say nothing of one section.
    about = {key: value for key, value in documents.provenance.items() if key != MADE_FROM}
    made = Features(documents.vectors, ids, documents.space, "section", about, documents.items)
    return made, {section: item for section, (item, _) in zip(ids, own, strict=True)}


def two_stage(
    sections: FeaturesLike, documents: Mapping[str, str] | Sequence[str], *, depth: int = 10
) -> ScoreNormaliser:
    """Sections ranked in two stages: those of the first `depth` documents by their cosine, before all others.

    Formula: a document scores `mean over its sections of cos(q, s) / ||mean over its sections of s||`, the cosine with
    its merged vector (see the view `document`). The sections of the `depth` best keep their cosines; the others keep
    the order of theirs, behind.

    How to read it: `retrieval(query, sections, relevance, normalise=two_stage(sections, documents))` beside the same
    without it: what is lost is lost by merging. With one section a document, or with all documents among the first,
    there is no difference. To rank documents, not sections, give the view `sections` to the scorer
    `rerank(first=pooled(weights=uniform), second=late_interaction, depth=10)`.

    Args:
        sections: `[N, d]`, the gallery.
        documents: section id to its document, or one name per section, in their order.
        depth: documents of the second stage; of equal ones, those that come first.

    Returns:
        What `retrieval` and other metrics take as `normalise`; the scorer must be the cosine.

    Raises:
        XgapError: a depth below 1, a section without a document, a document whose sections cancel out; or, when it is
            called, sections that are left out of a ranking (a query among them, junk), for which no document is whole.

    Source: IDentIfy (Lee et al., Unified multi-modal interleaved document representation for information retrieval,
    2024), whose reranker is a model of its own; here the cosine stands in its place.

    Example:
        >>> import torch
        >>> import xgap_analysis as xg
        >>> sections = xg.Features(torch.tensor([[1.0, 0], [0, 1], [0.8, 0.6]]), ["a0", "a1", "b0"], "text", "section")
        >>> query = xg.Features(torch.tensor([[1.0, 0.0]]), ["q"], "text", "text")
        >>> relevant = {"q": {"a0": 1}}
        >>> ranked = two_stage(sections, ["a", "a", "b"], depth=1)  # b is the nearer document: .8 against .71
        >>> [xg.retrieval(query, sections, relevant, normalise=by)["ap"].item() for by in (None, ranked)]
        [1.0, 0.5]
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise XgapError(f"depth of two_stage is a whole number of documents of 1 or more, not {depth!r}")
    sections = as_features(sections)
    of = _documents(sections.ids, documents)
    names = {name: row for row, name in enumerate(dict.fromkeys(of))}
    place = torch.tensor([names[name] for name in of])
    count = exact(torch.bincount(place))
    vectors = exact(sections.vectors).cpu()
    mean = torch.zeros(len(names), sections.dim, dtype=vectors.dtype).index_add_(0, place, vectors) / count[:, None]
    length = mean.norm(dim=1)
    lost = next((name for name, row in names.items() if length[row] < NO_DIRECTION), None)
    if lost is not None:
        raise XgapError(f"the sections of document {lost!r} cancel out, so that their mean has no direction")

    def ranked(scores: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        if not bool(torch.isfinite(scores).all()):
            raise XgapError("two_stage ranks whole documents, and sections are left out here (junk, or a query's own)")
        given = exact(scores)
        to = place.to(given.device)
        total = torch.zeros(len(given), len(names), dtype=given.dtype, device=given.device).index_add_(1, to, given)
        best = first_of((total / (count * length).to(given.device)).float(), depth)
        chosen = torch.zeros_like(total, dtype=torch.bool).scatter_(1, best, True)[:, to]
        rank = torch.empty_like(to).expand(len(given), -1).scatter(1, descending(given.float()), _steps(given))
        return torch.where(chosen, given, -2.0 - rank).float().to(scores.device)  # cosines are -1 or more

    return ranked


def _steps(scores: Tensor) -> Tensor:
    """0, 1, 2, ... in each row."""
    return torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)


def _documents(ids: Sequence[str], documents: Mapping[str, str] | Sequence[str]) -> list[str]:
    if isinstance(documents, Mapping):
        missing = [i for i in ids if i not in documents]
        if missing:
            raise XgapError(f"{len(missing)} sections have no document, the first is {missing[0]!r}")
        return [documents[i] for i in ids]
    if isinstance(documents, str) or len(documents) != len(ids):
        raise XgapError(f"two_stage needs the document of each of the {len(ids)} sections, not {len(documents)}")
    return list(documents)
