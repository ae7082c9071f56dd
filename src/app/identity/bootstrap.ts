// Chooses the members that a token names. A cluster that joins dials them first, so the token should work while one of
// them is down.
import type { ClusterName } from '../../core/model/values.ts'
import { AppError } from '../observe/errors.ts'

// A token names at most six members, so that it fits a line that a person can paste.
const BOOTSTRAP_MAX = 6

/**
 * Returns up to six multiaddrs, taken in turn from each cluster: the first address of every cluster, then the second of
 * every cluster, and so on. The order of `known` is kept, so the inviting cluster's address comes first.
 * `wanted`: names of clusters to choose from; empty means all.
 *
 * Errors: AppError BAD_ARGUMENT for a name that is no member, or when none of the chosen clusters has an address.
 */
export function chooseBootstrap(
  wanted: readonly string[],
  known: ReadonlyMap<ClusterName, readonly string[]>
): string[] {
  for (const name of wanted) {
    if (!known.has(name as ClusterName)) {
      throw new AppError(
        'BAD_ARGUMENT',
        `bootstrap: ${name} is not a cluster of this mesh`,
        `name clusters of this list: ${[...known.keys()].join(', ')}`
      )
    }
  }
  const chosen = [...known].filter(([name]) => wanted.length === 0 || wanted.includes(name))
  const result = inTurn(new Map(chosen)).slice(0, BOOTSTRAP_MAX)
  if (result.length === 0) {
    throw new AppError(
      'BAD_ARGUMENT',
      'bootstrap: none of these agents can be dialled from outside',
      'set `announce` of this agent to an address that newcomers can reach'
    )
  }
  return result
}

/**
 * All addresses: the first one of every cluster or agent, then the second of every one, and so on. So the first few are of
 * different ones.
 */
export function inTurn(known: ReadonlyMap<unknown, readonly string[]>): readonly string[] {
  const lists = [...known.values()]
  const rounds = Math.max(0, ...lists.map(({ length }) => length))
  return Array.from({ length: rounds }, (_, round) =>
    lists.flatMap((addresses) => addresses[round] ?? [])
  ).flat()
}
