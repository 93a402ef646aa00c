"""GAN-CLS's claims: hinge and matching loss by hand, the text network's letters, mixed texts, styles."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import held_out, make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError
from tf_gan_zoo.models.gan_cls import GANCLSConfig
from tf_gan_zoo.networks import text as text_network
from tf_gan_zoo.networks.text import ALPHABET
from tf_gan_zoo.optimizers import OuterEpsilonRMSprop


@pytest.fixture(scope="module")
def model():
    return tiny("gan_cls")


def tensors(fields):
    return {name: tf.constant(value) for name, value in fields.items()}


# -------------------------------------------------------------------- texts


def test_letters_have_their_places():
    assert len(ALPHABET) == 70
    places = text_network.characters_of(tf.constant(["Az 9-", "é", "b" * 300]), 201).numpy()
    assert places.shape == (3, 201)
    assert places[0, :6].tolist() == [0, 25, 69, 35, 59, 70]  # the hyphen's later place; the end
    assert places[1, :3].tolist() == [70, 70, 70]
    assert (places[2] == 1).all()
    codes = text_network.CharacterCode()(places[:1]).numpy()[0]
    assert codes.shape == (201, 70)
    assert codes.sum(axis=1)[:6].tolist() == [1, 1, 1, 1, 1, 0]


def test_text_network_has_the_papers_size_and_a_state():
    network = text_network.build_text_encoder(GANCLSConfig())
    assert network.count_params() == 1_814_144
    a, b = tiny("gan_cls", text_width=64).encode_text(["abc", "acb"]).numpy()
    assert np.abs(a - b).max() > 1e-5  # the order counts, little as it does at first


def test_text_network_starts_and_learns_as_in_the_released_code():
    """Weights and biases uniform up to 0.08; Torch's RMSprop, its rate times 0.98 every 150 steps."""
    model = tiny("gan_cls", text_width=64)
    for weight in model.text_encoder.get_weights():
        assert np.abs(weight).max() <= 0.08
        assert np.std(weight) == pytest.approx(0.08 / np.sqrt(3), rel=0.35)
    optimizer = model.make_optimizer("text_encoder")
    assert (optimizer.rho, optimizer.epsilon) == (0.99, 1e-8)
    assert isinstance(optimizer, OuterEpsilonRMSprop)
    rates = [7e-4, 7e-4, 7e-4 * 0.98, 7e-4 * 0.98**2]
    np.testing.assert_allclose([optimizer._learning_rate(k) for k in (0, 149, 150, 300)], rates, rtol=1e-6)


def test_first_weights_and_rates_are_those_of_the_released_code():
    """Convolutions N(0, 0.02), gains N(1, 0.02), Torch's dense layers; Adam, halved every 100 epochs."""
    model = tiny("gan_cls", text_code_size=64, width=8, discriminator_width=16)
    for name in ("generator", "discriminator"):
        network = getattr(model, name)
        (dense,) = [x for x in network.layers if isinstance(x, keras.layers.Dense)]
        numbers = np.concatenate([np.ravel(dense.kernel), np.ravel(dense.bias)])
        limit = 1 / np.sqrt(model.config.text_size)
        assert 0.9 * limit < np.abs(numbers).max() <= limit
        norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
        assert np.std(np.concatenate([x.gamma for x in norms])) == pytest.approx(0.02, rel=0.3)
        convs = [x for x in network.layers if hasattr(x, "kernel_size")]
        assert np.std(convs[0].kernel) == pytest.approx(0.02, rel=0.1)
        assert not any(x.use_bias for x in convs)
        optimizer = model.make_optimizer(name)
        rates = [float(optimizer._learning_rate(k)) for k in (0, 13_799, 13_800)]
        np.testing.assert_allclose(rates, [2e-4, 2e-4, 1e-4], rtol=1e-6)
        assert (optimizer.beta_1, optimizer.epsilon) == (0.5, 1e-8)


def test_structured_hinge_against_loops():
    rng = np.random.default_rng(0)
    v, t = rng.normal(0, 1, (2, 5, 3)).astype("float32")
    labels = np.array([0, 1, 0, 2, 3])
    total = 0.0
    for i in range(5):
        for j in range(5):
            if labels[i] != labels[j]:
                total += max(0, 1 + v[i] @ t[j] - v[i] @ t[i]) + max(0, 1 + t[i] @ v[j] - t[i] @ v[i])
    np.testing.assert_allclose(text_network.structured_hinge(v, t, labels), total / 25, rtol=1e-5)


# -------------------------------------------------------------------- losses


