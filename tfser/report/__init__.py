"""Tables and figures: from a sweep's final trials to the files under ``results/<sweep>/`` and to the terminal.

Reads no ledger and no MLflow; trains and selects nothing. ``result`` says what goes in, ``tables.write`` and
``terminal.show`` are what comes out.
"""
