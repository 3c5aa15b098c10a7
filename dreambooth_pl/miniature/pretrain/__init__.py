"""Trains the embedded base on drawn pictures: `python -m dreambooth_pl.miniature.pretrain`."""
