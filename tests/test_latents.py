"""Latent tools: interpolation, walks, truncation, arithmetic, neighbours, inversion and sweeps."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny
from PIL import Image
from scipy import stats

import tf_gan_zoo as zoo
from tf_gan_zoo import cli, latents, present
from tf_gan_zoo import train as training
from tf_gan_zoo.latents import LatentError
from tf_gan_zoo.latents.inversion import longest
from tf_gan_zoo.metrics import tasks


@functools.cache
def pretrained(name):
    return zoo.get(name, weights="pretrained")


class Painter:
    """Paints its two latents as gray levels; a label is painted behind them."""

    batch_spec = {}
    zoo_name = "painter"

    class config:  # noqa: N801
        latent_size = 2
        latent_distribution = "normal"

    def sample_inputs(self, count, seed, labels=None):
        drawn = np.random.default_rng(seed).normal(size=(count, 2)).astype("float32")
        chosen = np.arange(count) if labels is None else np.broadcast_to(labels, count)
        return {"latents": drawn, "labels": chosen.astype("int32")}

    def run(self, inputs):
        painted = np.concatenate([inputs["latents"], np.asarray(inputs["labels"])[:, None]], axis=1)
        return painted[:, None, :, None].astype("float32")


# -------------------------------------------------------------------- ways


def test_slerp_keeps_to_the_great_arc():
    start, end = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    path = latents.slerp(start, end, [0.0, 1 / 3, 0.5, 1.0])
    half = np.sqrt(2.0)
    np.testing.assert_allclose(path, [[2, 0], [np.sqrt(3), 1], [half, half], [0, 2]], atol=1e-6)


def test_slerp_of_parallel_vectors_is_a_straight_line():
    start = np.array([1.0, 2.0])
    np.testing.assert_allclose(latents.slerp(start, start, [0.0, 0.5, 1.0]), [start] * 3)
    np.testing.assert_allclose(latents.slerp(start, -start, [0.0, 0.5, 1.0]), [start, 0 * start, -start])


def test_interpolations_take_many_ways_at_once():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 16))
    fractions = np.linspace(0, 1, 7)
    for way in (latents.lerp, latents.slerp):
        paths = way(a, b, fractions)
        assert paths.shape == (5, 7, 16)
        np.testing.assert_array_equal(paths[3], way(a[3], b[3], fractions))
        np.testing.assert_allclose(paths[:, 0], a, rtol=1e-6)
        np.testing.assert_allclose(paths[:, -1], b, rtol=1e-6)
    np.testing.assert_allclose(latents.lerp(a, b, [0.25])[:, 0], 0.75 * a + 0.25 * b, rtol=1e-5, atol=1e-6)
    with pytest.raises(LatentError, match="one shape"):
        latents.slerp(a, b[:, :3], fractions)


def test_a_tour_visits_its_keys_and_closes():
    keys = np.random.default_rng(0).normal(size=(3, 16))
    path = latents.closed_walk(keys, 10)
    assert path.shape == (30, 16)
    np.testing.assert_allclose(path[::10], keys, atol=1e-6)
    assert closed_steps(path).max() < 0.4 * np.linalg.norm(keys[0] - keys[1])


def test_a_great_circle_has_one_length_and_one_speed():
    start, toward = np.random.default_rng(0).normal(size=(2, 64))
    circle = latents.great_circle(start, toward, 90)
    radius = np.linalg.norm(start)
    np.testing.assert_allclose(circle[0], start, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), radius, rtol=1e-6)
    np.testing.assert_allclose(closed_steps(circle), 2 * radius * np.sin(np.pi / 90), rtol=1e-4)
    assert np.linalg.matrix_rank(np.vstack([circle, toward]), tol=1e-4) == 2
    with pytest.raises(LatentError, match="parallel"):
        latents.great_circle(start, 2 * start, 90)


def closed_steps(path):
    """Distances of each point to the next, and of the last to the first."""
    return np.linalg.norm(path - np.roll(path, -1, axis=0), axis=1)


def test_walks_hold_labels_and_codes():
    frames = latents.latent_walk(Painter(), num_keys=3, frames_per_leg=4, num_walks=1)
    assert frames.shape == (12, 1 + 4, 3 + 4, 3)  # a margin of 2
    assert (frames[:, 2, 4] == frames[0, 2, 4]).all()
    model = tiny("infogan")
    seen = []
    run, model.run = model.run, lambda inputs: seen.append(np.asarray(inputs)) or run(inputs)
    assert latents.sphere_walk(model, num_frames=5, num_walks=2).shape[0] == 5
    for inputs in seen:
        noise, codes = np.split(inputs, [model.config.latent_size], axis=1)
        assert (codes == codes[0]).all()
        assert np.ptp(noise, axis=0).min() > 0


def test_interpolated_pictures_go_from_start_to_end():
    model = tiny("dcgan")
    ends = latents.latents_of(model, latents.sample(model, 4, seed=1))
    images = latents.interpolate(model, ends[:2], ends[2:], steps=3)
    assert images.shape == (2, 3, 16, 16, 3)
    np.testing.assert_allclose(images[:, 0], latents.pictures(model, ends[:2]), atol=1e-5)
    np.testing.assert_allclose(images[:, 2], latents.pictures(model, ends[2:]), atol=1e-5)
    one = latents.interpolate(model, ends[0], ends[2], steps=3, how="lerp")
    middle = latents.pictures(model, (ends[0] + ends[2]) / 2)[0]
    np.testing.assert_allclose(one[1], middle, atol=1e-5)
    with pytest.raises(LatentError, match="slerp or lerp"):
        latents.interpolate(model, ends[0], ends[2], how="cubic")


def test_the_fashion_walk_morphs_smoothly():
    frames = latents.sphere_walk(pretrained("dcgan.fashion_mnist"), num_walks=16, num_frames=96).astype(float)
    changes = np.sqrt(np.square(frames - np.roll(frames, -1, axis=0)).mean((1, 2, 3)))
    assert changes.max() < 2 * changes.mean()
    assert 0.5 < changes[-1] / changes.mean() < 2  # the last frame leads to the first
    far = np.sqrt(np.square(frames - np.roll(frames, 48, axis=0)).mean((1, 2, 3)))
    assert far.min() > 4 * changes.max()  # it moves: the other side of the sphere shows other clothes


# -------------------------------------------------------------------- the prior


def test_truncated_normal_latents_are_truncated_normal():
    drawn = np.random.default_rng(0).normal(size=20_000)
    for threshold in (0.5, 1.5, 3.0):
        cut = latents.truncated(drawn, threshold)
        assert np.abs(cut).max() <= threshold
        assert stats.kstest(cut, stats.truncnorm(-threshold, threshold).cdf).pvalue > 0.01
        assert (np.argsort(cut[:100]) == np.argsort(drawn[:100])).all()
    np.testing.assert_allclose(latents.truncated(drawn, 9.0), drawn, atol=1e-5)
    assert np.isfinite(latents.truncated([-50.0, 50.0], 2.0)).all()
    with pytest.raises(LatentError, match="above 0"):
        latents.truncated(drawn, 0.0)


def test_truncated_uniform_latents_are_uniform_within():
    drawn = np.random.default_rng(0).uniform(-1, 1, 10_000)
    np.testing.assert_allclose(latents.truncated(drawn, 0.3, "uniform"), 0.3 * drawn, rtol=1e-6)
    np.testing.assert_allclose(latents.truncated(drawn, 2.0, "uniform"), drawn, rtol=1e-6)


def test_toward_mean_shrinks_around_the_mean():
    np.testing.assert_allclose(latents.toward_mean([3.0, 5.0], 0.5, [1.0, 1.0]), [2.0, 3.0])
    np.testing.assert_allclose(latents.toward_mean([3.0, 5.0], 0.0), [0.0, 0.0])


def test_sampling_is_the_models_own_and_takes_a_truncation():
    model = tiny("dcgan")
    np.testing.assert_array_equal(latents.sample(model, 3, seed=5), model.sample_inputs(3, 5))
    cut = latents.latents_of(model, latents.sample(model, 3, seed=5, truncation=0.5))
    assert np.abs(cut).max() <= 0.5


def test_sample_grids_take_a_truncation():
    model = tiny("infogan")
    plain = training.sample_grid(model, 4, 0)
    np.testing.assert_array_equal(plain, training.sample_grid(model, 4, 0, truncation=5.0))
    images = model.run(latents.sample(model, 4, 0, truncation=0.2, labels=1))
    expected = present.image_grid(images, value_range=(0, 1), labels=[1] * 4)
    np.testing.assert_array_equal(training.sample_grid(model, 4, 0, [1], 0.2), expected)


def test_typical_norm_is_that_of_drawn_latents():
    for distribution in ("normal", "uniform"):
        model = tiny("dcgan", latent_size=200, latent_distribution=distribution)
        drawn = latents.latents_of(model, latents.sample(model, 2000))
        measured = np.sqrt(np.square(drawn).sum(1).mean())
        assert latents.typical_norm(model) == pytest.approx(measured, rel=0.01)
        scaled = latents.rescaled(model, 0.1 * drawn[0])
        assert np.linalg.norm(scaled) == pytest.approx(latents.typical_norm(model), rel=0.05)
        if distribution == "uniform":
            assert np.abs(latents.rescaled(model, np.eye(200)[0])).max() == 1.0


def test_latents_that_do_not_fit_are_errors():
    model = tiny("infogan")
    with pytest.raises(LatentError, match=r"\(count, 6\).*codes="):
        latents.pictures(model, np.zeros((2, 17)))
    with pytest.raises(LatentError, match="finite"):
        latents.pictures(model, np.full(6, np.nan))
    with pytest.raises(LatentError, match="takes labels and codes, not 'style'"):
        latents.sample(model, 2, style=3)
    with pytest.raises(LatentError, match="0 to"):
        latents.sample(model, 2, labels=99)
    with pytest.raises(LatentError, match="has no latents.*translate"):
        latents.sample(tiny("pix2pix"), 2)


# -------------------------------------------------------------------- arithmetic


def by_signs(pictures):
    """Labels a painter's pictures: which of the two latents are positive."""
    words = np.where(pictures[:, 0, :2, 0] > 0, ["left", "right"], ["dark", "gray"])
    return latents.Labels(np.array([f"a {a} {b}" for a, b in words]), -np.abs(pictures[:, 0, 0, 0]))


