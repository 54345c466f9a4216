"""Adapters with a head over tokens or a text tower of their own: formulas, known answers, numbers of parameters."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xgap_analysis as xg
from xgap_analysis.models.adaptation.attached import attached, saved_adapter
from xgap_analysis.models.adaptation.backbone import last_tokens
from xgap_analysis.models.adaptation.entered import backbone_of
from xgap_analysis.models.adaptation.grounded import Characters, GroundedText, VectorAttention
from xgap_analysis.models.adaptation.language import Language, LowRank, mean_of, together
from xgap_analysis.models.adaptation.lexical import elu1p, strongest, vocabulary_codes
from xgap_analysis.models.adaptation.sentences import SentenceAdapter

PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
DIMS = {"image": 16, "text": 16}
CAPTIONS = ["a red cat", "two dogs in the rain", "x"]


def counted(model: xg.Model, name: str) -> dict[str, int]:
    """Parameters by modality."""
    modules = attached(xg.adapter(name), DIMS, base=backbone_of(model, DIMS)).modules
    return {modality: sum(p.numel() for p in part.parameters()) for modality, part in modules.items()}


def drawn(modules: Any, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


# VDR and LexVLA


def test_codes_are_their_formula_and_neither_order_nor_padding_changes_them() -> None:
    generator = torch.Generator().manual_seed(1)
    tokens, words = torch.randn(3, 5, 4, generator=generator), torch.randn(9, 4, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    made = vocabulary_codes(tokens, mask, words)
    x, w = tokens.double().numpy(), words.double().numpy()
    for i, places in enumerate(([0, 1, 2, 3, 4], [0, 1], [0, 1, 2, 3, 4])):
        best = (x[i, places] @ w.T).max(0)
        code = np.where(best > 0, best + 1, np.exp(np.minimum(best, 0)))
        np.testing.assert_allclose(made[i].numpy(), code / np.linalg.norm(code), atol=1e-6)
    assert (made >= 0).all()
    order = torch.tensor([4, 2, 0, 1, 3])
    close(vocabulary_codes(tokens[:, order], mask[:, order], words), made, atol=1e-6)
    changed = tokens.clone()
    changed[1, 2:] = 100
    close(vocabulary_codes(changed, mask, words)[1], made[1], atol=1e-6)
    sparse = strongest(made, 4)
    assert ((sparse != 0).sum(1) == 4).all()
    assert torch.equal(strongest(made, 9), made)
    assert torch.equal(sparse[sparse != 0], made[sparse != 0])
    assert elu1p(torch.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx([np.exp(-1), 1, 3])


@pytest.mark.parametrize("name", ["vdr", "lexvla"])
def test_lexical_towers_are_codes_of_their_last_tokens(model: xg.Model, name: str) -> None:
    a = b = 32
    words = 200 - 3
    expected = {
        "vdr": {"image": 2 * b + words * b, "text": 2 * a},
        "lexvla": {"image": b * b + b + a * b + a + words * a + 2 * a, "text": 2 * a},
    }
    assert counted(model, name) == expected[name]
    adapted = xg.adapted(model, name, seed=1)
    assert "can be inverted into" in xg.check_tower(adapted.text)
    module, ids = model.text.module, model.text.prepare(CAPTIONS)
    x = module.token_embedding(ids) + module.positional_embedding
    for block in module.transformer.resblocks:
        x = block(x, attn_mask=module.attn_mask)
    close(last_tokens(module, "text", ids), x)
    table = module.token_embedding.weight[[i for i in range(200) if i not in (0, 1, 199)]]
    is_word = (ids != 0) & (ids != 1) & (ids != 199)
    normed = F.layer_norm(x, (32,))
    close(adapted.text.encode(ids), vocabulary_codes(normed, is_word, table))
    features = adapted.image.encode(PIXELS)
    assert features.shape == (3, words)
    assert ((xg.adapted(model, f"{name}(top=7)").image.encode(PIXELS) > 0).sum(1) <= 7).all()
    if name == "vdr":  # ones times a normed token are nothing: all images start alike
        close(features, torch.full_like(features, words**-0.5))
        return
    patches = last_tokens(module, "image", PIXELS)
    head = adapted.image._own.modules["image"]
    close(features, vocabulary_codes(head.maps(patches), torch.ones(3, 16, dtype=torch.bool), table))
    assert "can be inverted into" in xg.check_tower(adapted.image)
    with pytest.raises(xg.XgapError, match="ends in the head of an adapter"):
        _ = adapted.text.projection
    with pytest.raises(xg.XgapError, match="gives one vector per item"):
        adapted.image.hidden(PIXELS)


# Merkx and Frank


def test_attention_has_a_weight_for_each_dimension_and_is_the_identity_for_one_time() -> None:
    attention = VectorAttention(6, 4)
    assert sum(p.numel() for p in attention.parameters()) == 2 * 6 * 4 + 4 + 6
    drawn(attention)
    states = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    w = {name: p.detach().double().numpy() for name, p in attention.named_parameters()}
    for i, n in enumerate((5, 3)):
        h = states[i, :n].double().numpy()
        scores = np.tanh(h @ w["hidden.weight"].T + w["hidden.bias"]) @ w["out.weight"].T + w["out.bias"]
        weights = np.exp(scores) / np.exp(scores).sum(0)
        np.testing.assert_allclose(attention(states, mask)[i].detach().numpy(), (weights * h).sum(0), atol=1e-5)
    close(attention(states[:, :1], mask[:, :1]), states[:, 0], atol=1e-6)


def test_a_grounded_text_is_the_same_whatever_stands_beside_it(model: xg.Model) -> None:
    units, heads = 6, 2
    rnn = 2 * 3 * (20 * units + units * units + 2 * units)
    attention = 2 * (2 * units) * 128 + 128 + 2 * units
    dim = 2 * units * heads
    assert counted(model, "grounded(units=6)") == {"image": 16 * dim + dim, "text": 100 * 20 + rnn + heads * attention}
    adapted = xg.adapted(model, "grounded(units=6, length=30)")
    ids = adapted.text.prepare([*CAPTIONS, ""])
    assert ids.shape == (4, 30)
    together_, alone = adapted.text.encode(ids), torch.cat([adapted.text.encode(row[None]) for row in ids])
    close(together_, alone)
    part = adapted.text._own.modules["text"]
    longer = GroundedText(units, heads, 60)
    longer.load_state_dict(part.state_dict())
    close(longer(Characters(60)([*CAPTIONS, ""])), together_)
    assert together_.norm(dim=1) == pytest.approx(1, abs=1e-5)
    one = longer(Characters(60)(["x"]))
    states, _ = longer.rnn(longer.embed(Characters(1)(["x"])))
    close(one, F.normalize(torch.cat([states[:, 0]] * 2, 1), dim=1))
    with pytest.raises(
        xg.XgapError, match="has no width, length, embed, encode_tokens, so nothing can be inverted into"
    ):
        adapted.invertible("text")


# Image and text matching


def test_matching_is_two_networks_over_features_and_bags(model: xg.Model) -> None:
    assert counted(model, "matching(dim=8, hidden=None)") == {"image": 16 * 8 + 8, "text": 200 * 8 + 8}
    assert counted(model, "matching(dim=8, hidden=5)")["text"] == 200 * 5 + 5 + 5 * 8 + 8
    adapted = xg.adapted(model, "matching(dim=8, hidden=None)")
    w = adapted.text._own.modules
    close(adapted.image.encode(PIXELS), w["image"].head(model.image.encode(PIXELS)))
    ids = model.text.prepare(["red red cat", "cat red red"])
    bag = np.zeros((2, 200))
    for row, own in zip(bag, ids.tolist(), strict=True):
        for i in own:
            row[i] += i not in (0, 1, 199)
    assert bag.sum() == 6
    assert bag.max() == 2
    expected = (
        bag @ w["text"].network[0].weight.detach().double().numpy().T + w["text"].network[0].bias.detach().numpy()
    )
    np.testing.assert_allclose(adapted.text.encode(ids).detach().numpy(), expected, atol=1e-5)


# LLM2CLIP


def test_the_sentence_adapter_is_its_formula_with_the_published_number_of_parameters() -> None:
    def size(d: int, e: int) -> int:
        return 4 * (4 * d * d + 5 * d) + 2 * d + d * e + e

    assert size(4096, 1280) == 273_769_728
    adapter = SentenceAdapter(8, 4)
    assert sum(p.numel() for p in adapter.parameters()) == size(8, 4) == 1236
    drawn(adapter)
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    close(adapter(7 * vectors), adapter(vectors), atol=1e-5)
    w = {name: p.detach().double() for name, p in adapter.named_parameters()}
    x = F.normalize(vectors.double(), dim=1)
    for i in range(4):
        h = F.layer_norm(x, (8,), w[f"{i}.ln.weight"], w[f"{i}.ln.bias"])
        h = F.gelu(h @ w[f"{i}.fn.0.weight"].T + w[f"{i}.fn.0.bias"])
        x = x + h @ w[f"{i}.fn.3.weight"].T + w[f"{i}.fn.3.bias"]
    x = F.layer_norm(x, (8,), w["4.weight"], w["4.bias"]) @ w["5.weight"].T + w["5.bias"]
    close(adapter(vectors).double(), x)
    with torch.no_grad():
        for block in list(adapter)[:4]:
            block.fn[3].weight.zero_()
            block.fn[3].bias.zero_()
    close(adapter(vectors), adapter[5](adapter[4](F.normalize(vectors, dim=1))), atol=1e-6)


def test_llm2clip_is_the_mean_state_through_its_adapter(model: xg.Model, language: Path) -> None:
    from transformers import GPT2Model

    name = f"llm2clip(language={language})"
    assert counted(model, name) == {"text": 4 * (4 * 64 + 40) + 16 + 8 * 16 + 16}
    adapted = xg.adapted(model, name)
    assert adapted.image is model.image
    ids = adapted.text.prepare(CAPTIONS)
    plain, own = GPT2Model.from_pretrained(language).eval(), adapted.text._own.modules["text"].adaptor
    for row, feature in zip(ids, adapted.text.encode(ids), strict=True):
        states = plain(row[row >= 0][None]).last_hidden_state[0]
        close(own(states.mean(0, keepdim=True))[0], feature, atol=1e-4)
    assert adapted.text.encode(adapted.text.prepare([""])).isfinite().all()


# RS-CapRet


def test_a_retrieval_token_is_read_behind_each_caption(model: xg.Model, language: Path) -> None:
    from transformers import GPT2Model

    name = f"rs-capret(language={language}, dim=12)"
    assert counted(model, name) == {"image": 16 * 12 + 12, "text": 8 + 8 * 12 + 12}
    adapted = xg.adapted(model, name)
    part, ids = adapted.text._own.modules["text"], adapted.text.prepare(CAPTIONS)
    plain = GPT2Model.from_pretrained(language).eval()
    for row, feature in zip(ids, adapted.text.encode(ids), strict=True):
        inputs = torch.cat([plain.wte(row[row >= 0]), part.token])[None]
        close(part.text_hidden_fcs(plain(inputs_embeds=inputs).last_hidden_state[:, -1])[0], feature, atol=1e-4)
    close(adapted.image.encode(PIXELS), adapted.image._own.modules["image"].head(model.image.encode(PIXELS)))


# VladVA and MM-Embed


def test_low_rank_changes_start_at_zero_and_are_matrices_of_that_rank(language: Path) -> None:
    made = Language(str(language), 20)
    inputs, mask = made.embedded(made.ids(CAPTIONS)), made.ids(CAPTIONS) >= 0
    tuned = LowRank(made, 3)
    assert sum(p.numel() for p in tuned.parameters()) == 2 * 3 * (8 + 24)  # of two blocks
    close(tuned.states(made, inputs, mask)[mask], made.states(inputs, mask)[mask], atol=1e-6)
    drawn(tuned)
    changed = tuned.states(made, inputs, mask)
    assert (changed - made.states(inputs, mask))[mask].abs().max() > 1e-2
    again = Language(str(language), 20)
    with torch.no_grad():
        for i, block in enumerate(again.model.h):  # the change put into the weights themselves
            block.attn.c_attn.weight += (tuned.up[f"h-{i}-attn-c_attn"] @ tuned.down[f"h-{i}-attn-c_attn"]).T
    close(changed[mask], again.states(inputs, mask)[mask], atol=1e-4)
    with pytest.raises(xg.XgapError, match="the rank of LoRA is 0"):
        LowRank(made, -1)


def test_changes_of_two_threads_are_not_made_on_top_of_each_other(language: Path) -> None:
    made = Language(str(language), 20)
    inputs, mask = made.embedded(made.ids(CAPTIONS)), made.ids(CAPTIONS) >= 0
    tuned = LowRank(made, 3)
    drawn(tuned)
    expected, others = tuned.states(made, inputs, mask), []
    thread = threading.Thread(target=lambda: others.append(tuned.states(made, inputs, mask)))
    real = made.states

    def slow(*args: Tensor) -> Tensor:
        made.states = real  # type: ignore[method-assign]
        thread.start()
        thread.join(0.3)  # the other one comes while this one's change is there
        return real(*args)

    made.states = slow  # type: ignore[method-assign]
    others.append(tuned.states(made, inputs, mask))
    thread.join()
    assert len(others) == 2
    for other in others:
        close(other, expected)


def test_a_model_that_reads_fewer_tokens_is_another(model: xg.Model, language: Path) -> None:
    models = [xg.adapted(model, f"llm2clip(language={language}, length={length})") for length in (30, 31)]
    assert models[0].architecture != models[1].architecture


def test_a_language_model_with_too_few_positions_is_one_sentence(model: xg.Model, language: Path) -> None:
    with pytest.raises(xg.XgapError, match="does not fit the image tower of this model, whose pass fails with it"):
        xg.adapted(model, f"mm-embed(language={language}, instruction={'a' * 99}, length=3)")


def test_vladva_starts_as_the_language_model_behind_the_phrase(model: xg.Model, language: Path) -> None:
    from transformers import GPT2Model

    prompt = " In one word:"
    name = f"vladva(language={language}, prompt={prompt!r}, rank=2, length=30)"
    lora, own = 2 * 2 * (8 + 24), 13 * 8
    assert counted(model, name) == {"image": lora + own + 32 * 8 + 8, "text": lora + own}
    adapted = xg.adapted(model, name)
    plain, ids = GPT2Model.from_pretrained(language).eval(), adapted.text.prepare(CAPTIONS)
    phrase = adapted.text._own.modules["text"]._language.ids([prompt])[0]
    for row, feature in zip(ids, adapted.text.encode(ids), strict=True):
        states = plain(torch.cat([row[row >= 0], phrase[phrase >= 0]])[None]).last_hidden_state
        close(states[0, -1], feature, atol=1e-4)
    image = adapted.image._own.modules["image"]
    inputs = torch.cat(
        [image.connect(last_tokens(model.image.module, "image", PIXELS)), image.prompt.expand(3, -1, -1)], 1
    )
    close(adapted.image.encode(PIXELS), plain(inputs_embeds=inputs).last_hidden_state[:, -1], atol=1e-4)
    assert image.tuned is adapted.text._own.modules["text"].tuned  # one network
    assert "can be inverted into" in xg.check_tower(adapted.image)


def test_next_words_are_those_of_the_language_model_behind_the_patches(model: xg.Model, language: Path) -> None:
    from transformers import GPT2LMHeadModel

    adapted = xg.adapted(model, f"vladva(language={language}, rank=2, length=30)", seed=2)
    part, module = adapted.image._own.modules["image"], model.image.module
    ids = adapted.text.prepare(CAPTIONS)
    plain = GPT2LMHeadModel.from_pretrained(language).eval()  # its head is the token table
    with torch.no_grad():
        made = part.next_words(module, PIXELS, ids)
        patches = part.connect(last_tokens(module, "image", PIXELS).float())
        costs = []
        for own, row in zip(patches, ids, strict=True):  # one by one, without padding
            row = row[row >= 0]
            words = plain.transformer.wte(row)
            logits = plain(inputs_embeds=torch.cat([own, words])[None]).logits[0].double().numpy()
            for place, word in enumerate(row.tolist(), start=len(own) - 1):
                costs.append(np.log(np.exp(logits[place]).sum()) - logits[place, word])
    assert len(costs) == sum(len(caption) for caption in CAPTIONS)  # its tokens are letters
    assert float(made) == pytest.approx(np.mean(costs), rel=1e-4)
    part._language.model.config.tie_word_embeddings = False
    with pytest.raises(xg.XgapError, match="language head that is the token table"):
        part.next_words(module, PIXELS, ids)


def test_the_mean_of_mm_embed_does_not_count_its_instruction(model: xg.Model, language: Path) -> None:
    states, mask = torch.randn(2, 5, 3), torch.tensor([[1, 1, 0, 1, 1], [0, 1, 0, 0, 0]]).bool()
    changed = states.clone()
    changed[~mask] = 7
    assert torch.equal(mean_of(states, mask), mean_of(changed, mask))
    adapted = xg.adapted(model, f"mm-embed(language={language}, instruction=Find it., rank=0, length=30)")
    part, ids = adapted.text._own.modules["text"], adapted.text.prepare(CAPTIONS)
    assert len(part.before) == len("Instruct: Find it.\nQuery: ")
    made = part._language
    for row, feature in zip(ids, adapted.text.encode(ids), strict=True):
        inputs = torch.cat([part.before, made.embedded(row[row >= 0][None])[0]])[None]
        expected = made.model(inputs_embeds=inputs).last_hidden_state[0, len(part.before) :].mean(0)
        close(expected, feature, atol=1e-4)
    bare = xg.adapted(model, f"mm-embed(language={language}, instruction='', rank=0, length=30)")
    assert len(bare.text._own.modules["text"].before) == 0


def test_sequences_go_together_without_gaps() -> None:
    first = torch.tensor([[[1.0], [0.0], [2.0]], [[3.0], [4.0], [5.0]]]), torch.tensor([[1, 0, 1], [1, 1, 1]]).bool()
    second = torch.tensor([[[6.0]], [[7.0]]]), torch.ones(2, 1, dtype=torch.bool)
    vectors, mask = together(first, second)
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    assert vectors[..., 0].tolist() == [[1, 2, 6, 0], [3, 4, 5, 7]]


def test_the_language_model_of_the_folder_is_the_one_it_was_trained_with(
    model: xg.Model, make_language: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_language(tmp_path / "language")
    base = backbone_of(model, DIMS)
    own = attached(xg.adapter(f"llm2clip(language={folder})"), DIMS, base=base)
    own.save(tmp_path)
    again = saved_adapter(tmp_path, DIMS, base=base)
    assert again is not None
    assert again.modules.state_dict().keys() == own.modules.state_dict().keys()
    assert not any("wte" in name for name in own.modules.state_dict())  # it is no part of what is saved
    make_language(folder, seed=1)
    with pytest.raises(xg.XgapError, match="was trained on another language model"):
        saved_adapter(tmp_path, DIMS, base=base)


def test_a_saved_adapter_finds_its_language_model_beside_it_where_it_is_no_longer_as_named(
    model: xg.Model, make_language: Callable[..., Path], tmp_path: Path
) -> None:
    folder, saved, base = make_language(tmp_path / "there" / "letters"), tmp_path / "saved", backbone_of(model, DIMS)
    saved.mkdir()
    own = attached(xg.adapter(f"llm2clip(language={folder})"), DIMS, base=base, seed=4)
    own.save(saved)
    folder.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(xg.XgapError, match=r"reads a language model that was in .*copy its folder") as caught:
        saved_adapter(saved, DIMS, base=base)
    assert str(saved / "letters") in str(caught.value)
    assert "\n" not in str(caught.value)
    make_language(saved / "letters", seed=1)
    with pytest.raises(xg.XgapError, match="was trained on another language model"):
        saved_adapter(saved, DIMS, base=base)
    shutil.rmtree(saved / "letters")
    shutil.copytree(tmp_path / "elsewhere" / "letters", saved / "letters")
    again = saved_adapter(saved, DIMS, base=base)
    assert again is not None
    assert again.adapter.options["language"] == str(saved / "letters")
    for name, tensor in own.modules.state_dict().items():
        assert torch.equal(again.modules.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vdr(top=0)", "an item keeps 1 word or more"),
        ("grounded(heads=0)", "units, heads and length of grounded are 1 or more"),
        ("matching(dim=0)", "dim and hidden of matching are 1 or more"),
        ("llm2clip", "holds no language model: config.json, weights and tokenizer"),
        ("vladva(language=/nowhere)", "'/nowhere' holds no language model"),
    ],
)
def test_mistakes_are_one_sentence(model: xg.Model, name: str, message: str) -> None:
    with pytest.raises(xg.XgapError, match=message) as caught:
        xg.adapted(model, name)
    assert "\n" not in str(caught.value)
