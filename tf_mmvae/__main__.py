"""python -m tf_mmvae: the command `tf-mmvae`."""

from tf_mmvae.cli.main import main

if __name__ == "__main__":
  main()