def test_means_are_those_of_the_surest_samples():
    labelled = latents.label_samples(Painter(), by_signs, 500)
    chosen = labelled.latents[(labelled.latents > 0).all(1)]
    np.testing.assert_allclose(labelled.mean("right left", None), chosen.mean(0), rtol=1e-5)
    surest = chosen[np.argsort(-chosen[:, 0])[:10]]
    np.testing.assert_allclose(labelled.mean("left right", 10), surest.mean(0), rtol=1e-5)
    np.testing.assert_array_equal(labelled.surest("left not gray", 10), surest)
    for term, words in [("lft", "Did you mean 'left'"), ("left dark", "draw more"), ("a", "no label")]:
        with pytest.raises(LatentError, match=words):
            labelled.mean(term)


def test_numbers_are_labels_too():
    drawn = np.arange(6.0).reshape(3, 2)
    labelled = latents.LabelledLatents(drawn, np.array([1, 0, 1]), np.zeros(3))
    np.testing.assert_array_equal(labelled.mean("1"), [2, 3])
    with pytest.raises(LatentError, match=r"'shoe'.*\[0, 1\]"):
        labelled.mean("shoe")


def test_arithmetic_is_that_of_vectors_at_the_typical_length():
    model = tiny("dcgan", latent_distribution="normal")
    x, y, z = np.eye(8)[:3]
    result = latents.arithmetic(model, 2 * x, y, 2 * z)
    np.testing.assert_allclose(result, (2 * x - y + 2 * z) * np.sqrt(8 / 9), rtol=1e-5, atol=1e-6)
    assert latents.arithmetic(model, [x] * 2, [y] * 2, [z] * 2).shape == (2, 8)
    more = latents.add(model, [x, z], 0.01 * y, strength=1.0)
    np.testing.assert_allclose(more, [2 * (x + y), 2 * (z + y)], rtol=1e-5, atol=1e-6)


