"""A newcomer's questions: the name of one file answers each, and the answer is only there."""

from __future__ import annotations

from pathlib import Path

import pytest

import dreambooth_pl

PACKAGE = Path(dreambooth_pl.__file__).parent
QUESTIONS = {
    # question: file, and what it defines
    "How is a timestep weighted by min-SNR?": ("bases/objectives.py", "def min_snr_weight"),
    "What does flow matching predict?": ("bases/objectives.py", "class FlowMatching"),
    "Where is offset noise?": ("training/noise.py", "def sample_noise"),
    "What is the loss?": ("training/losses.py", "def combine_losses"),
    "What happens in a training step?": ("training/module.py", "def training_step"),
    "Which optimiser is it?": ("training/optimizers.py", "def make_optimizer"),
    "What must a checkpoint agree with?": ("training/checkpoint.py", "def check_contract"),
    "How is a negative prompt encoded?": ("bases/base.py", "def encode_negative"),
    "Where do SDXL's time ids come from?": ("bases/families/stable_diffusion_xl.py", '"time_ids"'),
    "What is particular to Stable Diffusion 3?": (
        "bases/families/stable_diffusion_3.py",
        "class StableDiffusion3",
    ),
    "How is a base known again?": ("bases/fingerprint.py", "def fingerprint(\n    family"),
    "What does an image's PNG say?": ("files/png_metadata.py", "def save_png"),
    "Which settings does an image record?": ("sampling/image_metadata.py", "def image_metadata"),
    "How does an image come out?": ("sampling/generation.py", "def generate("),
    "How many images at once?": ("sampling/batch_size.py", "def best_batch_size"),
    "What does the LoRA scale do?": ("adapters/strength.py", "def adapter_scale"),
    "Which layers are adapted?": ("adapters/targets.py", "def target_names"),
    "Where are class images cached?": ("data/class_images.py", "def ensure_class_images"),
    "In which order are photos shown?": ("data/sample_order.py", "class SampleOrder"),
    "How are masks read?": ("data/masks.py", "def find_masks"),
    "By which rule is the best checkpoint chosen?": (
        "training/best_checkpoint.py",
        "def balance(scores",
    ),
    "What is a metric's formula?": ("metrics/functional.py", "def subject_fidelity"),
    "Which metrics are there?": ("metrics/scores.py", "class Score:"),
    "How is an interval computed?": ("evaluation/bootstrap.py", "def bootstrap_interval"),
    "Which prompts does a protocol have?": ("evaluation/protocols.py", "def make_plan"),
    "How is a file written whole?": ("files/atomic.py", "def atomic_path"),
    "How is kohya's file named inside?": ("export/kohya.py", "def kohya_weights"),
    "Which words are rare?": ("identifiers/rare_tokens.py", "def rare_words"),
}
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py")
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_file_answers(question: str) -> None:
    file, answer = QUESTIONS[question]
    found = [name for name, text in SOURCES.items() if answer in text]
    assert found == [file]
