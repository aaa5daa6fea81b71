"""What this machine or cluster can run, and what is unsafe about it: ``python -m tfser.doctor``.

``probe`` gathers the facts of one machine and travels to every node of a cluster. ``cluster``, ``doors``, ``machine``
and ``places`` turn facts into findings, and ``command`` prints them. A missing package is a finding, so nothing here
needs more than torch, torchaudio, numpy and soundfile.
"""
