"""What the LAPGAN paper claims: an exact pyramid, independent levels, D sees the sum, the sampling chain."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, held_out, make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models.lapgan import (
    LAPGAN,
    LAPGANConfig,
    build_discriminator,
    build_generator,
    gaussian_pyramid,
    laplacian_pyramid,
    reconstructed,
    resized,
    split_latents,
)

CLASSES = {"num_classes": 3}


def pictures(count, size, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, size, size, channels)).astype("float32")


@pytest.mark.parametrize("sizes", [(8, 16, 32), (7, 14, 28), (8, 14, 28), (8, 16, 32, 64, 96)])
def test_a_pyramid_puts_pictures_together_again(sizes):
    images = pictures(2, sizes[-1])
    pyramid = laplacian_pyramid(images, sizes)
    assert [level.shape[1:] for level in pyramid] == [(size, size, 3) for size in sizes]
    np.testing.assert_allclose(reconstructed(pyramid), images, atol=1e-6)
    np.testing.assert_array_equal(pyramid[0], gaussian_pyramid(images, sizes)[0])


def test_shrinking_is_the_mean_of_four_pixels_and_enlarging_is_smooth():
    images = pictures(2, 8)
    means = images.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(resized(images, 4), means, atol=1e-6)
    row = np.asarray(resized(np.array([0.0, 1.0]).reshape(1, 1, 2, 1).repeat(2, axis=1), 4))[0, 0, :, 0]
    np.testing.assert_allclose(row, [0.0, 0.25, 0.75, 1.0])
    flat = np.full((1, 8, 8, 3), 0.3, "float32")
    np.testing.assert_allclose(laplacian_pyramid(flat, (4, 8))[1], 0, atol=1e-7)


@pytest.mark.parametrize("classes", [{}, CLASSES])
def test_samples_are_made_from_coarse_to_fine(classes):
    """J_K = G_K(z_K), J_k = u(J_k+1) + G_k(z_k, u(J_k+1)), with every level's own part of the latents."""
    model = tiny("lapgan", level_sizes=(5, 10, 20), **classes)
    inputs = model.sample_inputs(3, seed=4)
    latents, labels = (inputs["latents"], {"labels": inputs["labels"]}) if classes else (inputs, {})
    assert latents.shape == (3, 4 + 100 + 400)
    top, *planes = np.split(np.asarray(latents), [4, 104], axis=1)
    top = tf.constant(top)
    images = model.generator_5({"latents": top, **labels})
    chain = [images]
    for size, plane in zip((10, 20), planes):
        coarse = tf.image.resize(images, (size, size))
        plane = tf.constant(plane.reshape(3, size, size, 1))
        generator = getattr(model, f"generator_{size}")
        images = coarse + generator({"noise": plane, "coarse": coarse, **labels})
        chain.append(images)
    given = {"labels": np.asarray(labels["labels"])} if classes else {}
    for level, expected in zip(model.generate_levels(3, seed=4, **given), chain):
        np.testing.assert_allclose(level, np.clip(expected, -1, 1), atol=1e-5)
    np.testing.assert_allclose(model.generate(3, seed=4, **given), np.clip(chain[-1], -1, 1), atol=1e-5)


def test_the_same_coarse_picture_gets_other_details_with_other_noise():
    model = tiny("lapgan")
    coarse = pictures(1, 6, channels=1)
    one, again, other = (model.refine(coarse, seed=seed) for seed in (1, 1, 2))
    assert one.shape == (1, 12, 12, 1)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0
    plane = split_latents(model.sample_inputs(1, seed=1), model.config)[1]
    enlarged = resized(coarse, 12)
    expected = enlarged + model.generator_12({"noise": plane, "coarse": enlarged})
    np.testing.assert_allclose(one, np.clip(expected, -1, 1), atol=1e-6)
    with pytest.raises(BatchError, match="expected float32"):
        model.refine(pictures(1, 12, channels=1))


def test_refining_by_class():
    model = tiny("lapgan", **CLASSES)
    images = model.refine(pictures(2, 6, channels=1), labels=[0, 2])
    assert images.shape == (2, 12, 12, 1)
    with pytest.raises(ValueError, match="integers from 0 to 2"):
        model.refine(pictures(2, 6, channels=1), labels=3)


def losses_by_hand(real_logits, fake_logits):
    def mean_log(logits):
        return np.mean(np.log(1 / (1 + np.exp(-np.asarray(logits)))))

    d_loss = -0.5 * mean_log(real_logits) - 0.5 * mean_log(-np.asarray(fake_logits))
    return d_loss, -mean_log(fake_logits)


def test_losses_of_each_level_and_that_d_sees_the_sum():
    model = tiny("lapgan")
    images = make_fields(model, 4)["images"]
    top, plane = split_latents(model.latents("validation", 4), model.config)
    small = resized(images, 6)
    coarse = resized(small, 12)
    fakes = {6: model.generator_6({"latents": top}),
             12: coarse + model.generator_12({"noise": plane, "coarse": coarse})}  # fmt: skip
    logs = model.evaluate(images, verbose=0, return_dict=True)
    for size, real in ((6, small), (12, images)):
        judge = getattr(model, f"discriminator_{size}")
        expected = losses_by_hand(*(judge({"images": x}) for x in (real, fakes[size])))
        assert (logs[f"d_loss_{size}"], logs[f"g_loss_{size}"]) == pytest.approx(expected, rel=1e-5)
    assert logs["d_loss"] == pytest.approx((logs["d_loss_6"] + logs["d_loss_12"]) / 2, rel=1e-5)