def test_a_direction_averages_over_contexts():
    words = ["a bold x", "a thin x", "a bold y", "a thin y", "a bold z"]
    drawn = np.array([[3.0, 1.0], [1.0, 0.0], [5.0, 2.0], [4.0, 4.0], [9.0, 9.0]])
    labelled = latents.LabelledLatents(drawn, np.array(words), np.zeros(5))
    direction = labelled.direction("bold", "thin", ["x", "y", "z"])
    np.testing.assert_allclose(direction, [(2 + 1) / 2, (1 - 2) / 2])  # z was never thin
    with pytest.raises(LatentError, match="no context"):
        labelled.direction("bold", "thin", ["z"])
    sheet = latents.direction_sheet(Painter(), labelled, ("bold", "thin", "thin"), "xyz")
    assert sheet.shape == (3 * (19 + 2) + 2, 2 * (3 * 19 + 2) + 2, 3)


def test_arithmetic_sheet_has_four_columns():
    labelled = latents.label_samples(Painter(), by_signs, 200)
    terms = ("left right", "right dark", "gray dark")
    picture = latents.arithmetic_sheet(Painter(), labelled, terms, num_examples=2)
    scale = 38  # three pixels become as wide as a title
    assert picture.shape == (14 + 3 * (scale + 2) + 2, 4 * (3 * scale + 2) + 2, 3)


