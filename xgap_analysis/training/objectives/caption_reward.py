"""Captions chosen for an image, rewarded by a model's own score and by a grammar head (CLIP reward)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.metrics.clip_score import harmonic, rectified
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.corruption import corrupted
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective


class GrammarHead(nn.Module):
    """Two linear maps without bias, with a rectifier between them: features of texts to the logits of "spoilt", "real".

    Args:
        sizes: d of the features.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(sizes.dim, sizes.dim, bias=False), nn.ReLU(), nn.Linear(sizes.dim, 2, bias=False)
        )

    def forward(self, texts: Float[Tensor, "*n d"]) -> Float[Tensor, "*n 2"]:
        """Logits; the second is that of a real caption."""
        logits: Tensor = self.layers(texts)
        return logits

    def chance(self, texts: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """The probability that a caption is real."""
        return self(texts).softmax(dim=-1)[..., 1]


def grammar_loss(head: nn.Module, real: Float[Tensor, "n d"], spoilt: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """The mean cross-entropy of a head that separates real captions from spoilt ones; log 2 where it cannot.

    Args:
        head: features to two logits, spoilt and real.
        real, spoilt: features of captions.

    Source: Cho et al., Fine-grained image captioning with CLIP reward, Findings of NAACL 2022.
    """
    target = torch.tensor([1] * len(real) + [0] * len(spoilt), device=real.device)
    return match(head(torch.cat([real, spoilt])), target)


def policy_loss(
    logits: Float[Tensor, "n m"], rewards: Float[Tensor, "n m"], drawn: Int[Tensor, "n s"]
) -> Float[Tensor, ""]:
    """A step of policy gradient on the choice of one of m captions for each image.

    Formula: `-mean of (R - R_0) log p` over images and draws, p the softmax of the logits at the drawn caption, R its
    reward and R_0 that of the most likely caption. It is 0 where the drawn caption is the most likely one; its gradient
    makes a caption more likely that is rewarded more than that one. Rewards have no gradient.

    Args:
        logits: of the choice.
        rewards: of each caption for each image.
        drawn: captions drawn from p, s for each image.

    Source: Cho et al., CLIP reward, 2022; the greedy choice as baseline, Rennie et al., Self-critical
    sequence training, CVPR 2017.

    Example:
        >>> logits, rewards = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.2, 0.7]])
        >>> [round(abs(policy_loss(logits, rewards, torch.tensor([[n]])).item()), 3) for n in (0, 1)]
        [0.0, 0.657]
    """
    rewards = rewards.detach()
    greedy = rewards.gather(1, logits.argmax(dim=1, keepdim=True))
    logs = logits.log_softmax(dim=1).gather(1, drawn)
    return -((rewards.gather(1, drawn) - greedy) * logs).mean()


def caption_scores(
    images: Float[Tensor, "n d"], captions: Float[Tensor, "n k d"], others: Float[Tensor, "j d"], references: bool
) -> Float[Tensor, "n m"]:
    """CLIP-S of each image with all m = n k + j captions of a batch, or RefCLIP-S against the image's own captions.

    A caption is no reference of itself; an image whose only caption is chosen has a RefCLIP-S of 0.

    Args:
        images: unit rows.
        captions: unit rows, k of each image.
        others: unit rows of further captions.
        references: RefCLIP-S in place of CLIP-S.
    """
    n, k, _ = captions.shape
    own = captions.flatten(0, 1)
    every = torch.cat([own, others])
    scores = rectified(images @ every.T)
    if not references:
        return scores
    nearest = rectified(every @ own.T).fill_diagonal_(0).unflatten(1, (n, k)).amax(dim=2)  # [m, n]
    return harmonic(scores, nearest.T)


def _rewarded(*, k: int = 1, samples: int = 5) -> Needs:
    if samples < 1:
        raise XgapError(f"samples of caption-reward are 1 or more, not {samples}")
    return Needs(captions=k, scaled=True, teacher=True, ids=True, towers=True)


@register_objective("grammar", needs=Needs(images=0, ids=True, towers=True), parameters=GrammarHead)
def _grammar(batch: BatchFeatures, own: GrammarHead) -> Tensor:
    """Classification of captions as real or corrupted: words repeated, removed, inserted or shuffled (CLIP reward).

    Example:
        >>> import xgap_analysis as xg
        >>> needs = xg.objective("grammar").needed
        >>> needs.images, needs.captions, needs.towers  # captions only; it encodes corrupted ones itself
        (0, 1, True)
    """
    return grammar_loss(own, batch.texts[:, 0], batch.needed("towers").text(_wrong(batch))[0])


@register_objective("caption-reward", needs=_rewarded, parameters=GrammarHead)
def _caption_reward(
    batch: BatchFeatures,
    own: GrammarHead,
    *,
    samples: int = 5,
    weight: float = 2.0,
    references: bool = False,
) -> Tensor:
    """Policy gradient of choosing a caption, rewarded by CLIP-S and a grammar head (CLIP reward).

    Example:
        >>> import xgap_analysis as xg
        >>> needs = xg.objective("caption-reward(samples=2)").needed
        >>> needs.teacher, needs.towers  # the rewards are those of the model before training
        (True, True)
    """
    teacher, wrong = batch.needed("teacher"), _wrong(batch)
    spoilt = batch.needed("towers").text(wrong)[0]
    every = torch.cat([batch.texts.flatten(0, 1), spoilt])
    logits = batch.scale * batch.images[0] @ every.T
    with torch.no_grad():
        others = teacher.needed("towers").text(wrong)[0]
        rewards = weight * caption_scores(teacher.images[0], teacher.texts, others, references) + own.chance(every)
    chances = logits.detach().softmax(dim=1).cpu()
    drawn = torch.multinomial(chances, samples, replacement=True, generator=batch.generator("caption-reward"))
    return policy_loss(logits, rewards, drawn.to(logits.device)) + grammar_loss(own, batch.texts[:, 0], spoilt)


def _wrong(batch: BatchFeatures) -> Tensor:
    """The first caption of each item, spoilt."""
    return corrupted(batch.needed("ids")[:, 0], batch.needed("is_word")[:, 0], batch.generator("grammar"))
