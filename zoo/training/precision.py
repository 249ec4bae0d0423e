"""The precision that the hardware has instructions for."""

import torch


def suited_precision(precision: str, accelerator: str) -> str:
    """What a recipe asks for, or `32-true` for bfloat16 that would be emulated.

    On a CPU without its instructions a step takes up to 30 times as long in bfloat16.

    Args:
        precision: As Lightning names it, such as `bf16-mixed`.
        accelerator: Likewise; `auto` is a GPU where there is one, and else the CPU.
    """
    asked = precision.startswith("bf16")
    return "32-true" if asked and not _has_bfloat16(accelerator) else precision


def _has_bfloat16(accelerator: str) -> bool:
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator != "cpu" and (accelerator != "auto" or torch.accelerator.is_available()):
        return True
    return torch.backends.mkldnn.is_available() and bool(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
