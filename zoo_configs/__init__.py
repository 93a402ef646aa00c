"""Training recipes, one YAML file each: MODEL.DATASET.yaml overrides fields of the model's config."""
