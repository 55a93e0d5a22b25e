package nowhere // want "package internal/nowhere has no rank"
