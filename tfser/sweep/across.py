"""Makes one database of all that a sweep names, where whole corpora are held out."""

from __future__ import annotations

from collections.abc import Mapping

from tfser.databases import KNOWN, emotion_map
from tfser.databases.base import Database
from tfser.databases.combined import combined
from tfser.errors import RequestError
from tfser.features.store import refuse_shared
from tfser.sweep.options import Options

SOURCE = "tfser sweep"
"""What an error is about that is about the command line."""


def one_of_several(
    options: Options, databases: dict[str, Database], audio: dict[str, Mapping[str, str]]
) -> tuple[dict[str, Database], dict[str, Mapping[str, str]]]:
    """Return the databases that are trained on: those given, or one made of all for --protocol corpus.

    Args:
        options: the command line.
        databases: those that could be loaded, by name.
        audio: name to the content digest of each utterance, by its id.

    Raises:
        RequestError: options that make no sense together, every problem of the file of emotions, or the same audio
            under two speakers.
    """
    if options.protocol != "corpus":
        if options.emotions is None:
            return databases, audio
        what_to_do = "add --protocol corpus, or leave it out"
        why = "it gives several databases common emotions for --protocol corpus"
        raise RequestError(SOURCE, [f"--emotions: {why}; {what_to_do}"])
    asked = len(dict.fromkeys(options.databases))
    if asked < 2:
        why = "it trains on all databases but one, and tests on that one"
        raise RequestError(SOURCE, [f"--protocol corpus: {why}; name two or more"])
    if len(databases) < asked:
        return {}, {}  # what is wrong with the others is said elsewhere
    each, file = list(databases.values()), options.emotions
    emotions = emotion_map.usual(each) if file is None else emotion_map.read(file, each, list(KNOWN))
    whole = combined(each, emotions)
    digests = {u.id: audio[str(u.corpus)][whole.originals[u.id].id] for u in whole.utterances}
    refuse_shared(whole, digests)
    return {whole.name: whole}, {whole.name: digests}
