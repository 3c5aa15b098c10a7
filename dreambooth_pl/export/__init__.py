"""Exports of a run for other tools: diffusers, kohya and PEFT layouts, and a merged model."""