def test_a_classifier_labels_generated_clothes():
    model = pretrained("infogan.fashion_mnist")
    label = latents.label_by_classifier("fashion_mnist", present.output_range(model))
    seen = label(model.generate(64, labels=1, codes=[0.0, 0.0]))
    assert seen.labels.shape == (64,)
    assert np.bincount(seen.labels).max() > 40  # one category is one or two kinds of clothes
    assert (seen.doubts >= 0).all()


# -------------------------------------------------------------------- neighbours


@pytest.mark.parametrize("batch_size", [3, 7, 100])
def test_neighbours_are_those_of_a_full_comparison(batch_size):
    rng = np.random.default_rng(0)
    queries, images = rng.uniform(-1, 1, (4, 5, 6, 2)), rng.uniform(-1, 1, (40, 5, 6, 2))
    fields = {"images": images.astype("float32"), "labels": np.arange(40)}
    dataset = tf.data.Dataset.from_tensor_slices(fields).batch(batch_size)
    found = latents.nearest(queries, dataset, 5, fields=["labels"])
    distances = np.sqrt(np.square(queries[:, None] - images[None]).mean((2, 3, 4)))
    order = np.argsort(distances, axis=1)[:, :5]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_array_equal(found.values["labels"], order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(distances, order, 1), rtol=1e-5)
    np.testing.assert_allclose(found.pictures, images[order], rtol=1e-6)
    index, distance = tasks.nearest_neighbours(queries, images)
    np.testing.assert_array_equal(found.indices[:, 0], index)
    np.testing.assert_allclose(found.distances[:, 0], distance, rtol=1e-5)


def test_a_memorised_picture_has_distance_zero():
    images = np.random.default_rng(0).uniform(-1, 1, (20, 28, 28, 1)).astype("float32")
    found = latents.nearest(images[[7]], [images[:12], images[12:]], 1)
    assert (found.indices.item(), found.distances.item()) == (7, 0.0)


def test_neighbours_in_features():
    images = np.array([[0.0, 9.0], [5.0, 1.0], [1.0, 2.0]]).reshape(3, 1, 2, 1)
    first = lambda x: x[:, 0, 0]  # noqa: E731
    found = latents.nearest(images[[0]] + [[[0.9], [0.0]]], [images], 2, features=first)
    np.testing.assert_array_equal(found.indices, [[2, 0]])
    np.testing.assert_allclose(found.distances, [[0.1, 0.9]], rtol=1e-5)
    sheet = latents.neighbour_sheet(images[[0]], found, (0, 9))
    assert sheet.shape == (28 + 2 + 14 + 2, 3 * (56 + 2) + 2, 3)


def test_neighbours_say_what_is_wrong_with_the_data():
    images = np.zeros((4, 8, 8, 1), "float32")
    endless = tf.data.Dataset.from_tensor_slices({"images": images}).batch(2).repeat()
    for data, k, words in [
        (endless, 1, "never end"), ([images[:, :4]], 1, "image_size"), ([images], 5, "4 pictures"),
        ([{"inputs": images}], 1, "no 'images'"), ([images], 0, "at least 1"),
    ]:  # fmt: skip
        with pytest.raises(LatentError, match=words):
            latents.nearest(images[:1], data, k)


