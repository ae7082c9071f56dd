// Another program that changes a table of nftables in the moment after this agent has loaded it, before its next command.
import type { Run } from '../../../src/io/host/ports.ts'

/** Returns `run`, which runs `nft` with these arguments once, right after the first text that makes the table. */
export function changedAfterLoad(run: Run, table: string, change: readonly string[]): Run {
  let isDone = false
  return async (tool, args, options) => {
    const result = await run(tool, args, options)
    if (isDone || tool !== 'nft' || options?.stdin?.includes(`table inet ${table} {`) !== true) return result
    isDone = true
    await run('nft', change)
    return result
  }
}
