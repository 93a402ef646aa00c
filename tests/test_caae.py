"""CAAE's claims: labels of +-1, a four-part objective by hand, faces at all ages; and its two data sets."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError, aged
from tf_gan_zoo.models import caae
from tf_gan_zoo.models.caae import CAAEConfig


@pytest.fixture(scope="module")
def model():
    return tiny("caae")


# -------------------------------------------------------------------- networks and objective


def test_ages_are_codes_of_plus_and_minus_one():
    codes = caae.AgeCode()(tf.constant([0, 9])).numpy()
    expected = -np.ones((2, 10))
    expected[[0, 1], [0, 9]] = 1
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("num_halvings, encoder, generator", [
    (5, 18_234_034, 18_473_635), (4, 5_945_010, 21_460_291),
])  # fmt: skip
def test_networks_of_code_and_paper(num_halvings, encoder, generator):
    config = CAAEConfig(num_halvings=num_halvings)
    counts = [net(config).count_params() for net in (caae.build_encoder, caae.build_generator)]
    assert counts == [encoder, generator]


def test_kernels_are_those_of_the_released_code():
    """Inputs, outputs and strides in the order of its layers, without the gender and repeated labels."""
    config, doubled = CAAEConfig(), [64, 128, 256, 512, 1024]
    networks = [caae.build_encoder(config), caae.build_generator(config), caae.build_discriminator(config)]
    found = [[kernel_of(x) for x in network.layers if hasattr(x, "kernel")] for network in networks]
    halved = [1024, 512, 256, 128, 64, 32]
    assert found == [
        [*((*pair, 2) for pair in zip([3, *doubled], doubled)), (4 * 4 * 1024, 50)],
        [(60, 4 * 4 * 1024), *((*pair, 2) for pair in zip(halved, halved[1:])), (32, 16, 1), (16, 3, 1)],
        [(3, 16, 2), (16 + 10, 32, 2), (32, 64, 2), (64, 128, 2), (8 * 8 * 128, 1024), (1024, 1)],
    ]
    convolutions = [x for network in networks for x in network.layers if hasattr(x, "strides")]
    assert {x.kernel_size for x in convolutions} == {(5, 5)}
    latent = caae.build_latent_discriminator(config)
    norms = [[x for x in net.layers if "BatchNorm" in type(x).__name__] for net in (*networks, latent)]
    assert [len(some) for some in norms] == [0, 0, 4, 3]
    assert {(x.scale, x.epsilon) for some in norms for x in some} == {(False, 1e-3)}


def kernel_of(layer):
    """(inputs, outputs) of a dense layer, and the stride of a convolution."""
    if not hasattr(layer, "strides"):
        return tuple(layer.kernel.shape)
    shape = layer.kernel.shape[2:]
    transposed = type(layer).__name__ == "Conv2DTranspose"
    return (*(shape[::-1] if transposed else shape), layer.strides[0])


def test_objective_against_numpy(model):
    batch = {name: tf.constant(value) for name, value in make_fields(model, 4).items()}
    drawn = np.random.default_rng(1).uniform(-1, 1, (4, 4)).astype("float32")
    losses = {name: float(value) for name, value in model._terms(batch, drawn, training=False).items()}
    codes = model.encoder(batch["images"])
    made = model.generator({"latents": codes, "ages": batch["ages"]}).numpy().astype("float64")
    x = batch["images"].numpy().astype("float64")
    down, right = np.diff(made, axis=1), np.diff(made, axis=2)

    def probability(network, inputs):
        return 1 / (1 + np.exp(-np.float64(network(inputs))))

    ages = batch["ages"]
    real, fake = (
        probability(model.discriminator, {"images": tf.constant(p, tf.float32), "ages": ages})
        for p in (x, made)
    )
    prior, posterior = (probability(model.latent_discriminator, z) for z in (drawn, codes))
    expected = {
        "reconstruction_loss": ((x - made) ** 2).mean(),
        "tv_loss": (down**2).mean() + (right**2).mean(),
        "g_loss": -np.log(fake).mean(),
        "latent_loss": -np.log(posterior).mean(),
        "d_loss": -np.log(real).mean() - np.log(1 - fake).mean(),
        "latent_d_loss": -np.log(prior).mean() - np.log(1 - posterior).mean(),
    }
    for name, value in expected.items():
        assert losses[name] == pytest.approx(value, rel=1e-4), name
    by_hand = 100 * expected["reconstruction_loss"] + expected["g_loss"]
    by_hand += expected["latent_loss"] + 10 * expected["tv_loss"]
    weighted = model._weighted({name: tf.constant(value, tf.float32) for name, value in expected.items()})
    assert float(weighted) == pytest.approx(by_hand, rel=1e-5)


def test_faces_at_one_age_and_at_all(model):
    faces = make_fields(model, 3)["images"]
    every = model.age(faces)
    assert every.shape == (3, 10, *faces.shape[1:])
    np.testing.assert_allclose(model.age(faces, [1, 5, 9]), every[[0, 1, 2], [1, 5, 9]], atol=1e-6)
    np.testing.assert_allclose(model.age(faces[0], 4)[0], every[0, 4], atol=1e-6)
    network = model.endpoints["age"].run({"images": faces, "ages": np.array([1, 5, 9], "int32")})
    np.testing.assert_allclose(network["aged"], model.age(faces, [1, 5, 9]), atol=1e-6)
    assert np.abs(every[:, 0] - every[:, 9]).max() > 0
    assert model.generate(10, ages=range(10)).shape == (10, *faces.shape[1:])
    for ages in (10, [0, 1], 2.5):
        with pytest.raises(ValueError, match="labels: expected"):
            model.age(faces, ages)
    with pytest.raises(BatchError, match="0..255"):
        model.age(np.round(255 * np.abs(faces)))


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="cannot be halved 5 times"):
        CAAEConfig(image_size=100)
    with pytest.raises(ConfigError, match="generator_width"):
        CAAEConfig(generator_width=32)


def test_trained_faces_age_and_stay_themselves():
    examples = held_out("caae.strokes", 512)
    found = zoo.get("caae.strokes", weights="pretrained").measure(examples)
    untrained = zoo.get("caae.strokes").measure(examples)
    for measure, margin in (("age_accuracy", 0.05), ("identity_accuracy", 0.4)):  # ages: chance is 0.28
        assert found[measure] > max(found[f"{measure}_baseline"], untrained[measure]) + margin
    assert found["reconstruction_l1"] < 0.6 * found["reconstruction_l1_baseline"]
    assert found["ink_correlation"] > max(0.8, untrained["ink_correlation"] + 0.3)
    assert found["ink_error"] < 0.5 * min(found["ink_error_baseline"], untrained["ink_error"])


def test_measures_of_age_by_hand(monkeypatch):
    """A decoder that draws a bar of as many pixels as the age, and one more; and one that knows no ages."""

    def drawn(ages, more=0):
        images = np.full((len(ages), 16, 16, 1), 0.5, "float32")
        for image, age in zip(images, ages):
            image[8, : age + more] = -0.5
        return images

    model = tiny("caae", channels=1, image_size=16)
    ages = np.repeat(np.arange(10), 2)
    examples = {"images": drawn(ages), "ages": ages}
    np.testing.assert_allclose(caae.ink(examples["images"]), ages / 256, atol=1e-6)
    monkeypatch.setattr(model, "_decode", lambda codes, ages, batch_size: drawn(ages, more=1))
    found = model.measure(examples)
    assert found["ink_correlation"] == pytest.approx(1)
    assert found["ink_error"] == pytest.approx(1 / 256)
    assert found["ink_error_baseline"] == pytest.approx(2.5 / 256)  # from 4.5 to 0 ... 9
    assert found["age_accuracy"] == found["age_accuracy_data"] == 1
    targets = [(age + k % 9 + 1) % 10 for k, age in enumerate(ages)]
    chance = np.mean([abs(age - target) <= 1 for age in ages for target in targets])
    assert found["age_accuracy_baseline"] == pytest.approx(chance)
    monkeypatch.setattr(model, "_decode", lambda codes, ages, batch_size: drawn(np.full(len(ages), 4)))
    found = model.measure(examples)
    assert found["ink_correlation"] == 0
    assert found["ink_error"] == pytest.approx(2.5 / 256)
    assert found["age_accuracy_data"] == 1
    alone = {"images": drawn([0, 5, 9]), "ages": np.array([0, 5, 9])}
    assert model.measure(alone)["age_accuracy_data"] == 0  # the nearest other one is of a distant age


# -------------------------------------------------------------------- data


def load(name, **options):
    return zoo.load_dataset(name, view="ages", image_size=32, shuffle=False, **options)


def test_strokes_thicken_with_age():
    batch = next(iter(load("strokes", channels=1, batch_size=400, num_examples=400)))
    images = batch["images"].numpy()
    ink = (images.max() - images).mean(axis=(1, 2, 3))  # darker than the paper
    ages, labels = batch["ages"].numpy(), batch["labels"].numpy()
    assert set(ages) == set(labels) == set(range(10))
    means = [ink[ages == age].mean() for age in range(10)]
    assert (np.diff(means) > 0).all()
    assert means[9] > 3 * means[0]


def test_ages_in_years_become_bins():
    years = np.array([0, 5, 6, 10, 11, 15, 16, 20, 21, 30, 31, 70, 71, 116])
    assert aged.bin_of(years).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 8, 9, 9]


def test_folders_named_like_utkface(tmp_path):
    for k in range(20):
        face = Image.new("RGB", (40, 40), (12 * k, 0, 0))
        face.save(tmp_path / f"{5 * k}_{k % 2}_0_201701161745{k:05}.jpg.chip.jpg", quality=95)
    (tmp_path / "readme.txt").write_text("no face")
    batch = next(iter(load(f"utkface:{tmp_path}", batch_size=20, split="all")))
    order = np.argsort(batch["images"].numpy()[:, 16, 16, 0])
    assert batch["ages"].numpy()[order].tolist() == aged.bin_of(5 * np.arange(20)).tolist()
    assert batch["labels"].numpy()[order].tolist() == [0, 1] * 10
    assert next(iter(load(f"utkface:{tmp_path}", batch_size=2, split="test")))["ages"].shape == (2,)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="AGE_GENDER_RACE_DATE"):
        load(f"utkface:{tmp_path / 'empty'}")


def test_listed_for_faces():
    assert "caae" in zoo.list_models("face")
    assert zoo.get("caae.utkface").config == CAAEConfig()