# -------------------------------------------------------------------- inversion


def test_inversion_finds_generated_pictures_again():
    model = pretrained("dcgan.fashion_mnist")
    pictures = np.concatenate([model.generate(2, seed=seed) for seed in range(1000, 1004)])
    found = latents.invert(model, pictures, num_steps=200, num_starts=4)
    assert found.psnr.min() > 25.0
    errors = np.square(found.pictures - pictures).mean((1, 2, 3))
    np.testing.assert_allclose(found.psnr, 10 * np.log10(4.0 / errors), rtol=1e-5)
    assert np.linalg.norm(found.latents, axis=1).max() <= longest(model) + 1e-4
    np.testing.assert_allclose(model.run(found.inputs), found.pictures, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan.fashion_mnist", "wgan_gp.fashion_mnist", "infogan.fashion_mnist"])
def test_inversion_finds_pictures_of_many_seeds(name):
    model = pretrained(name)
    for seed in range(100, 108):
        assert latents.invert(model, model.generate(8, seed=seed)).psnr.min() > 25.0


def test_inversion_keeps_codes_and_the_box_of_uniform_latents():
    model = tiny("infogan")
    picture = np.random.default_rng(0).uniform(0, 1, model.batch_spec["images"].shape)
    few = {"num_steps": 1, "num_starts": 2, "num_candidates": 8}
    found = latents.invert(model, picture, **few, learning_rate=1e4, labels=2, codes=[0.5, -0.5])
    size = model.config.latent_size
    assert found.latents.shape == (1, size)
    assert np.abs(found.latents).max() == 1.0
    np.testing.assert_array_equal(found.inputs[:, size:], model.sample_inputs(1, 0, 2, [0.5, -0.5])[:, size:])


def test_inversion_can_compare_features():
    model = tiny("dcgan")
    picture = model.generate(1, seed=3)
    few = {"num_steps": 5, "num_starts": 1, "num_candidates": 8}
    plain = latents.invert(model, picture, **few)
    features = functools.partial(tf.reduce_mean, axis=(1, 2))
    weighted = latents.invert(model, picture, **few, features=features, feature_weight=1e3)
    assert np.abs(plain.latents - weighted.latents).max() > 1e-3
    with pytest.raises(LatentError, match="num_starts"):
        latents.invert(model, picture, num_starts=9, num_candidates=8)


# -------------------------------------------------------------------- sweeps


def test_a_code_sweep_changes_one_code():
    model = tiny("infogan")
    values, labels = [-2.0, 0.0, 2.0], [2, 1]
    cells = latents.code_sweep(model, 1, values, labels, seed=4)
    noise = latents.latents_of(model, model.sample_inputs(1, 4))
    for row, label in enumerate(labels):
        for column, value in enumerate(values):
            alone = latents.pictures(model, noise, labels=label, codes=[0.0, value])[0]
            np.testing.assert_allclose(cells[row, column], alone, atol=1e-5)
    assert latents.code_sweep(model).shape[:2] == (model.config.categories[0], 10)
    with pytest.raises(LatentError, match="0 to 1"):
        latents.code_sweep(model, 2)
    with pytest.raises(LatentError, match="no continuous codes"):
        latents.code_sweep(tiny("dcgan"))


def test_a_class_sweep_has_classes_in_rows_and_noises_in_columns():
    model = tiny("infogan")
    cells = latents.class_sweep(model, [2, 0], 3, seed=4)
    noises = latents.latents_of(model, model.sample_inputs(3, 4))
    expected = [latents.pictures(model, noises, labels=label, codes=[0.0, 0.0]) for label in (2, 0)]
    np.testing.assert_allclose(cells, expected, atol=1e-5)
    with pytest.raises(LatentError, match="0 to"):
        latents.class_sweep(model, [99])
    with pytest.raises(LatentError, match="no labels"):
        latents.class_sweep(tiny("dcgan"))
    painted = latents.class_sweep(Painter(), [5, 7], 2)
    np.testing.assert_array_equal(painted[:, :, 0, 2, 0], [[5, 5], [7, 7]])


def test_several_categorical_codes_and_none():
    several = tiny("infogan", num_categories=(3, 4), num_continuous=1)
    assert latents.class_sweep(several, num_columns=2).shape[:2] == (3, 2)
    none = tiny("infogan", num_categories=(), num_continuous=1)
    cells = latents.code_sweep(none, values=[-1.0, 1.0], num_rows=3)
    assert cells.shape[:2] == (3, 2)
    assert np.abs(cells[0] - cells[1]).max() > 0  # rows differ in their noise
    assert latents.sweep_sheet(none, cells).ndim == 3


# -------------------------------------------------------------------- the shell


@pytest.fixture(scope="module")
def letters_model():
    options = {"num_examples": 80, "characters": "AB"}
    return tiny("dcgan", data="glyphs", data_options=options, channels=1)


@pytest.fixture
def shell(monkeypatch, tmp_path, capsys, letters_model):
    """Runs a command in a new folder: (what it printed, its error, the picture it wrote)."""
    monkeypatch.chdir(tmp_path)

    def call(command, *arguments, model=letters_model):
        monkeypatch.setattr(training, "load_model", lambda name, weights: model)
        with pytest.raises(SystemExit):
            cli.main([command, "dcgan", *map(str, arguments)])
        printed = capsys.readouterr()
        written = [line for line in printed.out.split() if line.endswith((".png", ".gif"))]
        return printed.out, printed.err, Image.open(written[-1]) if written else None

    return call


def test_shell_interpolate_and_walk(shell, letters_model):
    _, _, gif = shell("interpolate", "--rows", 2, "--steps", 3, "--truncation", 1.0)
    assert gif.n_frames == 18
    _, _, png = shell("interpolate", "--rows", 2, "--steps", 5, "--how", "lerp", "--out", "a.png")
    assert png.size == (5 * 18 + 2, 2 * 18 + 2)
    _, _, gif = shell("walk", "--frames", 6, "--walks", 1, "--enlarge", 3, "--fps", 10)
    assert (gif.n_frames, gif.size, gif.info["duration"]) == (6, (60, 60), 100)
    assert "slerp or lerp" in shell("interpolate", "--how", "cubic", "--out", "b.png")[1]
    assert ".gif or .mp4" in shell("walk", "--out", "b.avi")[1]


def test_shell_arithmetic(shell):
    terms = ["letter", "not italic", "letter not italic"]  # of an untrained model there is not much to say
    out, _, png = shell("arithmetic", *terms, "--samples", 50)
    assert png.size == (4 * (112 + 2) + 2, 14 + 4 * (112 + 2) + 2)
    assert "nearest to the result: 'a" in out
    _, _, png = shell("arithmetic", *terms, "--samples", 50, "--over", "letter,bald")
    assert png.size == (64 + 4, 3 * (64 + 2) + 2)
    _, error, _ = shell("arithmetic", "lettr", *terms[1:], "--samples", 50)
    assert "Did you mean 'letter'" in error


def test_shell_neighbours(shell):
    out, _, png = shell("neighbours", "--count", 2, "-k", 3, "--split", "test")
    assert png.size == (4 * (64 + 2) + 2, 2 * (64 + 2 + 14) + 2)
    assert "on average" in out


def test_shell_invert(shell, letters_model):
    picture = present.to_uint8(letters_model.generate(1, seed=1)[0, ..., 0])
    Image.fromarray(picture).save("given.png")
    out, _, png = shell("invert", "given.png", "--steps", 3, "--starts", 1, "--latents", "found")
    assert "given.png: " in out
    assert " dB" in out
    assert png.size == (2 * 18 + 2, 14 + 18 + 2)
    assert np.load("found.npy").shape == (1, 8)
    assert "no file" in shell("invert", "missing.png")[1]


def test_shell_sweep(shell):
    model = tiny("infogan")
    height, width = model.batch_spec["images"].shape[:2]
    for more in ([], ["--code", 1]):
        _, _, png = shell("sweep", "--columns", 3, "--labels", "1,0", *more, model=model)
        assert png.size == (3 * (width + 2) + 2, 2 * (height + 2) + 2)
    assert "no labels" in shell("sweep")[1]
    assert "has no latents" in shell("sweep", model=tiny("pix2pix"))[1]
