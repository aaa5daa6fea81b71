"""Log-mel frames: extracted once per audio content, kept in packs, cut into segments."""
