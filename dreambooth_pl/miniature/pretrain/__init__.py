"""Train the embedded base on rendered pictures: `python -m dreambooth_pl.miniature.pretrain`."""
