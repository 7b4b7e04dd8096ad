"""The native part: convolutions by oneDNN, called by XLA. fnn works without it, slower."""
