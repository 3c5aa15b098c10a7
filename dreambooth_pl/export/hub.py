"""Upload of an export to the Hugging Face Hub (`--push-to-hub`)."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from dreambooth_pl.errors import UserError

_HUB_ERRORS = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError)


def check_hub(repository: str) -> None:
    """Check that the user is logged in and that the hub answers. Uploads nothing.

    Args:
        repository: `OWNER/NAME`.

    Raises:
        UserError: the name has another form, nobody is logged in, or the hub does not answer.
    """
    if repository.count("/") != 1:
        raise UserError(f"--push-to-hub: {repository!r} is not of the form OWNER/NAME.")
    try:
        HfApi().whoami()
    except _HUB_ERRORS as error:
        raise UserError(f"--push-to-hub: {_reason(error)}") from error


def push(folder: Path, repository: str) -> str:
    """Upload the files of a folder, and create a private repository if there is none.

    Args:
        folder: what to upload. It stays as it is, also after an error.
        repository: `OWNER/NAME`.

    Returns:
        The repository's address.

    Raises:
        UserError: the hub cannot be reached, or it refuses.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except _HUB_ERRORS as error:
        raise UserError(f"--push-to-hub: {_reason(error)} The export is in {folder}.") from error
    return str(address)


def _reason(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        return "you are not logged in to the Hugging Face Hub; run hf auth login."
    if status is not None or isinstance(error, HFValidationError):
        return f"the hub refuses: {text}"
    return f"the Hugging Face Hub cannot be reached: {text}"
