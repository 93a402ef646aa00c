"""Sizes and channels other than the defaults, in Python and in the shell: what belongs together follows."""

import numpy as np
import pytest
from conftest import tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo import train
from tf_gan_zoo.config import ConfigError, height_width, parse_settings
from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset, opening
from tf_gan_zoo.zoo import resolve

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six pairs of 40x40 noise, both in color."""
    folder = tmp_path_factory.mktemp("pairs")
    for half in "AB":
        (folder / half).mkdir()
        for k in range(6):
            Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / half / f"{k}.png")
    return folder


def window_and_load_size(name, **overrides):
    """`image_size`, and the size from which training cuts windows of it."""
    spec, config = resolve(name, overrides)
    shared, _ = opening._split_options(config.data, spec.cls.view, config.data_options)
    size = height_width(config.image_size)
    return size, opening._load_size(size, shared)


def test_load_sizes_follow_image_sizes_in_every_model_and_recipe():
    """Nothing is given in pixels that another image_size would leave behind."""
    followed = 0
    for name in [*zoo.list_models(), *zoo.list_recipes()]:
        _, config = resolve(name)
        if not {"load_size", "load_scale"} & set(config.data_options):
            continue
        size, load = window_and_load_size(name)
        double, double_load = window_and_load_size(name, image_size=tuple(2 * side for side in size))
        assert double == tuple(2 * side for side in size)
        np.testing.assert_allclose(double_load, 2 * np.array(load), atol=1.01)
        followed += 1
    assert followed >= 18


@pytest.mark.parametrize("name, loaded", [
    ("pix2pix", 286), ("cyclegan", 286), ("cyclegan.cityscapes", 143), ("bigan.imagenet2012", 72),
    ("enhancenet.coco", 256), ("dr_gan.multi_pie", 100), ("gan_cls.birds", 76), ("stackgan.flowers", 304),
    ("pix2pix.emoji", 72), ("gan_cls.emoji", 34), ("stackgan.emoji", 68), ("pix2pix.night2day", 286),
])  # fmt: skip
def test_load_scales_give_the_papers_pixels(name, loaded):
    assert window_and_load_size(name)[1] == (loaded, loaded)


def test_load_sizes_that_cannot_be(pairs):
    for options, message in (
        ({"image_size": 512, "load_size": 286}, "load_scale instead, which follows image_size"),
        ({"image_size": 16, "load_size": 20, "load_scale": 1.25}, "say the same twice"),
        ({"image_size": 16, "load_scale": 0.5}, "number from 1 to 16, got 0.5"),
        ({"load_scale": 2}, "need image_size"),
    ):
        with pytest.raises(DatasetError, match=message):
            open_dataset(f"paired:{pairs}", view="paired", **options)


# -------------------------------------------------------------------- channels


def test_fields_have_their_own_channels(pairs):
    address = f"paired:{pairs}"
    options = {"view": "paired", "batch_size": 2, "split": "all", "shuffle": False, "value_range": (0, 255)}
    for channels in ({"inputs": 1, "targets": 3}, {"inputs": 3, "targets": 1}):
        for cache in (True, False):
            pipeline = open_dataset(address, channels=channels, cache=cache, **options)
            batch = next(iter(pipeline.dataset()))
            for field, half in (("inputs", "A"), ("targets", "B")):
                assert pipeline.fields[field].shape == (2, 40, 40, channels[field])
                with Image.open(pairs / half / "0.png") as image:
                    expected = np.asarray(image.convert("RGB" if channels[field] == 3 else "L"), "float32")
                np.testing.assert_allclose(batch[field][0], expected.reshape(40, 40, -1), atol=1e-3)
    assert open_dataset(address, channels={"inputs": 1, "targets": 1}, **options).plan.channels == 1
    with pytest.raises(DatasetError, match=r"number for each of \['inputs', 'targets'\]"):
        open_dataset(address, channels={"inputs": 1, "b": 3}, **options)
    with pytest.raises(DatasetError, match="channels must be one of"):
        open_dataset(address, channels={"inputs": 4, "targets": 3}, **options)
    (batch,) = load_dataset("glyphs", view="paired", channels={"inputs": 1, "targets": 3}, batch_size=4,
                            image_size=8, num_examples=4)  # fmt: skip
    assert batch["inputs"].shape == (4, 8, 8, 1)
    assert batch["targets"].shape == (4, 8, 8, 3)


@pytest.mark.parametrize("view", ["triplets", "unpaired"])
def test_other_views_have_channels_by_field(pairs, view):
    channels = {"triplets": {"inputs": 1, "targets": 3}, "unpaired": {"images_a": 1, "images_b": 3}}[view]
    (batch, *_) = load_dataset(f"paired:{pairs}", view=view, batch_size=2, channels=channels, split="all")
    assert [batch[field].shape[-1] for field in list(channels)] == [1, 3]
    assert view == "unpaired" or batch["irrelevant"].shape[-1] == 3


@pytest.mark.parametrize("name", ["pix2pix", "pixeldtgan"])
def test_models_name_their_channels(name):
    model = tiny(name, input_channels=1, channels=3, image_size=16)
    keywords = train._picture_keywords(model.batch_spec)
    assert keywords["channels"]["inputs"] == 1
    assert keywords["channels"]["targets"] == 3
    assert model.translate(np.zeros((1, 16, 16, 1), "float32")).shape == (1, 16, 16, 3)


def test_gray_to_color_in_another_size_as_from_the_shell(pairs):
    """What failed before: another size than the default load size allows, and two numbers of channels."""
    settings = parse_settings(["image_size=512", "input_channels=1"])
    spec, config = resolve("pix2pix", {**settings, "data": f"paired:{pairs}"})
    assert train.open_pipeline(train.unbuilt(spec.cls, config)).fields["inputs"].shape == (1, 512, 512, 1)
    settings |= parse_settings(["image_size=32", "max_depth=3", "width=2", "patch_size=16"])
    model = zoo.get("pix2pix", data=f"paired:{pairs}", **settings)
    model.compile(run_eagerly=True)
    history = model.fit(train.open_pipeline(model).dataset(), steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["l1_loss"]).all()


def test_sizes_that_a_network_cannot_take_are_config_errors():
    with pytest.raises(ConfigError, match="Choose one of these, or None"):
        resolve("sagan", {"image_size": 64})