def test_a_level_learns_the_same_whatever_the_others_do():
    """Levels are independent: other weights at the top change nothing further down."""
    finest = []
    for scale in (1.0, 3.0):
        model = tiny("lapgan")
        for network in (model.generator_6, model.discriminator_6):
            for variable in network.trainable_variables:
                variable.assign(scale * variable)
        model.run_eagerly = True
        model.fit(make_dataset(model, 2), verbose=0)
        finest.append([v.numpy() for v in model.generator_12.weights + model.discriminator_12.weights])
    assert difference(*finest) == 0.0


def test_refining_generators_take_a_plane_of_noise_and_have_the_tables_layers():
    config = LAPGANConfig()
    generator, discriminator = build_generator(config, 16), build_discriminator(config, 16)
    assert {x.name: tuple(x.shape) for x in generator.inputs} == {
        "noise": (None, 16, 16, 1), "coarse": (None, 16, 16, 3),
    }  # fmt: skip
    convs = [x for network in (generator, discriminator) for x in network.layers if hasattr(x, "filters")]
    assert [(x.kernel_size[0], x.filters, x.strides[0], x.padding, x.activation.__name__) for x in convs] == [
        (7, 64, 1, "same", "relu"), (7, 64, 1, "same", "relu"), (5, 3, 1, "same", "linear"),
        (5, 64, 1, "valid", "relu"), (5, 64, 2, "valid", "relu"),
    ]  # fmt: skip
    assert convs[-1].output.shape[1:] == (4, 4, 64)


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def test_counts_by_class_and_width():
    model = LAPGAN(LAPGANConfig(num_classes=10))
    assert {name: trainable(model.networks[name]) for name in
            ("generator_8", "discriminator_8", "generator_32", "discriminator_32")} == {
        "generator_8": 1_804_992, "discriminator_8": 483_001,
        "generator_32": 232_579, "discriminator_32": 129_409,
    }  # fmt: skip
    wide = LAPGANConfig(width=128)
    assert trainable(build_generator(wide, 32)) == 837_763
    assert trainable(build_discriminator(wide, 32)) == 437_889


def test_class_planes_have_weights_of_their_own():
    model = tiny("lapgan", **CLASSES)
    planes = [
        layer.kernel for network in (model.generator_12, model.discriminator_12)
        for layer in network.layers if getattr(layer, "units", None) == 144
    ]  # fmt: skip
    assert len(planes) == 2
    assert planes[0] is not planes[1]
    label_changes = [np.abs(model.generate(2, seed=0, labels=k) - model.generate(2, seed=0, labels=0)).max()
                     for k in (1, 2)]  # fmt: skip
    assert min(label_changes) > 0


def test_by_class_it_trains_and_is_saved(tmp_path):
    model = tiny("lapgan", **CLASSES)
    model.run_eagerly = True
    history = model.fit(make_dataset(model, 2), verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    with pytest.raises(BatchError, match="has no 'labels'"):
        model.fit(make_fields(model, 4)["images"], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.generate(3, labels=[0, 1, 2]), model.generate(3, labels=[0, 1, 2]))


def test_optimizers():
    adam = tiny("lapgan", optimizer="adam", learning_rate=5e-4).player_optimizer("generator_12")
    assert (float(adam.learning_rate), adam.beta_1) == (pytest.approx(5e-4), 0.5)
    optimizer = LAPGAN(LAPGANConfig(level_sizes=(8, 16), width=2)).make_optimizer("generator_8")
    rates = [float(optimizer._learning_rate(390 * epoch)) for epoch in (0, 100)]
    assert rates == pytest.approx([0.02, 0.02 / (1 + 4e-5) ** 100], rel=1e-4)
    moments = [float(optimizer.momentum_at(390 * epoch)) for epoch in (1, 188, 375, 400)]
    assert moments == pytest.approx([0.5, 0.65, 0.8, 0.8], abs=1e-3)


def test_measure_compares_samples_with_the_pictures_they_are_made_from():
    model = tiny("lapgan")
    coarse, fine = model.generate_levels(5)
    results = model.measure({"images": pictures(5, 12, 1), "labels": np.arange(5)})
    assert results["coarse_l1"] == pytest.approx(np.abs(np.asarray(resized(fine, 6)) - coarse).mean())
    assert {"classes", "coarse_l1_baseline"} < set(results)


@pytest.mark.parametrize("sizes, message", [
    ((32,), "two or more sizes"), ((8, 8), "each larger"), ((8, 17), "at most twice"),
    ((4, 8), "the second must be 9 or more"),
])  # fmt: skip
def test_impossible_levels_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=message):
        LAPGANConfig(level_sizes=sizes)


def test_published_samples_are_of_their_class_and_look_like_what_they_are_made_from():
    """Class accuracy is by the packaged classifier, which has seen real clothes only."""
    examples = held_out("lapgan.fashion_mnist", 500)
    found = zoo.get("lapgan.fashion_mnist", weights="pretrained").measure(examples)
    untrained = zoo.get("lapgan.fashion_mnist").measure(examples)
    assert found["class_accuracy"] > 0.65 > 0.3 > untrained["class_accuracy"]
    assert found["coarse_l1"] < found["coarse_l1_baseline"] / 3