def test_discriminator_loss_against_numpy(model):
    fields = make_fields(model, 4)
    fields["labels"] = np.array([0, 0, 1, 1], "int32")
    batch, text = tensors(fields), model.embed(tf.constant(fields["captions"]))
    fakes = model._pictures("x", text, training=False)

    def probability(images):
        return model.match_score(images, list(fields["captions"])).astype("float64")

    rolled = np.roll(fields["images"], -1, axis=0)
    other_class = np.array([False, True, False, True])
    real, wrong, fake = (probability(x) for x in (fields["images"], rolled, np.asarray(fakes)))
    negative = np.log(1 - wrong)[other_class].mean() + np.log(1 - fake).mean()
    expected = -np.log(real).mean() - 0.5 * negative
    np.testing.assert_allclose(model._discriminator_loss(batch, text, fakes, False), expected, rtol=1e-4)
    plain = tiny("gan_cls", variant="gan")
    for name, network in plain.networks.items():
        network.set_weights(getattr(model, name).get_weights())
    expected = -np.log(real).mean() - np.log(1 - fake).mean()
    np.testing.assert_allclose(plain._discriminator_loss(batch, text, fakes, False), expected, rtol=1e-4)


def test_mixed_texts_are_for_the_generator_alone():
    """The discriminator's update is the same with and without INT; the generator's is not."""
    weights = {}
    for variant in ("cls", "int_cls"):
        model = tiny("gan_cls", variant=variant)
        model.run_eagerly, model.phase = True, "adversarial"
        model.step.assign(1)
        model.train_on_batch(make_fields(model, 4))
        weights[variant] = {name: network.get_weights() for name, network in model.networks.items()}
    pairs = {name: zip(weights["cls"][name], weights["int_cls"][name]) for name in weights["cls"]}
    same = {name: all((a == b).all() for a, b in pair) for name, pair in pairs.items()}
    assert same["text_encoder"]
    assert not same["generator"]
    # Running means differ, as D also judges mixed fakes; its weights do not.
    values = zip(model.discriminator.weights, *(weights[v]["discriminator"] for v in ("cls", "int_cls")))
    assert all((a == b).all() for variable, a, b in values if variable.trainable)


def test_captions_learn_to_fit_their_pictures():
    model = tiny("gan_cls", text_steps=100, text_learning_rate=2e-3, text_width=64)
    fields = make_fields(model, 4)
    fields["captions"] = np.array([b"red", b"blue", b"heart", b"car"], object)
    fields["labels"] = np.arange(4, dtype="int32")
    model.run_eagerly = True
    losses = [float(model.train_on_batch(fields, return_dict=True)["text_loss"]) for _ in range(2)]
    model.fit(tf.data.Dataset.from_tensor_slices(fields).batch(4).repeat(60), verbose=0)
    final = float(model.text_loss(tensors(fields), training=False))
    assert final < 0.5 * losses[0]


# -------------------------------------------------------------------- pictures


def test_pictures_of_captions_and_between_them(model):
    images = model.generate(captions=["red heart", "blue car"], seed=2)
    assert images.shape == (2, 16, 16, 3)
    text = model.encode_text(["red heart", "blue car"])
    np.testing.assert_allclose(images, model.generate(text=text, seed=2))
    line = model.interpolate("red heart", "blue car", 5, seed=2)
    ends = [model.generate(captions=c, seed=2)[0] for c in ("red heart", "blue car")]
    np.testing.assert_allclose(line[[0, -1]], ends, atol=1e-5)
    in_turn = [model.config.sample_captions[k] for k in (0, 1, 2, 3, 0)]
    expected = model.generate(captions=in_turn, seed=3)
    np.testing.assert_allclose(model.generate(5, seed=3), expected, atol=1e-6)
    served = model.serving_functions["generate_from_captions"]
    pictures = served.function(tf.constant(["red heart", "blue car"]), tf.constant(2, tf.int64))["images"]
    np.testing.assert_allclose(pictures, images, atol=1e-5)
    for wrong in ({"captions": ["a", "b"], "num_samples": 3}, {"captions": "a", "text": np.zeros(8)}):
        with pytest.raises(ValueError, match="caption"):
            model.generate(**wrong)


