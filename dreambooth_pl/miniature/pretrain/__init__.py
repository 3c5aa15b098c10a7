"""Trains the embedded base from nothing but drawn pictures: `python -m dreambooth_pl.miniature.pretrain`."""
