#!/bin/sh
# Exports the two networks of the page into models/. Needs tf_gan_zoo with its litert extra on the PATH.
set -eu
cd "$(dirname "$0")"
for model in "dcgan.fashion_mnist" "pix2pix.emoji --image-size 64"; do
    # shellcheck disable=SC2086  # a name and its options
    tf-gan-zoo export $model --format litert --quantize float16 --batch-size 1 --out models
done
