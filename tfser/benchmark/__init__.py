"""Performance figures, as ratios between variants measured in turn in one run: ``python -m tfser.benchmark``.

A machine's speed changes from minute to minute, and from machine to machine even more, so no figure is a time alone:
value and baseline take turns, and the median of their ratios counts. ``figures`` defines a figure, ``command`` prints
them, and every other module measures some. To add figures, write a module with ``measure``, which returns or yields
them, and put it into ``command.MEASURES``. A module imports only what it needs, so that those about training run where
only torch, torchaudio, NumPy and soundfile are installed.
"""
