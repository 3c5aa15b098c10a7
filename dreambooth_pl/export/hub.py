"""Uploading an export to the Hugging Face Hub, when asked."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from dreambooth_pl.errors import UserError

_KINDS = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError)


def check_hub(repository: str) -> None:
    """Raise UserError unless someone is logged in and the hub answers. Uploads nothing."""
    if repository.count("/") != 1:
        raise UserError(f"--push-to-hub: {repository!r} is not of the form OWNER/NAME.")
    try:
        HfApi().whoami()
    except _KINDS as error:
        raise UserError(f"--push-to-hub: {_reason(error)}") from error


def push(folder: Path, repository: str) -> str:
    """Upload a folder's files; make the repository, private, where there is none.

    Returns its address.

    Raises:
        UserError: the hub is not to be reached or says no. The folder stays as it is.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except _KINDS as error:
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
