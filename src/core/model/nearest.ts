// The known word that a mistyped word most likely means, for the "did you mean" of settings, commands and kinds of
// objects.

/**
 * The word of `known` with the fewest edits to `word`; undefined when even that one is too different. Capitals and
 * "_" count as "-".
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const meant = plain(word.slice(0, WORD_CHARACTERS_MAX))
  const ranked = known
    .map((candidate) => ({ candidate, edits: edits(meant, plain(candidate)) }))
    .sort((a, b) => a.edits - b.edits)
  const [first] = ranked
  // At most a third of the letters may differ, or two letters of a short word.
  if (first !== undefined && first.edits <= Math.max(2, Math.floor(meant.length / 3))) return first.candidate
  // "dns" for "dns-listen": the first word of the list that begins with it.
  return meant.length < 2 ? undefined : known.find((candidate) => plain(candidate).startsWith(meant))
}

// The cost grows with the product of the two lengths. The bound is longer than any setting or command.
const WORD_CHARACTERS_MAX = 64

function plain(word: string): string {
  return word.toLowerCase().replaceAll('_', '-')
}

/** The Levenshtein distance: insertions, deletions and replacements of one character. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
