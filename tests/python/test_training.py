"""Fine-tuning from Python."""

from __future__ import annotations

import _thread
import inspect
import json
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel import _biorel
from biorel._progress import Progress
from biorel._types import Head
from biorel.training import progress
from biorel.training.finetune import CORE_SETTINGS
from tiny_bert import write_encoder


def short(corpus: biorel.Corpus, encoder: biorel.Encoder, **settings: Any) -> biorel.Run:
    return biorel.finetune(corpus, encoder, **{"max_length": 96, "max_steps": 2, "progress": False} | settings)


def test_the_tables_of_a_run(run: biorel.Run) -> None:
    history = run.history
    assert history["step"].tolist() == [1, 2, 3, 4]
    assert set(history.columns) >= {"epoch", "loss", "gradient_norm", "learning_rate", "tokens", "seconds"}
    assert run.epochs["steps"].sum() == 4
    assert run.epochs["loss"][0] == pytest.approx(history["loss"].mean())  # four full batches of one epoch
    predictions = run.predictions()
    assert len(predictions) == 142
    probabilities = predictions[[f"p_{label}" for label in run.corpus.labels]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (predictions["probability"] == probabilities.max(axis=1)).all()
    assert not run.interrupted


def test_scores_state_their_protocol(run: biorel.Run) -> None:
    protocol = "micro-F1 over the 4 positive classes, test, 142 pairs"
    assert run.scores.attrs["protocol"] == protocol
    assert repr(run.scores).endswith(protocol)
    assert protocol in run.scores._repr_html_()
    assert "train, 406 pairs" in run.score("train").protocol


def test_attention_is_a_distribution_over_words(run: biorel.Run) -> None:
    table = run.attention()
    sums = table.groupby("instance")["weight"].sum()
    assert len(sums) == 142
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    assert (table.loc[table["is_entity"], "distance"] == 0).all()
    assert set(table["predicted"]) <= set(run.corpus.labels)


def test_the_defaults_are_the_papers(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    settings = inspect.signature(biorel.finetune).parameters
    stated = {name: settings[name].default for name in ("learning_rate", "batch_size", "epochs", "max_length")}
    assert stated == {"learning_rate": 2e-5, "batch_size": 32, "epochs": 10, "max_length": 128}


def test_precision_is_stated_and_chosen(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    runs = {precision: short(ddi, encoder, precision=precision) for precision in ("f32", "bf16", "auto")}
    auto = runs["auto"].settings["precision"]
    assert auto in ("f32", "bf16")
    for precision, run in runs.items():
        stated = auto if precision == "auto" else precision
        assert run.settings["precision"] == run.model.card["training"]["precision"] == stated
        assert repr(run).endswith(f"{stated})")
    losses = {precision: run.history["loss"].tolist() for precision, run in runs.items()}
    assert losses["auto"] == losses[auto]
    assert losses["bf16"] != losses["f32"]
    np.testing.assert_allclose(losses["bf16"], losses["f32"], rtol=0.02)
    # A model predicts in either, however it was trained.
    runs["bf16"].model.save(tmp_path / "model")
    columns = [f"p_{label}" for label in ddi.labels]
    f32, bf16 = (
        biorel.load(tmp_path / "model", precision=precision).predictions(ddi)[columns].to_numpy()
        for precision in ("f32", "bf16")
    )
    np.testing.assert_allclose(bf16, f32, atol=0.02)
    assert (bf16 != f32).any()
    # A run does not resume with another precision.
    short(ddi, encoder, precision="f32", checkpoint=tmp_path / "checkpoint")
    with pytest.raises(biorel.BiorelError, match="other settings"):
        short(ddi, encoder, precision="bf16", checkpoint=tmp_path / "checkpoint")
    with pytest.raises(biorel.ConfigError, match="precision.*f16"):
        short(ddi, encoder, precision="f16")
    with pytest.raises(biorel.ConfigError, match="precision.*reference"):
        short(ddi, encoder, precision="bf16", device="reference")


def test_heads_match_the_extension() -> None:
    assert get_args(Head) == _biorel.HEADS
    for head in _biorel.HEADS:
        assert f"``{head}``" in (biorel.finetune.__doc__ or ""), head


@pytest.mark.parametrize("head", get_args(Head))
def test_every_head_learns(ddi: biorel.Corpus, encoder: biorel.Encoder, head: Head) -> None:
    # Overfit one document; with five labels the loss starts near ln 5 = 1.6.
    corpus = ddi.divide({"train": [ddi.sentences("train")["document"][0]]})
    exact = {"dropout": 0.0, "head_dropout": 0.0, "bias_correction": True}
    run = short(corpus, encoder, head=head, max_steps=80, learning_rate=1e-2, **exact)
    assert run.history["loss"].iloc[0] == pytest.approx(np.log(5), abs=0.1)
    assert run.history["loss"].iloc[-1] < 0.05
    assert run.score("train").set_index("class").loc["micro", "f1"] == 1
    assert run.model.head == head
    if head not in ("attention", "attention-no-cls", "entity-attention"):
        with pytest.raises(biorel.ConfigError, match="attention-no-cls"):
            run.attention("train")


def test_the_same_seed_gives_the_same_bits(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    files = {}
    for name, seed, threads in [("a", 5, 2), ("b", 5, 2), ("c", 6, 2), ("d", 5, 1)]:
        short(ddi, encoder, seed=seed, threads=threads).model.save(tmp_path / name)
        files[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert files["a"] == files["b"]
    assert files["a"] == files["d"]
    assert files["a"] != files["c"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("head", "cnn"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", "high"),
        ("batch_size", 0),
        ("batch_size", -1),
        ("epochs", 2.5),
        ("max_steps", -1),
        ("max_length", 3),
        ("max_length", 128),  # more than the tiny encoder has positions
        ("too_long", "cut"),
        ("seed", -1),
        ("warmup_ratio", 2.0),
        ("weight_decay", -1.0),
        ("max_grad_norm", -1.0),
        ("adam_beta1", 1.0),
        ("adam_epsilon", 0.0),
        ("dropout", 1.0),
        ("head_dropout", -0.5),
        ("negative_ratio", 0.0),
        ("eval_steps", 0),
        ("eval_steps", 5),  # without dev
        ("patience", 2),  # without dev
        ("load_best_model", "no"),
        ("dev", "train"),
        ("dev", "development"),
        ("callbacks", [print]),
        ("device", "tpu"),
        ("threads", 0),
        ("marking", "bold"),
        ("train", "training"),
        ("test", "tset"),
        ("test", "train"),
    ],
)
def test_settings_out_of_range_are_named(
    ddi: biorel.Corpus, encoder: biorel.Encoder, setting: str, value: object
) -> None:
    with pytest.raises(biorel.ConfigError) as raised:
        short(ddi, encoder, **{setting: value})
    named = {"train": "split", "dev": "split", "test": "split"}.get(setting, setting)
    assert raised.value.field in (setting, named)
    assert str(raised.value.field) in str(raised.value)


def test_the_core_and_the_signature_declare_the_same_settings(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    parameters = inspect.signature(biorel.finetune).parameters
    assert {name: parameters[name].default for name in CORE_SETTINGS} == CORE_SETTINGS
    # Every parameter reaches the core: the settings of a run are the given ones.
    given = {"learning_rate": 1e-3, "adam_beta1": 0.8, "patience": None, "freeze": 1, "bias_correction": True}
    settings = short(ddi, encoder, **given).settings
    assert settings.items() >= given.items()
    assert settings.keys() > CORE_SETTINGS.keys()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("learning_rate", "high", "learning_rate: must be a number, not 'high'"),
        ("learning_rate", True, "learning_rate: must be a number, not True"),
        ("epochs", 2.5, "epochs: must be a whole number from 0, not 2.5"),
        ("batch_size", -1, "batch_size: must be a whole number from 0, not -1"),
        ("bias_correction", "no", "bias_correction: must be True or False, not 'no'"),
        ("too_long", "cut", "too_long: must be one of error, drop, join, not 'cut'"),
        ("compat", 7, "compat: must be one of su2020, not 7"),
        ("class_weights", "even", "class_weights: must be \"balanced\" or one number for each label, not 'even'"),
    ],
)
def test_a_setting_of_another_type_says_what_it_must_be(
    ddi: biorel.Corpus, encoder: biorel.Encoder, setting: str, value: object, message: str
) -> None:
    with pytest.raises(biorel.ConfigError) as raised:
        short(ddi, encoder, **{setting: value})
    assert (str(raised.value), raised.value.field) == (message, setting)


def test_numpy_numbers_are_accepted(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    settings: dict[str, Any] = {"seed": np.int64(3), "max_steps": np.int32(1), "learning_rate": np.float32(1e-3)}
    run = short(ddi, encoder, **settings, bias_correction=np.bool_(True), class_weights={"effect": np.float64(2)})
    assert run.model.card["training"]["seed"] == 3


def test_an_unknown_setting_is_a_type_error(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    with pytest.raises(TypeError, match="learning_rat"):
        biorel.finetune(ddi, encoder, learning_rat=1e-5)  # type: ignore[call-arg]


def test_a_path_is_not_a_corpus(run: biorel.Run, encoder: biorel.Encoder) -> None:
    path: Any = str(biorel.sample_path("ddi"))
    for call in (biorel.finetune, biorel.cross_validate):
        with pytest.raises(TypeError, match="load_corpus"):
            call(path, encoder)
    with pytest.raises(TypeError, match="load_corpus"):
        run.model.evaluate(path)


def test_a_corpus_without_a_train_split_says_what_to_do(encoder: biorel.Encoder) -> None:
    with pytest.raises(biorel.ConfigError, match=r"corpus\.fold\(0\)"):
        short(biorel.load_sample("aimed"), encoder)
    run = short(biorel.load_sample("aimed").fold(0, folds=4), encoder)
    assert "F1 of the positive class `positive`" in run.scores.protocol


def test_a_stopped_run_resumes_to_the_same_bits(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Progress):
        def advance(self, done: int, text: str = "") -> None:
            if self.done >= 5:
                raise KeyboardInterrupt
            super().advance(done, text)

    checkpoint = tmp_path / "checkpoint"
    short(ddi, encoder, max_steps=12).model.save(tmp_path / "uninterrupted")
    with monkeypatch.context() as patch:
        patch.setattr(progress, "Progress", Impatient)
        with pytest.raises(biorel.TrainingInterrupted) as stopped:
            short(ddi, encoder, max_steps=12, checkpoint=checkpoint, save_steps=3, progress=True)
    assert stopped.value.run.interrupted
    assert 5 < len(stopped.value.run.history) <= 12
    run = short(ddi, encoder, max_steps=12, checkpoint=checkpoint)
    assert run.history["step"].tolist() == list(range(1, 13))
    run.model.save(tmp_path / "resumed")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("uninterrupted", "resumed")]
    assert files[0] == files[1]
    with pytest.raises(biorel.ConfigError, match="other settings"):
        short(ddi, encoder, max_steps=13, checkpoint=checkpoint)


def test_labels_can_be_weighted(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    plain = short(ddi, encoder).history["loss"]
    weights = dict.fromkeys(ddi.labels, 2.0)
    assert short(ddi, encoder, class_weights={"effect": 1.0}).history["loss"].tolist() == plain.tolist()
    assert short(ddi, encoder, class_weights=weights | {"effect": 0.5}).history["loss"][0] != plain[0]
    short(
        ddi,
        encoder,
        class_weights="balanced",
        gradient_accumulation_steps=2,
        focal_gamma=2.0,
        layerwise_lr_decay=0.9,
        freeze=1,
    )
    for wrong in ({"efect": 1.0}, "even", {"effect": -1.0}):
        with pytest.raises(biorel.ConfigError, match="class_weights"):
            short(ddi, encoder, class_weights=wrong)


def test_several_splits_together(encoder: biorel.Encoder) -> None:
    run = short(biorel.load_sample("chemprot"), encoder, train=["train", "dev"], max_steps=None, epochs=1)
    assert run.epochs["instances"].tolist() == [170 + 48]


def test_no_test_split(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    run = short(ddi, encoder, test=None)
    with pytest.raises(biorel.ConfigError, match="no test split"):
        _ = run.scores
    assert len(run.predictions("test")) == 142


def test_splits_that_are_not_scored_are_named(encoder: biorel.Encoder, ddi: biorel.Corpus) -> None:
    few: dict[str, Any] = {"max_steps": 1, "max_length": 96, "progress": False}
    documents = {split: sorted(set(ddi.instances(split)["document"])) for split in ddi.splits}
    renamed = ddi.divide({"train": documents["train"], "Test": documents["test"]})
    with pytest.warns(UserWarning, match="has no split `test`, so nothing is scored; .*test='Test'") as found:
        biorel.finetune(renamed, encoder, **few)
    # Warnings point at the line of the user.
    assert {Path(one.filename).name for one in found} == {"test_training.py"}
    biorel.finetune(renamed, encoder, test="Test", **few)
    biorel.finetune(renamed, encoder, dev="Test", **few)
    with pytest.raises(biorel.ConfigError, match="dev: the best model would be chosen on `test`, which is also scored"):
        biorel.finetune(ddi, encoder, dev="test", **few)
    with pytest.raises(biorel.ConfigError, match=r"test: must be the name of a split, not 0\.2"):
        biorel.finetune(ddi, encoder, test=0.2, **few)  # type: ignore[arg-type]
    with pytest.raises(biorel.ConfigError, match="callbacks: must be a list, not Callback"):
        biorel.finetune(ddi, encoder, callbacks=biorel.Callback(), **few)  # type: ignore[arg-type]


def test_loss_that_is_not_finite_stops_with_its_step(ddi: biorel.Corpus, tmp_path: Path) -> None:
    huge = np.full((32, 32), 1e38, np.float32)
    encoder = biorel.load_encoder(write_encoder(tmp_path, encoder__layer__1__attention__self__query__weight=huge))
    with pytest.raises(biorel.TrainingError, match="learning_rate") as raised:
        short(ddi, encoder)
    assert raised.value.step == 1


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C; a background job of a shell would ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_a_usable_model(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    timer = threading.Timer(2.0, _thread.interrupt_main)
    timer.start()
    with pytest.raises(biorel.TrainingInterrupted, match="step") as stopped:
        short(ddi, encoder, max_steps=100_000)
    run = stopped.value.run
    assert run.interrupted
    assert 0 < len(run.history) < 100_000
    assert len(run.predictions()) == 142
    run.model.save(tmp_path / "model")
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert not isinstance(stopped.value, Exception)


def test_errors_of_the_progress_bar_are_raised(
    ddi: biorel.Corpus, encoder: biorel.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no terminal")

    monkeypatch.setattr(progress, "Progress", broken)
    with pytest.raises(RuntimeError, match="no terminal"):
        short(ddi, encoder, progress=True, max_steps=50)


def test_the_best_model_on_dev_is_loaded(encoder: biorel.Encoder) -> None:
    corpus = biorel.load_sample("chemprot")
    settings: dict[str, Any] = {"max_steps": 12, "learning_rate": 3e-3, "eval_steps": 3}
    run = short(corpus, encoder, dev="dev", **settings)
    evaluations = run.evaluations
    assert evaluations["step"].tolist() == [3, 6, 9, 12]
    chosen = evaluations[evaluations["step"] == run.step].iloc[0]
    assert chosen["best"]
    assert chosen["f1"] == evaluations["f1"].max()
    # The score equals the one computed afterwards, including lost gold positives.
    scores = run.score("dev").set_index("class").loc["micro", ["precision", "recall", "f1"]]
    np.testing.assert_allclose(scores.astype(float), chosen[["precision", "recall", "f1"]].astype(float), atol=1e-12)
    assert run.settings["dev"] == "dev"
    assert json.loads(run.model._core.card)["steps"] == run.step
    # Without dev, or with load_best_model=False, the weights are those of the last step.
    last = short(corpus, encoder, dev="dev", load_best_model=False, **settings)
    plain = short(corpus, encoder, **{**settings, "eval_steps": None})
    assert (last.step, plain.step) == (12, 12)
    assert plain.evaluations.empty
    pd.testing.assert_frame_equal(last.predictions(), plain.predictions())


def test_patience_stops_early(encoder: biorel.Encoder) -> None:
    settings: dict[str, Any] = {"max_steps": 100, "learning_rate": 1e-9, "eval_steps": 1, "patience": 3}
    run = short(biorel.load_sample("chemprot"), encoder, dev="dev", head_dropout=0.0, **settings)
    assert len(run.history) < 100
    assert not run.interrupted
    assert run.evaluations["best"].tolist()[-4:] == [True, False, False, False]


def test_fewer_negatives(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    labels = ddi.instances("train")["label"]
    positives = int((labels != "false").sum())
    run = short(ddi, encoder, negative_ratio=0.5, max_steps=None, epochs=1)
    left = positives + round(0.5 * positives)
    assert run.counts == {"trained": left, "cut": 0, "dropped": 0, "left_out": len(labels) - left}
    assert run.history["instances"].sum() == left
    again = short(ddi, encoder, negative_ratio=0.5, max_steps=None, epochs=1)
    assert run.history["loss"].tolist() == again.history["loss"].tolist()


def test_a_run_reports_new_tensors(run: biorel.Run, encoder: biorel.Encoder) -> None:
    assert run.report.keys() == {*encoder.report, "initialised"}
    assert "head.classifier.weight" in run.report["initialised"]


def test_instances_that_are_too_long(encoder: biorel.Encoder) -> None:
    gap = "far " * 60
    text = f"A {gap}binds B."
    rows = [(text, "no", 0, 1, text.index("B"), text.index("B") + 1), ("A binds B.", "yes", 0, 1, 8, 9)] * 4
    columns = ["text", "label", "entity1_start", "entity1_end", "entity2_start", "entity2_end"]
    table = pd.DataFrame(rows, columns=columns).assign(split=["train"] * 4 + ["test"] * 4)
    table["id"] = [f"pair{index}" for index in range(8)]
    table["sentence"] = [f"s{index}" for index in range(8)]
    table["document"] = table["split"]
    corpus = biorel.load_corpus("table", table, negative="no")
    with pytest.raises(biorel.CorpusError, match="pair0"):
        short(corpus, encoder, max_length=32, too_long="error")
    with pytest.warns(UserWarning, match="2 training instances were dropped"):
        run = short(corpus, encoder, max_length=32, too_long="drop")
    assert run.predictions()["predicted"].isna().tolist() == [True, False, True, False]
    assert run.scores["support"].notna().any()
    with pytest.warns(UserWarning, match="2 training instances were cut"):
        run = short(corpus, encoder, max_length=32, too_long="join")
    assert run.predictions()["predicted"].notna().all()


def test_gradient_checkpointing_gives_the_same_bits(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    runs = [short(ddi, encoder, gradient_checkpointing=checkpoint) for checkpoint in (False, True)]
    stored, recomputed = (run.history.drop(columns="seconds") for run in runs)
    pd.testing.assert_frame_equal(stored, recomputed, check_exact=True)
    pd.testing.assert_frame_equal(runs[0].predictions(), runs[1].predictions(), check_exact=True)


def test_shared_documents_of_train_and_dev_are_warned_of(encoder: biorel.Encoder, ddi: biorel.Corpus) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # folds by instance warn of leakage
        by_sentence = ddi.fold(0, folds=2, by="instance")
    frame = pd.concat(
        [by_sentence.instances(split).assign(split=name) for split, name in (("train", "train"), ("test", "dev"))]
    )
    shared = frame.groupby("document")["split"].nunique().eq(2).sum()
    held_out = frame[frame["split"] == "dev"]["document"].nunique()
    with pytest.warns(UserWarning, match=f"dev: {shared} of the {held_out} documents of `test` are trained on too"):
        short(by_sentence, encoder, dev="test", test=None, max_steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short(ddi, encoder, dev="test", test=None, max_steps=1)


@pytest.mark.parametrize("threads", [-1, 0, 1025, 1 << 70, 1.5, "all"])
def test_threads_out_of_range_are_named(
    threads: Any, encoder: biorel.Encoder, ddi: biorel.Corpus, run: biorel.Run, tmp_path: Path
) -> None:
    run.save(tmp_path / "model")
    calls: list[Callable[[], object]] = [
        lambda: short(ddi, encoder, threads=threads),
        lambda: encoder.encode(["a"], threads=threads),
        lambda: biorel.load(tmp_path / "model", threads=threads),
        lambda: biorel.Predictor(tmp_path / "model", threads=threads),
        lambda: biorel.cross_validate(ddi, encoder, folds=2, max_steps=1, progress=False, threads=threads),
        lambda: biorel.compare(ddi, directory=tmp_path / "runs", encoders=[encoder], threads=threads),
    ]
    for call in calls:
        with pytest.raises(biorel.ConfigError, match="threads: ") as raised:
            call()
        assert raised.value.field == "threads"
