"""Words of a caption that are hidden and read off the image: implicit relations (IRRA), and SyCoCa's caption half."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xgap_analysis.core.errors import XgapError
from xgap_analysis.scoring.learned.attention import widened
from xgap_analysis.scoring.tokens import TokenBlock
from xgap_analysis.training.objectives.batch import BatchFeatures
from xgap_analysis.training.objectives.matching import match
from xgap_analysis.training.objectives.relevant_patches import most_relevant, relevance
from xgap_analysis.training.objectives.term import Needs, Sizes, register_objective

HIDDEN, RANDOM = 0.8, 0.1  # of the chosen words: the mask in their place, another word; the rest stay
SPECIAL = 2  # ids at the end of the vocabulary: start and end


def mask_id(words: int) -> int:
    """The id that stands for a hidden word: the last of the vocabulary before start and end, as the authors take it."""
    return words - SPECIAL - 1


def hidden_words(
    ids: Int[Tensor, "n length"],
    is_word: Bool[Tensor, "n length"],
    words: int,
    generator: torch.Generator,
    share: float = 0.15,
) -> tuple[Int[Tensor, "n length"], Bool[Tensor, "n length"]]:
    """Captions in which some words are hidden, and which.

    Each word is chosen with a chance of `share`, and one of each caption at least. Of the chosen words 80 % are
    replaced by the mask, 10 % by any word of the vocabulary, and 10 % stay.

    Args:
        ids: token ids.
        is_word: which of them are words. A caption without words is left as it is.
        words: size of the vocabulary.
        generator: of the draws.
        share: of the words.

    Source: Jiang and Ye, Cross-modal implicit relation reasoning and aligning (IRRA), CVPR 2023.

    Example:
        >>> ids = torch.tensor([[90, 5, 6, 91, 0]])
        >>> _, chosen = hidden_words(ids, (ids > 0) & (ids < 90), 92, torch.Generator().manual_seed(0), share=1.0)
        >>> chosen.tolist()
        [[False, True, True, False, False]]
    """
    chance = torch.rand(ids.shape, generator=generator).to(ids.device).masked_fill(~is_word, 2.0)
    chosen = (chance < share) | (chance == chance.amin(dim=1, keepdim=True))
    chosen &= is_word
    kind = torch.rand(ids.shape, generator=generator).to(ids.device)
    drawn = torch.randint(1, mask_id(words), ids.shape, generator=generator).to(ids)
    masked = torch.where(kind < HIDDEN, mask_id(words), torch.where(kind < HIDDEN + RANDOM, drawn, ids))
    return torch.where(chosen, masked, ids), chosen


class WordReader(nn.Module):
    """Word tokens read the patches by one cross-attention, then each other; each becomes logits of the vocabulary.

    Args:
        sizes: d of the tokens, and the size of the vocabulary.
        blocks: of self-attention; the authors take 4.
        heads: of each attention; one for each 64 dimensions by default.
    """

    def __init__(self, sizes: Sizes, *, blocks: int = 4, heads: int | None = None) -> None:
        super().__init__()
        d = sizes.dim
        if blocks < 0:
            raise XgapError(f"blocks of masked words are 0 or more, not {blocks}")
        heads = heads or max(1, d // 64)
        if heads < 1 or d % heads:
            raise XgapError(f"heads must divide the {d} dimensions of the features, and {heads} does not")
        self.vocabulary = sizes.words
        self.of_words, self.of_patches, self.after = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        # No dropout: a term draws nothing that does not follow from the step.
        self.reading = nn.MultiheadAttention(d, heads, batch_first=True)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(d, heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(blocks)
        )
        self.head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d), nn.Linear(d, sizes.words))

    def forward(
        self, words: Float[Tensor, "n length d"], there: Bool[Tensor, "n length"], patches: TokenBlock
    ) -> Float[Tensor, "n length d"]:
        """What each place of a caption has read; places that are not there are read by none."""
        image = self.of_patches(widened(patches.vectors))
        made = self.reading(
            self.of_words(widened(words)), image, image, key_padding_mask=~patches.mask, need_weights=False
        )[0]
        for block in self.blocks:
            made = block(made, src_key_padding_mask=~there)
        out: Tensor = self.after(made)
        return out


def masked_words_loss(
    reader: WordReader,
    words: Float[Tensor, "n length d"],
    is_word: Bool[Tensor, "n length"],
    patches: TokenBlock,
    ids: Int[Tensor, "n length"],
    chosen: Bool[Tensor, "n length"],
) -> Float[Tensor, ""]:
    """The mean cross-entropy of the hidden words; log of the vocabulary where nothing is known of them.

    Args:
        reader: words and patches to logits.
        words: unit tokens of the captions with hidden words, all places.
        is_word: which places are words; the first place is read too.
        patches: of the images.
        ids: the captions as they were.
        chosen: which words are to be read. Where there are none, the loss is 0.
    """
    there = is_word.clone()
    there[:, 0] = True
    read = reader(words, there, patches)[chosen]
    logits = reader.head(read)
    return match(logits, ids[chosen]) if len(logits) else logits.sum()


def _reading(*, patches: float = 1.0, share: float = 0.15) -> Needs:
    for what, part in (("patches", patches), ("share", share)):
        if not 0 < part <= 1:
            raise XgapError(f"{what} of masked-words is a share, above 0 and at most 1, not {part}")
    return Needs(image_tokens=True, text_tokens=patches < 1, ids=True, towers=True)


@register_objective("masked-words", needs=_reading, parameters=WordReader)
def _masked_words(batch: BatchFeatures, own: WordReader, *, share: float = 0.15, patches: float = 1.0) -> Tensor:
    """Masked words of a caption, predicted from its image (IRRA) or the patches that it describes (SyCoCa).

    Example:
        >>> import xgap_analysis as xg
        >>> [xg.objective(name).needed.text_tokens for name in ("masked-words", "masked-words(patches=0.5)")]
        [False, True]
    """
    image, ids, is_word = batch.needed("image_tokens"), batch.needed("ids")[:, 0], batch.needed("is_word")[:, 0]
    if patches < 1:
        spoken = most_relevant(relevance(image, batch.needed("text_tokens")), image.mask, patches)
        image = TokenBlock(image.vectors, spoken)
    changed, chosen = hidden_words(ids, is_word, own.vocabulary, batch.generator("masked-words"), share)
    words = batch.needed("towers").text(changed)[1]
    return masked_words_loss(own, words, is_word, image, ids, chosen)
