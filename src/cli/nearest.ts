// The known word that a mistyped one was meant to be.

/** Of the words with the fewest edits (Levenshtein 1966) the first; undefined when more than a third of the letters would change. */
export function nearestOf(word: string, known: readonly string[]): string | undefined {
  const rated = known.map((candidate) => ({ candidate, edits: editsBetween(word, candidate) }))
  const [best] = rated.toSorted((a, b) => a.edits - b.edits)
  if (best === undefined) return undefined
  return best.edits <= Math.max(1, Math.ceil(Math.max(word.length, best.candidate.length) / 3))
    ? best.candidate
    : undefined
}

function editsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (const [i, letter] of Array.from(a).entries()) {
    const next = [i + 1]
    for (const [j, other] of Array.from(b).entries()) {
      const change = (row[j] ?? 0) + (letter === other ? 0 : 1)
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
