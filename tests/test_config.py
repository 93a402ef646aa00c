"""Configs, recipes and names: what is refused, and in which words."""

import ast
from pathlib import Path

import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import registry
from tf_gan_zoo.config import ConfigError, load_yaml, parse_settings
from tf_gan_zoo.models.dcgan import DCGANConfig

PACKAGE = Path(zoo.__file__).parent


def test_unknown_and_ill_typed_fields_are_named_with_the_valid_ones():
    with pytest.raises(ConfigError, match="'imagesize'. Did you mean 'image_size'.*Valid fields: data,"):
        zoo.get("dcgan", imagesize=32)
    for field, value in [
        ("batch_size", "many"), ("batch_size", 0), ("batch_size", True), ("image_size", [1, 2, 3]),
        ("learning_rate", -1.0), ("channels", 2), ("seed", -1), ("precision", "float8"), ("beta_1", 1.5),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=f"DCGANConfig.{field}: .*Valid fields: data,"):
            zoo.get("dcgan", **{field: value})
    with pytest.raises(ConfigError, match="image_size: 7 cannot be halved"):
        DCGANConfig(image_size=7)


def test_unknown_names_show_the_closest():
    with pytest.raises(registry.UnknownNameError, match="no model named 'dcgn'. Did you mean 'dcgan'"):
        zoo.get("dcgn")
    with pytest.raises(registry.UnknownNameError, match="'dcgan.glyph'. Did you mean 'dcgan.glyphs'"):
        zoo.get("dcgan.glyph")
    with pytest.raises(ValueError, match="unknown task 'generaton'. Did you mean 'generation'"):
        zoo.list_models("generaton")
    with pytest.raises(ValueError, match="unknown strategy 'both'"):
        zoo.strategy("both")


def test_sizes_may_be_tuples_lists_and_not_square():
    assert DCGANConfig.from_dict({"image_size": [32, 48]}).base_size == (4, 6)
    assert DCGANConfig(image_size=28).base_size == (7, 7)
    assert zoo.get("dcgan", image_size=(16, 32), width=4).generate(1).shape == (1, 16, 32, 3)


def test_config_round_trips_through_plain_values():
    config = DCGANConfig(image_size=(32, 64), data_options={"flip": True})
    assert DCGANConfig.from_dict(config.to_dict()) == config


def test_settings_are_read_as_yaml(tmp_path):
    settings = parse_settings(["epochs=2", "learning_rate=1e-4", "image_size=[32, 48]", "precision=float32"])
    assert settings == {"epochs": 2, "learning_rate": 1e-4, "image_size": [32, 48], "precision": "float32"}
    with pytest.raises(ConfigError, match="expected NAME=VALUE, got 'epochs'"):
        parse_settings(["epochs"])
    with pytest.raises(ConfigError, match="data_options: .* is not a value"):
        parse_settings(["data_options={strict: true"])
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_yaml(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(tmp_path / "bad.yaml")


def test_every_recipe_resolves():
    from tf_gan_zoo.zoo import resolve

    assert len(zoo.list_recipes()) >= 1
    for recipe in zoo.list_recipes():
        spec, config = resolve(recipe)
        assert recipe.startswith(f"{spec.name}.")
        assert isinstance(config, spec.config_cls)


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="the name 'dcgan' is taken by DCGAN"):
        registry.register("dcgan", task="generation", paper=zoo.info("dcgan").paper)(type("Other", (), {}))
    with pytest.raises(ValueError, match="unknown task 'painting'"):
        registry.register("new", task="painting", paper=None)


LEVELS = [
    {"_quiet", "accumulation", "batch_spec", "chains", "random", "layers", "losses", "penalties", "schedules"}
    | {"cards", "config", "data", "fetch", "metrics", "music", "npz", "optimizers", "published", "replicas"}
    | {"bodies", "detection", "scenes", "sequences", "shape_files", "shapes", "skeletons", "tiling"}
    | {"checkpoints", "files", "image_files", "image_writing", "locks", "paths", "picture_names", "pixels"},
    {"networks", "captioned", "conditional", "encoding", "endpoints", "fitting", "gan", "perceptual"}
    | {"batch_check", "fit_sources", "player_optimizers", "registry", "replacing", "run_length", "segments"}
    | {"sizing", "upscaling"},
    {"models"},
    {"weights", "distribution", "zoo", "callbacks", "pictures", "present", "latents"},
    {"train", "conversion", "evaluation", "evaluation_callback", "export"},
    {"cli", "cli_latents", "cli_options", "cli_pictures", "__main__"},
]


def test_imports_point_one_way():
    """No module imports, at its top, one of a higher level."""
    level_of = {name: level for level, names in enumerate(LEVELS) for name in names}
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tf_gan_zoo"):
                parts = node.module.split(".")
                targets = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
                for target in targets:
                    assert level_of[target] <= level_of[module], f"{path} imports {target}"