# The contract suite exports all models; twice as long for StackGAN's networks is left for the whole suite.
@pytest.mark.parametrize("name", ["gan_cls", pytest.param("stackgan", marks=pytest.mark.slow)])
def test_savedmodels_take_captions_and_phones_embeddings(name, tmp_path):
    model = tiny(name, initial_std=0.1)
    model.export(tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    captions, seed = ["red heart", "blue car", "star"], tf.constant(5, tf.int64)
    made = loaded.signatures["generate_from_captions"](captions=tf.constant(captions), seed=seed)["images"]
    np.testing.assert_allclose(made, model.generate(captions=captions, seed=5), atol=1e-5)
    model.export(tmp_path / "model.tflite", "litert")
    runner = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("generate")
    assert set(runner.get_input_details()) == {"latents", "text"}
    inputs = {n: np.asarray(v) for n, v in model.sample_inputs(3, 5, captions=captions).items()}
    np.testing.assert_allclose(runner(**inputs)["images"], made, atol=1e-4)


def test_styles_are_found_again():
    """The style network learns the latents of generated pictures."""
    model = tiny("gan_cls", style_start=2, learning_rate=5e-3, discriminator_width=8)
    model.run_eagerly, model.phase = True, "style"
    text = model.encode_text(["red", "blue", "heart", "car"])
    errors = []
    for step in range(120):
        model.step.assign(2 + step)
        errors.append(float(model._style_step(text)["style_loss"]))
        model.reset_metrics()
    assert np.mean(errors[-10:]) < 0.9 * np.mean(errors[:3])
    images = model.generate(captions=["red", "blue"])
    assert model.style_transfer(images, ["car", "heart"]).shape == images.shape
    with pytest.raises(ValueError, match="caption per picture"):
        model.style_transfer(images, ["car"])
    with pytest.raises(ValueError, match="no style network"):
        tiny("gan_cls").style_transfer(images, ["a", "b"])


def test_strings_and_configs_that_do_not_fit_are_refused(model):
    fields = make_fields(model, 4)
    with pytest.raises(BatchError, match="'captions': expected string"):
        model.fit({**fields, "captions": np.arange(4)}, verbose=0)
    wrong = {
        "16": {"image_size": 20}, "1024": {"text_size": 8}, "above": {"style_start": 5},
        "66 or more": {"caption_length": 60}, "at least one caption": {"sample_captions": ()},
    }  # fmt: skip
    for message, values in wrong.items():
        with pytest.raises(ConfigError, match=message):
            GANCLSConfig(**values)


@pytest.mark.parametrize("recipe", ["gan_cls.emoji", "stackgan.emoji"])
def test_published_weights_colour_what_captions_say(recipe):
    model = zoo.get(recipe, weights="pretrained")
    colours, nouns = ("red", "green", "blue"), ("heart", "mushroom", "key")
    captions = [f"{colour} {noun}" for noun in nouns for colour in colours]
    images = model.generate(captions=captions, seed=1)
    side = images.shape[1] // 4
    middles = images[:, side:-side, side:-side].mean(axis=(1, 2))
    assert middles.argmax(axis=1).tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize("recipe", ["gan_cls.emoji", "stackgan.emoji"])
def test_published_weights_draw_captions_that_they_have_not_seen(recipe):
    model = zoo.get(recipe, weights="pretrained")
    numbers = model.measure(held_out(recipe, 16))
    assert numbers["caption_accuracy"] > 0.5 > 5 * numbers["caption_accuracy_baseline"]
    assert numbers["match_auroc"] > 0.7


# -------------------------------------------------------------------- data


def make_folder(folder, rows):
    for k in range(4):
        Image.new("RGB", (20, 20), (60 * k, 0, 0)).save(folder / f"{k}.png")
    text = "\n".join(["file,caption,class", *rows])
    (folder / "captions.csv").write_text(text, encoding="utf-8")
    return f"captions:{folder}"


def test_folders_with_captions(tmp_path):
    rows = ["0.png,A black Square,dark", '1.png,"red, dark",dark', "1.png,wine,dark", "3.png,red,red"]
    name = make_folder(tmp_path, rows)
    options = {"view": "captioned", "image_size": 16, "batch_size": 4, "split": "all", "shuffle": False}
    batch = next(iter(zoo.load_dataset(name, **options)))
    assert batch["captions"].numpy().tolist() == [b"a black square", b"red, dark", b"wine", b"red"]
    assert batch["labels"].numpy().tolist() == [0, 0, 0, 1]
    assert batch["images"].shape == (4, 16, 16, 3)
    for rows, message in (
        (["0.png,,dark"], "line 2: nothing in column 'caption'"), (["9.png,a,b"], "there is no file"),
    ):  # fmt: skip
        with pytest.raises(DatasetError, match=message):
            zoo.load_dataset(make_folder(tmp_path, rows), **options)
    (tmp_path / "captions.csv").write_text("file,text\n0.png,a")
    with pytest.raises(DatasetError, match="no column 'caption'"):
        zoo.load_dataset(name, **options)


def test_listed_for_text_to_image():
    assert "gan_cls" in zoo.list_models("text_to_image")
