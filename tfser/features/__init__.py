"""Feature sets: what models read, extracted once per audio content, kept in packs, cut into segments."""
