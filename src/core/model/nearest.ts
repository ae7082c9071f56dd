// The known word that a mistyped one was most likely meant to be.

/** Of `known`, the nearest to `word` by edits; undefined when none is near enough to be meant. Capitals and "_" count as "-". */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const meant = plain(word.slice(0, WORD_CHARACTERS_MAX))
  const ranked = known
    .map((candidate) => ({ candidate, edits: edits(meant, plain(candidate)) }))
    .sort((a, b) => a.edits - b.edits)
  const [first] = ranked
  if (first !== undefined && first.edits <= Math.max(2, Math.floor(meant.length / 3))) return first.candidate
  // "dns" for "dns-listen": the beginning of exactly one, or of several, of which the first in order.
  return meant.length < 2 ? undefined : known.find((candidate) => plain(candidate).startsWith(meant))
}

// Longer than any setting or command; the cost grows with the product of the lengths.
const WORD_CHARACTERS_MAX = 64

function plain(word: string): string {
  return word.toLowerCase().replaceAll('_', '-')
}

/** Levenshtein distance. */
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
