"""The project's performance figures, as ratios between variants timed in turn in one run: ``python -m tfser.benchmark``.

A machine's speed changes from minute to minute, and between machines even more, so no figure here is a time alone: what
is measured and what it is compared with take turns, and the median of the ratios counts. ``figures`` says what a figure
is, ``command`` prints them, every other module measures some. To add figures, write a module with ``measure`` and put
it into ``command.MEASURES``. A module imports what it needs and nothing more, so that those about training run where
only torch, torchaudio, NumPy and soundfile are installed.
"""
