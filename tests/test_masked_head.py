"""Gaps: what is hidden and when, the head against transformers' to 1e-5, checkpoints, ranks."""

from functools import wraps

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_checkpoints import change_facts, change_weights
from torch.nn import functional as F
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, RobertaConfig

from helpers import data, training
from helpers.evaluation.retrieval import target_ranks
from helpers.models import masked_head
from helpers.models.masked_head import MaskedLM
from helpers.text import IGNORED, tokenize
from helpers.text.masking import MaskedTexts, exclude_texts, masked_contexts, pack_sentences
from helpers.training import transfer

CLOSE = {"atol": 1e-5, "rtol": 0}
WORDS = ["the", "a", "film", "was", "is", "dull", "fine", "and", "plot", "cast", "end", "of"]
WORDS += ["it", "not", "so", "very", "good", "bad", "but", "then"]
PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##s", ".", *WORDS]
MARKS = {PIECES.index(mark) for mark in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
SHAPE = {"vocab_size": len(PIECES), "hidden_size": 16, "num_hidden_layers": 2,
         "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 40,
         "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip


def write_model(folder, kind, seed=0, **shape):
    """A small BERT with large random weights, and its tokenizer."""
    torch.manual_seed(seed)
    model = kind(BertConfig(**SHAPE | shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a model with a head."""
    return write_model(tmp_path_factory.mktemp("whole"), BertForMaskedLM)


@pytest.fixture(scope="module")
def headless(tmp_path_factory):
    """The folder of an encoder without one."""
    return write_model(tmp_path_factory.mktemp("headless"), BertModel)


@pytest.fixture(scope="module")
def tokenizer(whole):
    return AutoTokenizer.from_pretrained(whole)


def some_texts(n=12, seed=0):
    """Texts of 3 to 12 pieces between their marks, as int arrays."""
    rng = np.random.default_rng(seed)
    first, last, least = PIECES.index("[CLS]"), PIECES.index("[SEP]"), PIECES.index("##s")
    drawn = [rng.integers(least, len(PIECES), rng.integers(3, 13)) for _ in range(n)]
    return [np.array([first, *ids, last]) for ids in drawn]


def one_batch(texts):
    return texts.collate([texts[i] for i in range(len(texts))])


# --- texts with gaps ------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.lists(st.sampled_from(WORDS), max_size=9), max_size=5), max_size=4),
    st.integers(3, 12),
)
def test_packing_loses_nothing_mixes_no_documents_and_keeps_to_the_length(
    tokenizer, documents, length
):
    sentences = [[" ".join(words) for words in document] for document in documents]
    packed = [tokenizer.decode(ids).split() for ids in pack_sentences(sentences, tokenizer, length)]
    assert all(3 <= len(text) <= length for text in packed)
    assert all(text[0] == "[CLS]" and text[-1] == "[SEP]" for text in packed)
    inside = [word for text in packed for word in text[1:-1]]
    assert inside == [w for document in documents for words in document for w in words]
    alone = [pack_sentences([document], tokenizer, length) for document in sentences]
    assert len(packed) == sum(map(len, alone))


def test_short_sentences_share_a_text_and_are_not_torn(tokenizer):
    packed = pack_sentences([["the film was dull", "it was so", "a very bad end"]], tokenizer, 9)
    said = [tokenizer.decode(ids[1:-1]) for ids in packed]
    assert said == ["the film was dull it was so", "a very bad end"]
    with pytest.raises(ValueError, match="2 tokens are too few"):
        pack_sentences([["the"]], tokenizer, 2)


def test_held_out_texts_are_found_however_their_marks_and_blanks_are_set():
    documents = ["it cost 3 bn , they said", "it cost 4 bn , they said", "IT COST £3BN"]
    assert exclude_texts(documents, ["It cost 3bn, they said.", "unread"]) == documents[1:]
    assert exclude_texts(documents, []) == documents


def test_no_article_of_the_news_is_left_in_the_corpus():
    news = data.load("bbc_news", quiet=True).values()
    articles = [text for part in news for text in part["text"]]
    lines = data.corpus(fraction=0.03).read_text("utf-8").splitlines()
    kept = exclude_texts(lines, articles)
    told = {" ".join(tokenize(article)) for article in articles}
    assert len(told & set(lines)) >= 20
    assert not told & set(kept)
    assert len(kept) >= 0.9 * len(lines)


def test_each_epoch_hides_others_and_marks_are_never_hidden(tokenizer):
    texts = MaskedTexts(some_texts(), tokenizer, share=0.4)
    seen = []
    for epoch in (0, 1, 0):
        texts.begin(None, epoch)
        items = [texts[i] for i in range(len(texts))]
        seen.append(np.concatenate([item["labels"] for item in items]))
        for ids, item in zip(texts.ids, items, strict=True):
            hidden = item["labels"] != IGNORED
            assert not set(ids[hidden]) & MARKS
            assert np.array_equal(item["labels"][hidden], ids[hidden])
            assert np.array_equal(item["input_ids"][~hidden], ids[~hidden])
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


def test_random_pieces_are_words_and_always_means_always(tokenizer):
    drawn = MaskedTexts(some_texts(400), tokenizer, share=0.9)
    batch = one_batch(drawn)
    asked = batch["labels"] != IGNORED
    swapped = asked & (batch["input_ids"] != batch["labels"])
    found = set(batch["input_ids"][swapped].tolist()) - {tokenizer.mask_token_id}
    assert found
    assert not found & (MARKS | {PIECES.index("[unused0]")})
    batch = one_batch(MaskedTexts(some_texts(), tokenizer, always=True))
    assert (batch["input_ids"][batch["labels"] != IGNORED] == tokenizer.mask_token_id).all()


def test_gaps_have_the_neighbours_that_can_be_seen(tokenizer):
    ids, mask = np.array([3, 8, 9, 10, 4]), tokenizer.mask_token_id
    texts = MaskedTexts([ids], tokenizer, share=1.0, always=True)
    assert masked_contexts(texts).tolist() == [[3, 8, mask], [mask, 9, mask], [mask, 10, 4]]
    texts = MaskedTexts(some_texts(), tokenizer, share=0.2, always=True)
    found = masked_contexts(texts)
    hidden = [texts[i]["labels"] != IGNORED for i in range(len(texts))]
    assert found[:, 1].tolist() == [
        p for ids, h in zip(texts.ids, hidden, strict=True) for p in ids[h]
    ]
    alone = [(t[i - 1], t[i], t[i + 1]) for t, h in zip(texts.ids, hidden, strict=True)
             for i in np.flatnonzero(h) if not h[i - 1] and not h[i + 1]]  # fmt: skip
    assert [tuple(row) for row in found if mask not in row] == alone


# --- the model ------------------------------------------------------------------------------------


@torch.no_grad()
def test_loss_and_scores_are_those_of_transformers(whole, tokenizer):
    ours, about = masked_head.load(whole, "no such checkpoint")  # none is needed
    assert about == {"head": "its own"}
    assert not ours.training
    theirs = BertForMaskedLM.from_pretrained(whole).eval()
    batch = one_batch(MaskedTexts(some_texts(), tokenizer, share=0.3))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected, hidden = theirs(**inputs).logits, ours(**inputs)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours.logits(hidden)[real], expected[real], **CLOSE)
    nats = F.cross_entropy(expected.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(ours.loss(hidden, batch), nats, **CLOSE)


def test_gradients_are_those_of_transformers(whole, tokenizer):
    ours, _ = masked_head.load(whole)
    theirs = BertForMaskedLM.from_pretrained(whole).eval()
    batch = one_batch(MaskedTexts(some_texts(), tokenizer, share=0.3))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ours.loss(ours(**inputs), batch).backward()
    theirs(**inputs, labels=batch["labels"]).loss.backward()
    wanted = theirs.bert.embeddings.word_embeddings.weight.grad
    found = ours.encoder.embeddings.word_embeddings.weight.grad.clone()
    found[tokenizer.mask_token_id] += ours.mask.grad  # a vector of its own for what is read
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert ours.mask.grad.abs().sum() > 0


def test_ranks_count_the_better_pieces(whole, tokenizer):
    model, _ = masked_head.load(whole)
    texts = MaskedTexts(some_texts(), tokenizer, share=0.3, always=True)
    expected = []
    for i in range(len(texts)):
        item = texts[i]
        ids = torch.as_tensor(item["input_ids"])[None]
        with torch.no_grad():
            scores = model.logits(model(ids, torch.ones_like(ids)))[0]
        for place in np.flatnonzero(item["labels"] != IGNORED):
            order = scores[place].argsort(descending=True).tolist()
            expected.append(1 + order.index(item["labels"][place]))
    assert target_ranks(model, texts, batch_size=5).tolist() == expected
    assert len(masked_contexts(texts)) == len(expected)


def test_a_head_that_knows_nothing_guesses_by_frequency(headless):
    model = MaskedLM(headless)
    text = np.repeat([8, 9, 10], [70, 20, 10])
    model.start_from_frequencies(text)
    chances = (model.head.bias.exp() * 100).detach()
    assert chances.sum() == pytest.approx(100, abs=1e-3)
    assert chances[[8, 9, 10]].tolist() == pytest.approx([70, 20, 10], abs=2)
    assert model.head.decoder.weight is model.encoder.embeddings.word_embeddings.weight


def test_adapters_change_nothing_at_first_and_only_they_and_the_head_learn(headless, tokenizer):
    model = MaskedLM(headless).eval()
    batch = one_batch(MaskedTexts(some_texts(), tokenizer))
    inputs = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        before = model(*inputs)
        model.adapt(rank=3)
        torch.testing.assert_close(model(*inputs), before)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in n or n == "mask" or n.startswith("head.") for n in learning)
    assert sum("lora_A" in name for name in learning) == 2 * 6  # six matrices a layer


def trained(headless, tokenizer, checkpoint=None, epochs=2, rank=3):
    """A model with adapters after a few steps of training."""
    torch.manual_seed(0)
    model, texts = MaskedLM(headless), MaskedTexts(some_texts(), tokenizer, share=0.4)
    model.adapt(rank)
    groups = transfer.parameter_groups(model, 0.02)
    how = {"epochs": epochs, "batch_size": 4, "checkpoint": checkpoint, "progress": False}
    given = {"loss": model.loss, "callbacks": [texts.begin], "groups": groups}
    return model, training.fit(model, texts, **given, **how)


def test_training_learns_and_goes_on_where_it_stopped(headless, tokenizer, tmp_path):
    straight, fitted = trained(headless, tokenizer, epochs=6)
    assert fitted.history["train_loss"].iloc[-1] < fitted.history["train_loss"].iloc[0] - 0.2
    file = tmp_path / "run.pt"

    def stop(model, epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    begin = MaskedTexts.begin
    MaskedTexts.begin = wraps(begin)(lambda self, m, e: (begin(self, m, e), stop(m, e)))
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(headless, tokenizer, file, epochs=6)
    finally:
        MaskedTexts.begin = begin
    resumed, _ = trained(headless, tokenizer, file, epochs=6)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_makes_a_plain_bert_with_the_same_answers(headless, tokenizer, tmp_path):
    model, _ = trained(headless, tokenizer)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.half().float()  # so that the file loses nothing
            assert name == "mask" or parameter.data.any(), name
    model.save(tmp_path / "head", {"steps": 6})
    loaded, about = masked_head.load(headless, tmp_path / "head")
    assert about == {"steps": 6}
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    batch = one_batch(MaskedTexts(some_texts(seed=1), tokenizer, share=0.4))
    inputs = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        expected = model.eval().logits(model(*inputs))
        found = loaded(*inputs)
        pieces = torch.arange(len(PIECES)) != tokenizer.mask_token_id  # its row is the new vector
        scores = loaded.logits(found)
        torch.testing.assert_close(scores[..., pieces], expected[..., pieces], **CLOSE)
        plain = loaded.encoder(*inputs).last_hidden_state  # [MASK] stands in the embedding, too
    torch.testing.assert_close(plain, found, **CLOSE)


def test_a_checkpoint_goes_where_the_model_is(headless, tokenizer, tmp_path):
    model, _ = trained(headless, tokenizer)
    model.save(tmp_path / "head", {})
    double = MaskedLM(headless).double()
    double.fill(tmp_path / "head")
    assert {p.dtype for p in double.parameters()} == {torch.float64}


def test_what_cannot_be_loaded_is_refused(headless, whole, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="has no trained head: name a checkpoint"):
        masked_head.load(headless)
    MaskedLM(headless).save(tmp_path / "head", {})
    change_facts(tmp_path / "head.safetensors", kind="elmo")
    with pytest.raises(ValueError, match="kind 'elmo', not 'masked_head'"):
        masked_head.load(headless, tmp_path / "head")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*none\.safetensors"):
        masked_head.load(headless, "none")
    other = tmp_path / "roberta"
    RobertaConfig(hidden_size=16, num_attention_heads=2).save_pretrained(other)
    (other / "vocab.txt").write_text("\n".join(PIECES))
    with pytest.raises(ValueError, match="of the kind roberta; take one of the kind bert"):
        MaskedLM(str(other))


def test_a_head_for_an_encoder_of_another_depth_or_without_a_tensor_is_refused(headless, tmp_path):
    model = MaskedLM(headless)
    model.adapt(2)
    model.save(tmp_path / "head", {})
    for shape, message in (
        ({"num_hidden_layers": 3}, r"head\.safetensors is no head for .* 12 matrices, not 18"),
        ({"vocab_size": 40}, r"this encoder, train one: .* bias is \(28,\), but should be \(40,\)"),
    ):
        other = write_model(tmp_path / "other", BertModel, **shape)
        with pytest.raises(ValueError, match=message):
            masked_head.load(other, tmp_path / "head")
    adapter = "adapters.encoder.layer.0.attention.self.query"
    for drop, more, message in (
        (["head.bias"], {}, "'bias' is missing"), (["mask"], {}, "'mask' is missing"),
        (["head.transform.dense.bias"], {}, "transform.dense.bias is missing"),
        ([], {"mask": torch.ones(3)}, ""), ([], {f"{adapter}.A": torch.ones(2, 5)}, ""),
        ([f"{adapter}.B"], {}, "query.B' is missing"),
    ):  # fmt: skip
        model.save(tmp_path / "head", {})
        change_weights(tmp_path / "head.safetensors", more, drop)
        with pytest.raises(ValueError, match=rf"head\.safetensors is no head for .*{message}"):
            masked_head.load(headless, tmp_path / "head")


def test_the_control_has_the_same_shape_and_knows_nothing(whole):
    known, _ = masked_head.load(whole)
    torch.manual_seed(0)
    blank = MaskedLM(whole, pretrained=False)
    assert {n: p.shape for n, p in blank.named_parameters()} == {
        n: p.shape for n, p in known.named_parameters()
    }
    name = "encoder.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(blank.get_parameter(name), known.get_parameter(name))
