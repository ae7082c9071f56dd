// Finds out what nft will list of a table before the table is loaded. A table of ours carries the digest of that listing
// in its mark (nft-listing.ts), and the mark is part of the transaction that makes the table.
// Invariant: the digest never comes from a listing of the table itself. Another program may change that table between
// the transaction and the listing, and its change would then be taken for ours for good.
import type { Run } from '../ports.ts'
import { HostError } from '../errors.ts'
import { PADDING, parseListing } from './nft-listing.ts'

/** Returns the digest (NftListing `shape`) of a table with this text. Errors: HostError of nft. */
type ShapeOf = (text: string, signal: AbortSignal) => Promise<string>

/**
 * Returns a function that loads a text under another name, as a dormant table that no packet passes, lists it and
 * removes it. The last result is kept, so that a text is loaded once. Elements of sets are not part of a shape and are
 * left out. `table`: the name of the table in the texts, which begin with "table inet <name> {".
 */
export function createShapeOf(run: Run, table: string): ShapeOf {
  let last: { readonly text: string; readonly shape: string } | undefined
  const copy = copyOf(table)
  return async (text, signal) => {
    const bare = text.replaceAll(/^ *elements = .*\n/gm, '')
    if (last?.text === bare) return last.shape
    const load = (commands: string) => run('nft', ['-f', '-'], { stdin: commands, stdinAsFile: true, signal })
    const shapeWith = async (padding: number): Promise<string> => {
      const head = `table inet ${copy} {\n  flags dormant;${paddingOf(padding)}`
      const dormant = bare.replace(`table inet ${table} {`, () => head)
      await load(`${removalOf(copy)}${dormant}`)
      try {
        const { stdout } = await run('nft', ['-j', '-t', 'list', 'table', 'inet', copy], { signal })
        return parseListing(stdout, { isDormantCopy: true }).shape
      } finally {
        // A copy that stays is dormant, and the next load or clean-up removes it.
        await load(removalOf(copy)).catch(() => undefined)
      }
    }
    // nft 1.0.6 prints the flag `dormant` from memory that it has freed. What is there by then depends on the objects of the
    // table, and where it is nothing that can be printed, the output ends. Further empty sets change that.
    for (const padding of PADDINGS) {
      const shape = await shapeWith(padding).catch((error: unknown) => {
        if (padding === PADDINGS.at(-1) || !isCutOff(error)) throw error
      })
      if (shape === undefined) continue
      last = { text: bare, shape }
      return shape
    }
    throw new Error('the last padding has neither a shape nor an error')
  }
}

/** Numbers of empty sets, for one attempt each. */
const PADDINGS = [0, 2, 3, 5, 9] as const

function paddingOf(count: number): string {
  return Array.from({ length: count }, (_, n) => `\n  set ${PADDING}${n} {\n    type mark\n  }`).join('')
}

/** Whether nft has ended with success, but its output cannot be parsed. */
function isCutOff(error: unknown): boolean {
  return error instanceof HostError && error.cause instanceof SyntaxError
}

/** Returns the text that removes the table and its copy. nft 1.0.6 refuses to delete what does not exist, so it adds. */
export function removalWithCopy(table: string): string {
  return `${removalOf(table)}${removalOf(copyOf(table))}`
}

/** Returns the text that removes the table, whether it exists or not. */
export function removalOf(table: string): string {
  return `add table inet ${table}\ndelete table inet ${table}\n`
}

function copyOf(table: string): string {
  return `${table}-copy`
}
