"""Where to compute."""

import torch

__all__ = ["resolve_device"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device behind an option; "auto" takes a GPU when there is one.

    Raises
    ------
    ValueError
        If torch does not know the device or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]}). Use 'auto', "
            "'cpu', or a device of this machine such as 'cuda'."
        ) from error
    return resolved
