"""Tables and figures: from a sweep's final trials to the files under ``results/<sweep>/`` and to the terminal.

Nothing here reads a ledger or MLflow, trains, or selects. The input is in ``result``; the outputs are ``tables.write``
and ``terminal.show``.
"""
