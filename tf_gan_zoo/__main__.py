"""`python -m tf_gan_zoo` is the program `tf-gan-zoo`."""

from tf_gan_zoo.cli import main

if __name__ == "__main__":
    main()
