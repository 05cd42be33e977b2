"""dmf: train, sample and score image diffusion models; every part is a plugin."""

if __name__ != "dmf":  # the checkout folder is not the package's name
    raise ImportError(f"this package is dmf, not {__name__}: `pip install .`, then `import dmf`")

__version__ = "0.1.0"
