"""Train from a config: ``python train.py configs/digits_cnn.yaml [dotted.key=value ...] [--out DIR]``."""

from fnn.cli import train_script

if __name__ == "__main__":
    train_script()
